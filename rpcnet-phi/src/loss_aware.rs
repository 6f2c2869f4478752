//! Loss-aware model of arrivals.

use core::f64::consts::LN_10;

use crate::{
    Normal, ParameterError, error,
    tail::{self, Z_PHI_ZERO, saturate},
};

/// Loss-aware model of arrivals: a heartbeat every `period`, with normal jitter, lost with a
/// probability.
///
/// Heartbeat k is missing either because it was lost or because it is late, independently of the
/// others:
///
/// > phi(t) = sum over k of -log10( loss + (1 - loss) Q((t - k period) / jitter) )
///
/// One missing heartbeat adds -log10(loss) and not more, however long ago it was due: at 1 % loss
/// phi rises by 2 for each missing heartbeat, in steps. With a loss of zero the model is
/// [`Normal`].
///
/// ```
/// use rpcnet_phi::LossAware;
///
/// let model = LossAware::new(1000.0, 100.0, 0.01)?;
/// assert!((model.phi(1500.0) - 2.0).abs() < 1e-4); // one is missing
/// assert!((model.phi(3500.0) - 6.0).abs() < 1e-4); // three are missing
/// assert!((model.elapsed_at(8.0) - 4544.4).abs() < 0.1);
/// # Ok::<(), rpcnet_phi::ParameterError>(())
/// ```
///
/// The work for one value is bounded, whatever the elapsed time: heartbeats that are long overdue
/// are counted, not summed. Where the jitter exceeds 32 periods, neighbouring heartbeats are summed
/// in blocks, with a relative error of some 1e-4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossAware {
    period: f64,
    jitter: f64,
    loss: f64,
}

impl LossAware {
    /// A model of heartbeats every `period` with a standard deviation of `jitter` (both in the
    /// caller's unit), each lost with probability `loss`.
    ///
    /// # Errors
    ///
    /// When a parameter is not finite, `period` or `jitter` is not above zero, or `loss` is not in
    /// `0.0..1.0`.
    pub const fn new(period: f64, jitter: f64, loss: f64) -> Result<Self, ParameterError> {
        match (
            error::positive("period", period),
            error::positive("jitter", jitter),
            error::loss(loss),
        ) {
            (Ok(period), Ok(jitter), Ok(loss)) => Ok(Self {
                period,
                jitter,
                loss,
            }),
            (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => Err(error),
        }
    }

    /// The time from one heartbeat to the next.
    #[must_use]
    pub const fn period(&self) -> f64 {
        self.period
    }

    /// The standard deviation of the arrival of a heartbeat.
    #[must_use]
    pub const fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The probability that a heartbeat is lost.
    #[must_use]
    pub const fn loss(&self) -> f64 {
        self.loss
    }

    /// -log10 of the probability that no heartbeat arrives within `elapsed` of the last one.
    ///
    /// Never below zero, never decreasing, finite for every finite `elapsed` (it saturates at
    /// `f64::MAX`).
    #[must_use]
    pub fn phi(&self, elapsed: f64) -> f64 {
        if self.loss == 0.0 {
            self.lossless().phi(elapsed)
        } else {
            self.phi_and_slope(elapsed).0
        }
    }

    /// The elapsed time at which [`phi`](Self::phi) reaches `phi`.
    ///
    /// Between two heartbeats phi hardly rises; there, any time of the plateau may be returned. For
    /// a `phi` of zero or less, a time at which phi is zero; this can be negative.
    #[must_use]
    pub fn elapsed_at(&self, phi: f64) -> f64 {
        if self.loss == 0.0 {
            return self.lossless().elapsed_at(phi);
        }
        let earliest = self.period - Z_PHI_ZERO * self.jitter;
        if phi <= 0.0 {
            return saturate(earliest);
        }
        let missing = phi / self.missed_phi();
        if missing > EXACT_COUNT {
            return saturate(missing * self.period);
        }
        // Every heartbeat adds between nothing (not nearly due) and `missed_phi` (long overdue).
        // Summed in the order in which an overflow is an infinity of the right sign.
        let early = saturate(-Z_PHI_ZERO * self.jitter + (missing - 1.0).min(0.0) * self.period)
            + saturate((missing - 1.0).max(0.0) * self.period);
        let late = saturate((missing + 3.0) * self.period + self.overdue_z() * self.jitter);
        self.solve(phi, early, late)
    }

    /// A model whose parameters a detector has checked.
    pub(crate) const fn new_unchecked(period: f64, jitter: f64, loss: f64) -> Self {
        Self {
            period,
            jitter,
            loss,
        }
    }

    /// Newton's method inside a bracket that bisection closes: on a plateau the slope says nothing.
    fn solve(&self, phi: f64, mut early: f64, mut late: f64) -> f64 {
        let middle = |early: f64, late: f64| 0.5 * early + 0.5 * late;
        let mut elapsed = middle(early, late);
        for round in 0..SOLVE_ROUNDS_MAX {
            let (value, slope) = self.phi_and_slope(elapsed);
            if (value - phi).abs() <= 1e-14 * phi {
                return elapsed;
            }
            if value < phi {
                early = elapsed;
            } else {
                late = elapsed;
            }
            let newton = elapsed - (value - phi) / slope;
            let bisection = middle(early, late);
            elapsed = if round % 3 != 2 && newton > early && newton < late {
                newton
            } else if bisection > early && bisection < late {
                bisection
            } else {
                return late;
            };
        }
        late
    }

    /// Phi and its derivative by the elapsed time.
    #[inline]
    fn phi_and_slope(&self, elapsed: f64) -> (f64, f64) {
        let (block, step) = self.block_size_and_step();
        let missed = self.missed_phi();
        // Heartbeats so long overdue that their lateness does not show in the last digit.
        let settled = libm::floor((elapsed - self.overdue_z() * self.jitter) / step).max(0.0);
        let settled_phi = if settled > EXACT_COUNT && missed < 1.0 {
            saturate(elapsed * missed / self.period)
        } else {
            saturate(settled * block * missed)
        };
        if settled > EXACT_COUNT {
            return (settled_phi, missed / self.period);
        }
        let first = settled * step + 0.5 * (step + self.period);
        let (mut phi, mut slope) = (0.0, 0.0);
        for k in 0..TERMS_MAX {
            let z = (elapsed - first - f64::from(k) * step) / self.jitter;
            let (term, rise) = self.term_and_slope(z);
            phi += block * term;
            slope += block * rise;
            if z < 0.0 && term <= NEGLIGIBLE * (settled_phi + phi) {
                break;
            }
        }
        (saturate(settled_phi + phi), slope / self.jitter)
    }

    /// -log10( loss + (1 - loss) Q(z) ) and its derivative by z.
    #[inline]
    fn term_and_slope(&self, z: f64) -> (f64, f64) {
        let kept = 1.0 - self.loss;
        let q = tail::upper_tail(z);
        let silent = self.loss + kept * q;
        let arrived = kept * tail::upper_tail(-z);
        // The smaller of the two probabilities has more significant digits.
        let phi = if arrived < 0.5 {
            -libm::log1p(-arrived) / LN_10
        } else {
            -libm::log10(silent)
        };
        (phi, kept * tail::density(z) / (silent * LN_10))
    }

    /// The phi of a heartbeat that is long overdue.
    fn missed_phi(&self) -> f64 {
        if self.loss > 0.5 {
            -libm::log1p(-(1.0 - self.loss)) / LN_10
        } else {
            -libm::log10(self.loss)
        }
    }

    /// The z from which (1 - loss) Q(z) is below the last digit of `loss`, by Q(z) < exp(-z^2 / 2).
    fn overdue_z(&self) -> f64 {
        libm::sqrt(2.0 * (40.0 - libm::log(self.loss)))
    }

    /// The number of heartbeats that are summed as one, and the time that they cover.
    fn block_size_and_step(&self) -> (f64, f64) {
        let ratio = saturate(self.jitter / self.period);
        if ratio <= TERMS_PER_JITTER {
            (1.0, self.period)
        } else {
            let block = libm::ceil(ratio / TERMS_PER_JITTER);
            (block, saturate(block * self.period))
        }
    }

    const fn lossless(&self) -> Normal {
        Normal::new_unchecked(self.period, self.jitter)
    }
}

/// Maximum number of terms for one standard deviation; more heartbeats are summed in blocks.
const TERMS_PER_JITTER: f64 = 32.0;
/// Terms count from z = 39.4 (a loss of 5e-324 is settled) down to z = -38.6 (a probability of
/// zero).
const TERMS_MAX: u32 = 32 * 80;
/// The largest count of heartbeats that is exact in an `f64`; beyond it the heartbeats that are not
/// yet overdue do not show.
const EXACT_COUNT: f64 = 9_007_199_254_740_992.0;
const NEGLIGIBLE: f64 = 1e-19;
const SOLVE_ROUNDS_MAX: u32 = 240;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_outside_its_range_is_rejected() {
        for loss in [-0.1, 1.0, 1.5] {
            assert_eq!(
                LossAware::new(1.0, 1.0, loss),
                Err(ParameterError::LossOutOfRange { value: loss })
            );
        }
        assert!(LossAware::new(1.0, 1.0, f64::NAN).is_err());
        assert!(LossAware::new(0.0, 1.0, 0.5).is_err());
        assert!(LossAware::new(1.0, -1.0, 0.5).is_err());
    }

    #[test]
    fn no_loss_is_the_normal_model() {
        let lossless = LossAware::new(1000.0, 100.0, 0.0).unwrap();
        let normal = Normal::new(1000.0, 100.0).unwrap();
        for elapsed in [-1e300, 0.0, 900.0, 1500.0, 1e5, 1e300] {
            assert_eq!(lossless.phi(elapsed), normal.phi(elapsed));
        }
        assert_eq!(lossless.elapsed_at(8.0), normal.elapsed_at(8.0));
    }

    #[test]
    fn a_very_long_silence_is_counted_in_closed_form() {
        let model = LossAware::new(1000.0, 100.0, 0.01).unwrap();
        for elapsed in [1e9, 1e15, 1e20, 1e300] {
            let expected = elapsed / 1000.0 * 2.0;
            let phi = model.phi(elapsed);
            assert!(
                (phi - expected).abs() <= 2e-6 * expected,
                "{phi} at {elapsed}"
            );
            let back = model.elapsed_at(phi);
            assert!(
                (back - elapsed).abs() <= 2e-6 * elapsed,
                "{back} from {elapsed}"
            );
        }
        assert_eq!(
            LossAware::new(1e-300, 1e-300, 0.01).unwrap().phi(1e300),
            f64::MAX
        );
    }

    #[test]
    fn a_loss_near_one_makes_phi_grow_slowly() {
        let model = LossAware::new(1000.0, 100.0, 1.0 - 1e-12).unwrap();
        let each = 1e-12 / LN_10;
        let phi = model.phi(10_500.0);
        assert!((phi - 10.0 * each).abs() <= 1e-3 * phi, "{phi}");
        let elapsed = model.elapsed_at(8.0);
        assert!(
            (elapsed - 8.0 / each * 1000.0).abs() <= 1e-3 * elapsed,
            "{elapsed}"
        );
    }

    #[test]
    fn jitter_of_many_periods_is_summed_in_blocks() {
        // Doubling the density of heartbeats doubles phi, up to the half period by which they start
        // earlier.
        for ratio in [16.0, 33.0, 1e3, 1e6] {
            let coarse = LossAware::new(1.0, ratio, 0.1).unwrap();
            let fine = LossAware::new(0.5, ratio, 0.1).unwrap();
            let elapsed = 20.0 * ratio;
            let (coarse, fine) = (coarse.phi(elapsed), fine.phi(elapsed));
            let tolerance = 1e-3 + 1.0 / ratio;
            assert!(
                (fine / coarse - 2.0).abs() < tolerance,
                "{ratio}: {coarse} {fine}"
            );
        }
    }

    #[test]
    fn extreme_parameters_give_finite_results() {
        for (period, jitter) in [(1e-300, 1e300), (1e300, 1e-300), (f64::MAX, f64::MAX)] {
            for loss in [5e-324, 0.5, 1.0 - f64::EPSILON] {
                let model = LossAware::new(period, jitter, loss).unwrap();
                for elapsed in [f64::MIN, -1.0, 0.0, 1.0, f64::MAX] {
                    let phi = model.phi(elapsed);
                    assert!(
                        phi.is_finite() && phi >= 0.0,
                        "{model:?} at {elapsed}: {phi}"
                    );
                }
                for phi in [0.0, 5e-324, 1.0, 8.0, f64::MAX] {
                    assert!(model.elapsed_at(phi).is_finite(), "{model:?} at phi {phi}");
                }
            }
        }
    }
}
