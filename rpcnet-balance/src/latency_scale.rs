//! Scale of a kind of calls: its usual latency relative to a typical call.

use std::time::Duration;

use crate::{
    Outcome, OutcomeKind,
    latency::{NOISE_FACTOR, NOISE_NANOS},
};

/// Ratio of the latency of a typical call to the usual latency of a kind of calls.
///
/// A balancer keeps one latency for each endpoint, whatever was called. Scaled, a call that took as
/// long as its kind usually does looks like a typical call, and one that took twice as long looks
/// like a typical call that took twice as long.
///
/// A millisecond is added to both sides before they are compared, since schedulers and timers add
/// some of it to any call: a kind of 50 µs that takes 0.2 ms for once is not four times as slow. So
/// two latencies that are equal for [`PeakEwma`](crate::PeakEwma) are equal after scaling too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyScale(f32);

impl LatencyScale {
    /// The scale of a typical call: its latency is used as measured.
    pub const ONE: Self = Self(1.0);

    /// The scale of a call without a usual latency, such as a stream or the first call of a kind.
    /// Its latency says nothing, and it causes no silence.
    pub const UNKNOWN: Self = Self(0.0);

    /// The scale of a kind of calls.
    #[must_use]
    pub fn new(latency: KindLatency) -> Self {
        let KindLatency { usual, typical } = latency;
        Self::from_nanos(usual.as_nanos() as f32, typical.as_nanos() as f32)
    }

    pub(crate) fn from_nanos(usual: f32, typical: f32) -> Self {
        Self((typical + OVERHEAD_NANOS) / (usual + OVERHEAD_NANOS))
    }

    /// The latency of a typical call that is as slow for its kind as this one. `None` if the usual
    /// latency is unknown.
    #[must_use]
    pub fn normalize(self, latency: Duration) -> Option<Duration> {
        if self == Self::ONE {
            return Some(latency);
        }
        let nanos = self.normalize_nanos(latency.as_nanos() as f64);
        (self != Self::UNKNOWN).then(|| Duration::from_nanos(nanos as u64))
    }

    /// The outcome with its [normalised latency](Outcome::normalized_latency). An attempt that was
    /// not served keeps its latency: it is not of the kind of the call.
    #[must_use]
    pub fn apply(self, outcome: Outcome) -> Outcome {
        match outcome.kind {
            OutcomeKind::Success | OutcomeKind::Failure | OutcomeKind::Cancelled => {
                outcome.with_normalized_latency(self.normalize(outcome.latency))
            }
            _ => outcome,
        }
    }

    /// The scale in units of 2^-32, for calls that take longer than a typical one, and not only by
    /// chance.
    pub(crate) fn long_call_rate(self) -> Option<u32> {
        (self.0 * NOISE_FACTOR < 1.0).then_some((f64::from(self.0) * RATE_UNIT) as u32)
    }

    /// The mean scale of `calls` long calls.
    pub(crate) fn mean_of_rates(sum: u64, calls: u16) -> Self {
        Self((sum as f64 / RATE_UNIT / f64::from(calls.max(1))) as f32)
    }

    pub(crate) fn normalize_nanos(self, nanos: f64) -> f64 {
        let overhead = f64::from(OVERHEAD_NANOS);
        ((nanos + overhead) * f64::from(self.0) - overhead).max(0.0)
    }
}

/// Usual latency of a kind of calls, beside that of a typical call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindLatency {
    /// The usual latency of calls of the kind.
    pub usual: Duration,
    /// The latency of a typical call.
    pub typical: Duration,
}

/// Overhead that is added to both sides of a comparison. Twice the noise of a latency, so that `x`
/// and `y` are equal to a balancer, `y <= NOISE_FACTOR x + NOISE_NANOS`, exactly if they are equal
/// after scaling.
const OVERHEAD_NANOS: f32 = NOISE_NANOS / (NOISE_FACTOR - 1.0);

/// Scales of long calls are added up in units of 2^-32.
const RATE_UNIT: f64 = (1_u64 << 32) as f64;
