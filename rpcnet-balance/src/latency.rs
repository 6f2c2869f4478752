//! Latency of an endpoint as a peak-sensitive moving average, in two atomics.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use crate::Time;

/// Peak-sensitive moving average (the rule of Finagle's `PeakEwma`): a slower answer counts at once, faster ones count
/// more and more as time passes. Without answers it fades, so that an endpoint that was slow is tried again; fading is
/// computed by the reader, not written.
///
/// The first answer is provisional: it often carries the connection set-up and cold caches, so the second one replaces it.
///
/// Two words, because one has no room for a time that never wraps around. The value is written before its time: a reader
/// between the two sees a new value that looks old, never an old one that looks new.
#[derive(Debug)]
pub(crate) struct LatencyCell<'a> {
    /// Nanoseconds as a float, negative while there is one answer only; zero before the first.
    pub(crate) value: &'a AtomicU32,
    /// Time of the last answer that counted, in nanoseconds.
    pub(crate) at: &'a AtomicU64,
}

/// What a [`LatencyCell`] says at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LatencyReading {
    /// Nanoseconds as they were noted; zero before the first answer.
    pub(crate) recorded: f32,
    /// What is left of them.
    pub(crate) decayed: f32,
    /// There was one answer only.
    pub(crate) is_provisional: bool,
}

impl LatencyReading {
    /// Nothing is known.
    pub(crate) const NONE: Self = Self {
        recorded: 0.0,
        decayed: 0.0,
        is_provisional: false,
    };
}

impl LatencyCell<'_> {
    /// Takes in an answer that took `latency`, which counts up to [`LATENCY_MAX`].
    pub(crate) fn record(&self, now: Time, latency: Duration, decay: Decay) {
        let sample = nanos(latency);
        self.change(now, |before, age| {
            let value = before.abs();
            if value == 0.0 {
                return Some(-sample);
            }
            if before.is_sign_negative() || sample >= value {
                return Some(sample);
            }
            if age < UPDATE_INTERVAL_NANOS {
                return None;
            }
            // Too close for a small step to show. It is an answer like those before, so nothing fades.
            if value - sample <= value * EQUAL_RATIO {
                return Some(value);
            }
            let kept = decay.remaining(age);
            let next = value * kept + sample * (1.0 - kept);
            // Too small a step to show: it is taken with the next.
            (next < value).then_some(next)
        });
    }

    /// Takes in an attempt without an answer after `latency`: the answer would have taken at least that.
    pub(crate) fn record_at_least(&self, now: Time, latency: Duration, decay: Decay) {
        let sample = nanos(latency);
        self.change(now, |before, age| {
            (sample > before.abs() * decay.remaining(age)).then_some(sample)
        });
    }

    /// What it says at `now`.
    #[inline]
    pub(crate) fn read(&self, now: Time, decay: Decay) -> LatencyReading {
        let at = self.at.load(Ordering::Acquire);
        let value = f32::from_bits(self.value.load(Ordering::Relaxed));
        let noted = value.abs();
        LatencyReading {
            recorded: noted,
            decayed: noted * decay.remaining(now.as_nanos().saturating_sub(at)),
            is_provisional: value < 0.0,
        }
    }

    /// Replaces the value by what `next` makes of it and of its age in nanoseconds; `None` leaves the cache line alone.
    fn change(&self, now: Time, next: impl Fn(f32, u64) -> Option<f32>) {
        let now = now.as_nanos();
        let mut at;
        loop {
            at = self.at.load(Ordering::Acquire);
            let before = self.value.load(Ordering::Relaxed);
            // The clock of another thread may be ahead of this one.
            let age = now.saturating_sub(at);
            let Some(after) = next(f32::from_bits(before), age) else {
                return;
            };
            let changed = self.value.compare_exchange_weak(
                before,
                after.to_bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if changed.is_ok() {
                break;
            }
        }
        if now > at {
            self.at.fetch_max(now, Ordering::Release);
        }
    }
}

/// How fast what was measured fades: to 1/e in the given time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decay {
    /// By how many powers of two in a nanosecond.
    halvings_per_nano: f32,
}

impl Decay {
    /// To 1/e in `time`; at least a microsecond.
    pub(crate) fn over(time: Duration) -> Self {
        let nanos = time.max(Duration::from_micros(1)).as_nanos() as f64;
        Self {
            halvings_per_nano: (std::f64::consts::LOG2_E / nanos) as f32,
        }
    }

    /// The part that is left after `age` nanoseconds.
    #[inline]
    pub(crate) fn remaining(self, age: u64) -> f32 {
        // Signed numbers become floats in one instruction.
        let age = age.min(i64::MAX as u64) as i64 as f32;
        half_to_the_power(age * self.halvings_per_nano)
    }
}

/// 2^-x for x >= 0, within 2 parts in 10,000.
#[inline]
fn half_to_the_power(x: f32) -> f32 {
    // What is left then is nothing, and still a number.
    let x = x.min(EXPONENT_MAX);
    let whole = x as u32;
    let part = x - whole as f32;
    // Exact at both ends, so that there is no step between one power and the next.
    let mantissa =
        1.0 - 0.5 * part - part * (1.0 - part) * (FIT_COEFFICIENTS[0] - FIT_COEFFICIENTS[1] * part);
    f32::from_bits((127 - whole) << 23) * mantissa
}

/// Never zero, so that an answer is told from none, and even an instant one is weighed by the calls in flight.
fn nanos(latency: Duration) -> f32 {
    (latency.min(LATENCY_MAX).as_nanos() as f32).max(LATENCY_NANOS_MIN)
}

/// Upper bound of one latency sample: longer ones count as this. With a decay of 10 s it fades to 1 ms in 110 s.
pub(crate) const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Least squares of 2^-x on [0, 1].
const FIT_COEFFICIENTS: [f32; 2] = [0.191_363_1, 0.039_114_1];
const EXPONENT_MAX: f32 = 100.0;
const LATENCY_NANOS_MIN: f32 = 1000.0;

/// Faster answers within so short a time of each other leave the cache line alone.
const UPDATE_INTERVAL_NANOS: u64 = 1 << 16;

/// Answers this close to the average are like it.
const EQUAL_RATIO: f32 = 1.0 / 65_536.0;

#[cfg(test)]
mod tests;
