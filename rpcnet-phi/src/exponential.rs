//! Exponential model of arrivals.

use core::f64::consts::{LN_10, LOG10_E};

use crate::{ParameterError, error, tail::saturate};

/// Exponential model of arrivals: intervals have no memory, and phi grows linearly with the
/// silence.
///
/// It fits heartbeats that are carried by traffic at random times. It needs a mean and nothing
/// else, and is slow to suspect: at a threshold of 8 after 18.4 means of silence.
///
/// ```
/// use rpcnet_phi::Exponential;
///
/// let model = Exponential::new(0.5)?; // seconds
/// assert!((model.elapsed_at(1.0) - 0.5 * 10_f64.ln()).abs() < 1e-12);
/// # Ok::<(), rpcnet_phi::ParameterError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exponential {
    mean: f64,
}

impl Exponential {
    /// An exponential distribution with this mean, in the caller's unit.
    ///
    /// # Errors
    ///
    /// When the mean is not finite or not above zero.
    pub const fn new(mean: f64) -> Result<Self, ParameterError> {
        match error::positive("mean", mean) {
            Ok(mean) => Ok(Self { mean }),
            Err(error) => Err(error),
        }
    }

    /// The mean.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// -log10 of the probability that an arrival takes longer than `elapsed`; zero for a negative
    /// `elapsed`.
    ///
    /// Never decreasing, finite for every finite `elapsed` (it saturates at `f64::MAX`).
    #[must_use]
    pub fn phi(&self, elapsed: f64) -> f64 {
        if elapsed <= 0.0 {
            0.0
        } else {
            saturate(elapsed / self.mean * LOG10_E)
        }
    }

    /// The elapsed time at which [`phi`](Self::phi) reaches `phi`; zero for a `phi` of zero or
    /// less.
    #[must_use]
    pub fn elapsed_at(&self, phi: f64) -> f64 {
        if phi <= 0.0 {
            0.0
        } else {
            saturate(phi * self.mean * LN_10)
        }
    }

    /// A model whose parameters a detector has checked.
    pub(crate) const fn new_unchecked(mean: f64) -> Self {
        Self { mean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_zero_is_rejected() {
        assert_eq!(
            Exponential::new(0.0),
            Err(ParameterError::NotPositive {
                parameter: "mean",
                value: 0.0
            })
        );
    }

    #[test]
    fn extremes_saturate() {
        let model = Exponential::new(f64::MIN_POSITIVE).unwrap();
        assert_eq!(model.phi(f64::MAX), f64::MAX);
        assert_eq!(model.phi(-1.0), 0.0);
        assert_eq!(
            Exponential::new(f64::MAX).unwrap().elapsed_at(f64::MAX),
            f64::MAX
        );
    }
}
