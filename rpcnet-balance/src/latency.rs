//! How long an endpoint takes to answer, as one atomic word.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::Time;

/// A peak-sensitive moving average (the rule of Finagle's `PeakEwma`): a slower answer counts at once, faster ones count
/// more and more as time passes. Without answers it fades, so that an endpoint that was slow is tried again; fading is
/// computed by whoever reads, not written.
///
/// The word holds nanoseconds as a float in the upper half, the time of the last change in ticks in the lower; zero before
/// the first answer.
#[derive(Debug)]
pub(crate) struct LatencyCell(AtomicU64);

impl LatencyCell {
    pub(crate) const fn empty() -> Self {
        Self(AtomicU64::new(0))
    }

    /// An answer that took so long.
    pub(crate) fn note(&self, now: Time, latency: Duration, decay: Decay) {
        let sample = nanos(latency);
        self.change(now, |before, at, now| {
            let kept = decay.kept(now, at);
            if sample >= before {
                sample
            } else {
                before * kept + sample * (1.0 - kept)
            }
        });
    }

    /// No answer, after so long: it would have taken at least that.
    pub(crate) fn note_at_least(&self, now: Time, latency: Duration, decay: Decay) {
        let sample = nanos(latency);
        self.change(now, |before, at, now| {
            if sample > before * decay.kept(now, at) {
                sample
            } else {
                before
            }
        });
    }

    /// Nanoseconds as they were noted, and what is left of them at `now`; zero before the first answer.
    #[inline]
    pub(crate) fn nanos(&self, now: Time, decay: Decay) -> (f32, f32) {
        let (noted, at) = unpack(self.0.load(Ordering::Relaxed));
        (noted, noted * decay.kept(ticks(now), at))
    }

    /// Replaces the value by what `next` makes of it, its time and the time now.
    fn change(&self, now: Time, next: impl Fn(f32, u32, u32) -> f32) {
        let now = ticks(now);
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (before, at) = unpack(word);
            let after = next(before, at, now);
            // Nothing new, or too small a step of time to count: leave the cache line alone.
            if after == before && word != 0 {
                return;
            }
            // Somebody with a later clock may have been quicker.
            let at = if word != 0 && is_after(at, now) {
                at
            } else {
                now
            };
            match self.0.compare_exchange_weak(
                word,
                pack(after, at),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }
}

/// How fast what was measured fades: to 1/e in the given time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decay {
    /// By how many powers of two in a tick.
    halvings_per_tick: f32,
}

impl Decay {
    /// To 1/e in `time`; at least a microsecond.
    pub(crate) fn over(time: Duration) -> Self {
        let ticks = time.max(Duration::from_micros(1)).as_nanos() as f64 / TICK_NANOS as f64;
        Self {
            halvings_per_tick: (std::f64::consts::LOG2_E / ticks) as f32,
        }
    }

    /// The part that is left at `now` of what was measured at `at`.
    #[inline]
    fn kept(self, now: u32, at: u32) -> f32 {
        let age = (now.wrapping_sub(at) as i32).max(0);
        half_to_the(age as f32 * self.halvings_per_tick)
    }
}

/// 2^-x for x >= 0, within 2 parts in 10,000.
#[inline]
fn half_to_the(x: f32) -> f32 {
    // What is left then is nothing, and still a number.
    let x = x.min(EXPONENT_MAX);
    let whole = x as u32;
    let part = x - whole as f32;
    // Exact at both ends, so that there is no step between one power and the next.
    let mantissa = 1.0 - 0.5 * part - part * (1.0 - part) * (FIT[0] - FIT[1] * part);
    f32::from_bits((127 - whole) << 23) * mantissa
}

/// Never zero, so that an answer is told from none, and even an instant one is weighed by the calls in flight.
fn nanos(latency: Duration) -> f32 {
    (latency.as_nanos() as f32).max(LATENCY_NANOS_MIN)
}

const fn ticks(time: Time) -> u32 {
    (time.as_nanos() / TICK_NANOS) as u32
}

/// Whether `a` is later than `b`. Ticks wrap around after 78 hours; what lies further back than half of that counts as just
/// noted.
const fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

const fn pack(latency: f32, at: u32) -> u64 {
    (latency.to_bits() as u64) << 32 | at as u64
}

const fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// Least squares of 2^-x on [0, 1].
const FIT: [f32; 2] = [0.191_363_1, 0.039_114_1];
const EXPONENT_MAX: f32 = 100.0;
const TICK_NANOS: u64 = 1 << 16;
const LATENCY_NANOS_MIN: f32 = 1000.0;

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    enum Noted {
        Answer(u64),
        NoAnswer(u64),
    }
    use Noted::{Answer, NoAnswer};

    /// Milliseconds noted at seconds, and what is read at the last second.
    fn check(noted: &[(u64, Noted)], read_s: u64, expected_ms: f32) {
        let (cell, decay) = (LatencyCell::empty(), Decay::over(DECAY));
        for (at, sample) in noted {
            let at = Time::from(Duration::from_secs(*at));
            match sample {
                Answer(ms) => cell.note(at, Duration::from_millis(*ms), decay),
                NoAnswer(ms) => cell.note_at_least(at, Duration::from_millis(*ms), decay),
            }
        }
        let read = cell.nanos(Time::from(Duration::from_secs(read_s)), decay).1 / 1e6;
        let tolerance = 0.001 * expected_ms + 1e-9;
        assert!(
            (read - expected_ms).abs() <= tolerance,
            "{read} instead of {expected_ms}"
        );
    }

    #[test]
    fn peaks_count_at_once_and_fade() {
        let e = (-1.0_f32).exp();
        check(&[], 0, 0.0);
        check(&[(1, Answer(10))], 1, 10.0);
        check(&[(1, Answer(10)), (1, Answer(50))], 1, 50.0);
        check(&[(1, Answer(50)), (1, Answer(10))], 1, 50.0);
        check(
            &[(1, Answer(50)), (11, Answer(10))],
            11,
            50.0 * e + 10.0 * (1.0 - e),
        );
        check(&[(1, Answer(50))], 11, 50.0 * e);
        check(&[(1, Answer(50))], 21, 50.0 * e * e);
        check(&[(1, Answer(50))], 3000, 0.0);
        // Clocks of two threads may differ a little.
        check(&[(2, Answer(50)), (1, Answer(10))], 2, 50.0);
    }

    #[test]
    fn without_an_answer_only_a_bound_is_known() {
        let e = (-1.0_f32).exp();
        check(&[(1, NoAnswer(10))], 1, 10.0);
        check(&[(1, Answer(50)), (1, NoAnswer(10))], 1, 50.0);
        check(&[(1, Answer(50)), (11, NoAnswer(10))], 11, 50.0 * e);
        check(&[(1, Answer(50)), (11, NoAnswer(30))], 11, 30.0);
        check(&[(1, Answer(50)), (11, NoAnswer(30))], 21, 30.0 * e);
    }

    #[test]
    fn the_approximation_is_close_and_falls_all_the_way() {
        let mut before = half_to_the(0.0);
        assert_eq!(before, 1.0);
        for step in 1..200_000 {
            let x = step as f32 * 0.001;
            let y = half_to_the(x);
            assert!(y <= before, "at {x}");
            let exact = (-x.min(EXPONENT_MAX)).exp2();
            assert!((y - exact).abs() <= 2e-4 * exact, "at {x}");
            before = y;
        }
    }

    #[test]
    fn the_shortest_answer_is_told_from_none() {
        let (cell, decay) = (LatencyCell::empty(), Decay::over(Duration::ZERO));
        cell.note(Time::ZERO, Duration::ZERO, decay);
        assert_eq!(cell.nanos(Time::ZERO, decay).1, LATENCY_NANOS_MIN);
        cell.note(Time::from_nanos(u64::MAX), Duration::MAX, decay);
        assert!(cell.nanos(Time::from_nanos(u64::MAX), decay).1.is_finite());
    }

    #[test]
    fn after_ticks_wrap_around_time_goes_on() {
        let (cell, decay) = (LatencyCell::empty(), Decay::over(DECAY));
        let wrap = (1 << 32) * TICK_NANOS;
        let second = 1_000_000_000;
        cell.note(
            Time::from_nanos(wrap - 5 * second),
            Duration::from_millis(50),
            decay,
        );
        let read = cell.nanos(Time::from_nanos(wrap + 5 * second), decay).1 / 1e6;
        assert!((read - 50.0 * (-1.0_f32).exp()).abs() < 0.05, "{read}");
    }
}
