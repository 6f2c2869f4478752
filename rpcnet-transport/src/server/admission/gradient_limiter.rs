//! Gradient limiter: finds the concurrency limit from measured latencies. Pure.

use std::time::Duration;

/// Finds the concurrency up to which more calls at a time do not slow each other down.
///
/// It compares the latency of calls at the limit with their latency at half of it, which it tries
/// now and then for one window (the probe). At a limit below the knee both are the same and the
/// limit grows, by about half its root each window; past the knee calls take longer in proportion,
/// and the limit shrinks in proportion: `limit * 1.1 * probed / measured`, at most by half. So it
/// settles a little above the knee. The shape is that of Netflix's gradient limit
/// (concurrency-limits, 2018), with a probed instead of a smallest latency: it follows when
/// handlers become slower by themselves, and does not drift.
///
/// Windows count calls and have a least length, so that neither a burst nor one slow call moves the
/// limit. While less than half of the limit is used, only the latency is learnt.
#[derive(Debug, Clone)]
pub(super) struct GradientLimiter {
    floor: f64,
    ceiling: f64,
    limit: f64,
    /// Mean latency at half of the limit or less, in seconds.
    baseline: Option<f64>,
    phase: Phase,
    window: Window,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// `left`: windows until the next probe. `slow`: windows in a row in which calls took much
    /// longer than the baseline.
    Steady { left: u32, slow: u32 },
    /// `began`: calls that began earlier do not belong to the probe.
    Probing { began: Duration },
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: Option<Duration>,
    calls: u32,
    seconds: f64,
    running_max: usize,
}

/// Measurement of one call that ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) began: Duration,
    pub(super) ended: Duration,
    /// The call ended with a reply. Failures may be quick for reasons of their own.
    pub(super) succeeded: bool,
    /// Calls that ran when the call ended, including it.
    pub(super) running: usize,
}

impl GradientLimiter {
    /// A limiter with these bounds.
    pub(super) fn new(floor: usize, ceiling: usize) -> Self {
        let (floor, ceiling) = (floor.max(1) as f64, ceiling.max(floor).max(1) as f64);
        Self {
            floor,
            ceiling,
            limit: INITIAL.clamp(floor, ceiling),
            baseline: None,
            phase: Phase::Steady {
                left: FIRST_PROBE_AFTER,
                slow: 0,
            },
            window: Window::default(),
        }
    }

    /// Calls that may run at a time now.
    pub(super) fn limit(&self) -> usize {
        let limit = match self.phase {
            Phase::Steady { .. } => self.limit,
            Phase::Probing { .. } => (self.limit / 2.0).max(self.floor),
        };
        limit as usize
    }

    /// Records a call that has ended.
    pub(super) fn on_end(&mut self, sample: Sample) {
        let took = sample.ended.saturating_sub(sample.began).as_secs_f64();
        if !sample.succeeded && self.baseline.is_none_or(|baseline| took < baseline) {
            return;
        }
        if matches!(self.phase, Phase::Probing { began } if sample.began < began) {
            return;
        }
        let window = &mut self.window;
        let began = *window.began.get_or_insert(sample.ended);
        window.calls += 1;
        window.seconds += took;
        window.running_max = window.running_max.max(sample.running);
        let length = sample.ended.saturating_sub(began);
        let wanted = (2.0 * self.limit).clamp(CALLS_MIN, CALLS_MAX);
        let is_over = length >= WINDOW_MIN && f64::from(window.calls) >= wanted
            || length >= WINDOW_MAX && f64::from(window.calls) >= SLOW_CALLS_MIN;
        if is_over {
            let window = std::mem::take(window);
            self.on_window(window, sample.ended);
        }
    }

    fn on_window(&mut self, window: Window, now: Duration) {
        let mean = (window.seconds / f64::from(window.calls)).max(f64::MIN_POSITIVE);
        match &mut self.phase {
            Phase::Probing { .. } => {
                self.baseline = Some(mean);
                self.phase = STEADY;
            }
            // There were too few calls to see an effect of the limit: this is their latency without
            // it.
            Phase::Steady { slow, .. } if 2 * window.running_max < self.limit as usize => {
                self.baseline = Some(mean);
                *slow = 0;
            }
            Phase::Steady { left, slow } => {
                let baseline = self.baseline.unwrap_or(mean).min(mean);
                self.baseline = Some(baseline);
                let gradient = (TOLERANCE * baseline / mean).clamp(0.5, 1.0);
                let wanted = self.limit * gradient + self.limit.sqrt() / 2.0;
                *slow = if gradient < SLOW_BELOW { *slow + 1 } else { 0 };
                *left = left.saturating_sub(1);
                let is_due = *left == 0 || *slow >= SLOW_WINDOWS;
                self.limit = f64::midpoint(self.limit, wanted).clamp(self.floor, self.ceiling);
                if is_due {
                    self.phase = Phase::Probing { began: now };
                }
            }
        }
    }
}

/// Initial limit.
const INITIAL: f64 = 32.0;

/// How much longer calls may take at the limit than at half of it before the limit shrinks.
const TOLERANCE: f64 = 1.1;

/// Windows between probes: half of the permits for one window in forty.
const STEADY: Phase = Phase::Steady { left: 40, slow: 0 };

/// Windows before the first probe, which has no baseline to compare with.
const FIRST_PROBE_AFTER: u32 = 2;

/// A gradient below this for so many windows in a row asks for a probe at once: perhaps all calls
/// take longer now.
const SLOW_BELOW: f64 = 0.75;
const SLOW_WINDOWS: u32 = 3;

const CALLS_MIN: f64 = 64.0;
const CALLS_MAX: f64 = 1024.0;
const WINDOW_MIN: Duration = Duration::from_millis(10);

/// Longest window. Slow calls need fewer samples.
const WINDOW_MAX: Duration = Duration::from_secs(1);
const SLOW_CALLS_MIN: f64 = 16.0;

#[cfg(test)]
mod tests;
