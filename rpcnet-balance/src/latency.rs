//! Peak-sensitive EWMA of the latency of an endpoint, in two atomics.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use crate::{Time, latency_estimate::LatencyEstimate};

/// Peak-sensitive moving average (the rule of Finagle's `PeakEwma`): a slower reply counts at once,
/// faster ones count more and more as time passes. Without replies it decays, so that an endpoint
/// that was slow is tried again; the decay is computed by the reader, not written.
///
/// The first reply is provisional: it often includes the connection set-up and cold caches, so the
/// second one replaces it.
///
/// There are two words, because one has no room for a time that never wraps around. The value is
/// written before its time: a reader between the two sees a new value that looks old, never an old
/// one that looks new.
#[derive(Debug)]
pub(crate) struct LatencyCell<'a> {
    /// Nanoseconds as an `f32`, negative while there is one reply only; zero before the first.
    pub(crate) value: &'a AtomicU32,
    /// Time of the last reply that counted, in nanoseconds.
    pub(crate) at: &'a AtomicU64,
}

/// Value of a [`LatencyCell`] at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LatencyReading {
    /// Nanoseconds as recorded; zero before the first reply.
    pub(crate) recorded: f32,
    /// Nanoseconds that are left after the decay.
    pub(crate) decayed: f32,
    /// Whether there was one reply only.
    pub(crate) is_provisional: bool,
}

impl LatencyCell<'_> {
    /// Records a reply that took `latency`, which counts up to [`LATENCY_MAX`].
    pub(crate) fn record(&self, now: Time, latency: Duration, decay: Decay) {
        let sample = nanos(latency);
        self.change(now, |before, age| after_reply(before, age, sample, decay));
    }

    /// Records two or more replies of one moment: that which was first, and the slowest one after
    /// it. The others change nothing.
    pub(crate) fn record_all(&self, now: Time, first: Duration, slowest: Duration, decay: Decay) {
        let (first, slowest) = (nanos(first), nanos(slowest));
        self.change(now, |before, age| {
            match after_reply(before, age, first, decay) {
                // A provisional value is negative.
                Some(next) => Some(next.max(slowest)),
                None => after_reply(before, age, slowest, decay),
            }
        });
    }

    /// Records an attempt without a reply after `latency`: the reply would have taken at least that
    /// long.
    pub(crate) fn record_at_least(&self, now: Time, latency: Duration, decay: Decay) {
        let sample = nanos(latency);
        self.change(now, |before, age| {
            (sample > before.abs() * decay.remaining(age)).then_some(sample)
        });
    }

    /// The value at `now`.
    #[inline]
    pub(crate) fn read(&self, now: Time, decay: Decay) -> LatencyReading {
        let at = self.at.load(Ordering::Acquire);
        let value = f32::from_bits(self.value.load(Ordering::Relaxed));
        let recorded = value.abs();
        LatencyReading {
            recorded,
            decayed: recorded * decay.remaining(now.as_nanos().saturating_sub(at)),
            is_provisional: value < 0.0,
        }
    }

    /// The estimate at `now`, for a comparison.
    #[inline]
    pub(crate) fn estimate(&self, now: Time, decay: Decay) -> LatencyEstimate {
        let at = self.at.load(Ordering::Acquire);
        let word = self.value.load(Ordering::Relaxed);
        LatencyEstimate::of_word(word, decay.steps(now.as_nanos().saturating_sub(at)))
    }

    /// Replaces the value by what `next` computes of it and of its age in nanoseconds; `None`
    /// leaves the cache line alone.
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

/// The value after a reply, `age` nanoseconds after the last one that counted; `None` if it stays.
fn after_reply(before: f32, age: u64, sample: f32, decay: Decay) -> Option<f32> {
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
    // The step is too small to show. It is a reply like those before, so nothing decays.
    if value - sample <= value * EQUAL_RATIO {
        return Some(value);
    }
    let kept = decay.remaining(age);
    let next = value * kept + sample * (1.0 - kept);
    // The step is too small to show: it is taken with the next reply.
    (next < value).then_some(next)
}

/// Exponential decay: to 1/e in a given time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decay {
    /// The number of halvings in a nanosecond.
    halvings_per_nano: f32,
    /// The number of steps in a nanosecond, in units of 2^-32.
    steps_per_nano: u64,
    /// The age at which there are [`EXPONENT_MAX`] halvings.
    age_max: u64,
}

impl Decay {
    /// The decay to 1/e in `time`; at least a microsecond.
    pub(crate) fn over(time: Duration) -> Self {
        let nanos = time.max(Duration::from_micros(1)).as_nanos() as f64;
        let halvings_per_nano = std::f64::consts::LOG2_E / nanos;
        let steps_per_nano = halvings_per_nano * f64::from(1 << 23) * (1_u64 << STEP_BITS) as f64;
        Self {
            halvings_per_nano: halvings_per_nano as f32,
            // At least one: years count as one.
            steps_per_nano: steps_per_nano.round().max(1.0) as u64,
            age_max: (f64::from(EXPONENT_MAX) / halvings_per_nano) as u64,
        }
    }

    /// The part that is left after `age` nanoseconds.
    #[inline]
    pub(crate) fn remaining(self, age: u64) -> f32 {
        // Signed numbers become floats in one instruction.
        let age = age.min(i64::MAX as u64) as i64 as f32;
        half_to_the_power(age * self.halvings_per_nano)
    }

    /// The decay in `age` nanoseconds, in steps of which a halving has 2^23.
    #[inline]
    pub(crate) fn steps(self, age: u64) -> u32 {
        ((age.min(self.age_max) * self.steps_per_nano) >> STEP_BITS) as u32
    }
}

/// 2^-x for x >= 0, within 2 parts in 10,000.
#[inline]
fn half_to_the_power(x: f32) -> f32 {
    // The result is close to zero there, and still a number.
    let x = x.min(EXPONENT_MAX);
    let whole = x as u32;
    let part = x - whole as f32;
    // Exact at both ends, so that there is no step between one power and the next.
    let mantissa =
        1.0 - 0.5 * part - part * (1.0 - part) * (FIT_COEFFICIENTS[0] - FIT_COEFFICIENTS[1] * part);
    f32::from_bits((127 - whole) << 23) * mantissa
}

/// The latency in nanoseconds, clamped. Never zero, so that a reply differs from none, and even an
/// instant reply is weighted by the calls in flight.
fn nanos(latency: Duration) -> f32 {
    (latency.min(LATENCY_MAX).as_nanos() as f32).max(LATENCY_NANOS_MIN)
}

/// Upper bound of one latency sample: longer ones count as this. With a decay of 10 s it decays to
/// 1 ms in 110 s.
pub(crate) const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Time in which a latency decays to 1/e, as in Finagle.
pub(crate) const LATENCY_DECAY: Duration = Duration::from_secs(10);

/// Two latencies are equal as long as the greater is at most this many times the lower one, plus an
/// allowance for what a scheduler and timers add to any call. Equal servers differ by so much after
/// a few calls.
pub(crate) const NOISE_FACTOR: f32 = 1.5;
pub(crate) const NOISE_NANOS: f32 = 500_000.0;

/// Least squares fit of 2^-x on [0, 1].
const FIT_COEFFICIENTS: [f32; 2] = [0.191_363_1, 0.039_114_1];
const EXPONENT_MAX: f32 = 100.0;
/// With [`EXPONENT_MAX`] halvings of 2^23 steps, the product of age and steps has 62 bits.
const STEP_BITS: u32 = 32;
const LATENCY_NANOS_MIN: f32 = 1000.0;

/// Faster replies within so short a time of each other leave the cache line alone.
const UPDATE_INTERVAL_NANOS: u64 = 1 << 16;

/// Replies this close to the average count as equal to it.
const EQUAL_RATIO: f32 = 1.0 / 65_536.0;

#[cfg(test)]
mod tests;
