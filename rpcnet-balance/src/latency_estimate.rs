//! Estimate of a latency, for the comparison of two endpoints.

use std::hint::select_unpredictable;

/// Estimate of the latency of an endpoint at one time, for the comparison with another.
///
/// What is known leaves a range, within which the latency is assumed to be that of the other
/// endpoint: from the latency after its decay to that before it. From zero, if there was one reply
/// only; any, if there was none.
///
/// Latencies are the bits of an `f32`, in nanoseconds: not negative, they are ordered like the
/// numbers, and to compare and to choose integers takes fewer instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LatencyEstimate {
    /// What is left after the decay; zero before the first reply.
    decayed: u32,
    least: u32,
    most: u32,
}

impl LatencyEstimate {
    /// The estimate by a word of a [`LatencyCell`](crate::latency::LatencyCell), whose value has
    /// decayed by so many steps, of which a halving has 2^23.
    ///
    /// The bits of an `f32` are nearly its logarithm, so the decay is a subtraction: within 6 % of
    /// the exact one, which counts little where a factor of
    /// [`NOISE_FACTOR`](crate::latency::NOISE_FACTOR) makes no difference.
    #[inline]
    pub(crate) const fn of_word(word: u32, steps: u32) -> Self {
        let recorded = word & !SIGN;
        let decayed = recorded.saturating_sub(steps);
        Self {
            decayed,
            least: if word == recorded { decayed } else { 0 },
            most: if recorded == 0 { INFINITE } else { recorded },
        }
    }

    /// The estimate raised to at least `nanos`.
    #[inline]
    pub(crate) fn at_least(self, nanos: f32) -> Self {
        let least = nanos.to_bits();
        Self {
            least: self.least.max(least),
            most: self.most.max(least),
            ..self
        }
    }

    /// Nanoseconds that are left after the decay; zero before the first reply.
    #[inline]
    pub(crate) const fn decayed_nanos(&self) -> f32 {
        f32::from_bits(self.decayed)
    }

    /// The bits of the nanoseconds to compare with those of `other` next to this.
    #[inline]
    pub(crate) fn next_to(&self, other: &Self) -> u32 {
        let wanted = select_unpredictable(other.decayed == 0, self.decayed, other.decayed);
        wanted.max(self.least).min(self.most)
    }

    /// One of two estimates, by a condition that a branch predictor could not guess.
    #[inline]
    pub(crate) fn select(condition: bool, yes: Self, no: Self) -> Self {
        Self {
            decayed: select_unpredictable(condition, yes.decayed, no.decayed),
            least: select_unpredictable(condition, yes.least, no.least),
            most: select_unpredictable(condition, yes.most, no.most),
        }
    }
}

const SIGN: u32 = 1 << 31;
const INFINITE: u32 = f32::INFINITY.to_bits();
