//! Estimate of a latency, for the comparison of two endpoints.

use std::hint::select_unpredictable;

/// Estimate of the latency of an endpoint at one time, for the comparison with another.
///
/// What is known leaves a range, within which the latency is assumed to be that of the other
/// endpoint: from the latency after its decay to that before it. From nothing, if there was one
/// reply only; any, if there was none.
///
/// Latencies are the bits of an `f32`, in nanoseconds: not negative, they are ordered like the
/// numbers, and to compare and to choose integers takes fewer instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LatencyEstimate {
    /// Latency that is left after the decay; zero before the first reply.
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
    pub(crate) fn of_word(word: u32, steps: u32) -> Self {
        let recorded = word & !SIGN;
        let decayed = recorded.saturating_sub(steps);
        Self {
            decayed,
            least: select_unpredictable(word == recorded, decayed, ONE_NANO),
            most: recorded,
        }
    }

    /// The estimate if there may not have been a reply so far.
    #[inline]
    pub(crate) fn or_unknown(self) -> Self {
        let unknown = Self {
            decayed: 0,
            least: ONE_NANO,
            most: INFINITE,
        };
        if self.most == 0 { unknown } else { self }
    }

    /// The estimate; if `condition` holds, the greatest of all, whatever it is compared with.
    #[inline]
    pub(crate) fn worst_if(self, condition: bool) -> Self {
        Self {
            least: select_unpredictable(condition, WORST, self.least),
            most: select_unpredictable(condition, WORST, self.most),
            ..self
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

    /// The bits of the nanoseconds to compare with those of `other`, which had a reply.
    #[inline]
    pub(crate) fn next_to_known(&self, other: &Self) -> u32 {
        other.decayed.max(self.least).min(self.most)
    }

    /// The bits of the nanoseconds to compare with those of `other`.
    #[inline]
    pub(crate) fn next_to(&self, other: &Self) -> u32 {
        let is_known = other.decayed != 0;
        let wanted = if is_known {
            other.decayed
        } else {
            self.decayed
        };
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

/// Latency so great that no number of calls outweighs it, and so small that its product with any
/// number of calls and weight is finite.
const WORST: u32 = 1e25_f32.to_bits();

/// Lower bound of a latency that is not known: the calls in flight decide then.
const ONE_NANO: u32 = 1_f32.to_bits();

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::latency::Decay;

    /// A word of nanoseconds, provisional or not; zero for none.
    fn word(nanos: f32, is_provisional: bool) -> u32 {
        let sign = if is_provisional { SIGN } else { 0 };
        nanos.to_bits() | sign
    }

    fn nanos(bits: u32) -> f64 {
        f64::from(f32::from_bits(bits))
    }

    #[test]
    fn the_decay_is_close_to_the_exact_one_and_monotonic() {
        for decay in [Duration::from_millis(1), Duration::from_secs(10), HOUR] {
            let steps = Decay::over(decay);
            for recorded in [1e3, 777e3, 1e6, 19e6, 6e10] {
                let mut before = recorded.into();
                for part in 0..2_000 {
                    let age = decay.as_nanos() as u64 / 100 * part;
                    let estimate =
                        LatencyEstimate::of_word(word(recorded, false), steps.steps(age));
                    let decayed = f64::from(estimate.decayed_nanos());
                    let exact = f64::from(recorded) * (-(part as f64) / 100.0).exp();
                    assert!(
                        (decayed / exact - 1.0).abs() < 0.065,
                        "{decayed} for {exact}"
                    );
                    assert!(decayed <= before);
                    before = decayed;
                }
            }
        }
    }

    #[test]
    fn a_latency_never_decays_to_none() {
        for decay in [Duration::ZERO, Duration::from_secs(10), 10_000 * HOUR] {
            let steps = Decay::over(decay).steps(u64::MAX);
            let estimate = LatencyEstimate::of_word(word(1e3, false), steps);
            assert!(estimate.decayed > 0);
        }
    }

    /// The latency of one next to another, each as it was recorded and as it decayed.
    fn expected(own: (f64, f64, bool), its: (f64, f64, bool)) -> f64 {
        let (recorded, decayed, is_provisional) = own;
        let known = decayed.max(recorded.min(its.1));
        if recorded == 0.0 || (is_provisional && its.0 > 0.0 && its.1 < known) {
            its.1.max(1.0)
        } else {
            known.max(1.0)
        }
    }

    proptest! {
        #[test]
        fn what_is_not_known_is_assumed_to_be_as_with_the_other(
            samples in prop::array::uniform2((
                prop_oneof![Just(0.0_f32), 1e3..6e10_f32],
                any::<bool>(),
                0_u32..100 << 23,
            )),
        ) {
            let [(a, facts_of_a), (b, facts_of_b)] = samples.map(|(recorded, provisional, steps)| {
                let is_provisional = provisional && recorded > 0.0;
                let raw = LatencyEstimate::of_word(word(recorded, is_provisional), steps);
                let facts = (recorded.into(), raw.decayed_nanos().into(), is_provisional);
                (raw.or_unknown(), facts)
            });
            let one = 1_f32;
            prop_assert_eq!(
                nanos(a.at_least(one).next_to(&b)),
                expected(facts_of_a, facts_of_b)
            );
            if facts_of_a.0 > 0.0 && facts_of_b.0 > 0.0 {
                prop_assert_eq!(a.next_to_known(&b), a.next_to(&b));
            }
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);
}
