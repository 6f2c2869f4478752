//! Normal model of arrivals.

use crate::{
    ParameterError, error,
    tail::{self, saturate},
};

/// Normal model of arrivals: intervals between arrivals (or round trips) are normally distributed.
///
/// The model of the phi accrual paper (section IV.B). One missing heartbeat makes it almost certain
/// that the peer is dead, which is right on a network without loss; see
/// [`LossAware`](crate::LossAware) for other networks.
///
/// ```
/// use rpcnet_phi::Normal;
///
/// let model = Normal::new(1000.0, 100.0)?; // any unit: here milliseconds
/// // Half of all heartbeats arrive later than the mean.
/// assert!((model.phi(1000.0) - 0.301).abs() < 0.001);
/// assert!((model.elapsed_at(8.0) - 1561.2).abs() < 0.1);
/// # Ok::<(), rpcnet_phi::ParameterError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normal {
    mean: f64,
    deviation: f64,
}

impl Normal {
    /// A normal distribution with this mean and standard deviation, in the caller's unit.
    ///
    /// # Errors
    ///
    /// When either is not finite or `deviation` is not above zero.
    pub const fn new(mean: f64, deviation: f64) -> Result<Self, ParameterError> {
        match (
            error::finite("mean", mean),
            error::positive("deviation", deviation),
        ) {
            (Ok(mean), Ok(deviation)) => Ok(Self { mean, deviation }),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// The mean.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// The standard deviation.
    #[must_use]
    pub const fn deviation(&self) -> f64 {
        self.deviation
    }

    /// -log10 of the probability that an arrival takes longer than `elapsed`.
    ///
    /// Never below zero, never decreasing, finite for every finite `elapsed` (it saturates at
    /// `f64::MAX`).
    #[must_use]
    pub fn phi(&self, elapsed: f64) -> f64 {
        tail::phi((elapsed - self.mean) / self.deviation)
    }

    /// The elapsed time at which [`phi`](Self::phi) reaches `phi`.
    ///
    /// For a `phi` of zero or less, the latest time at which it still is zero; this can be
    /// negative.
    #[must_use]
    pub fn elapsed_at(&self, phi: f64) -> f64 {
        saturate(self.mean + self.deviation * tail::inverse_phi(phi))
    }

    /// A model whose parameters an estimator has checked.
    pub(crate) const fn new_unchecked(mean: f64, deviation: f64) -> Self {
        Self { mean, deviation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_parameters_are_rejected() {
        assert!(matches!(
            Normal::new(f64::NAN, 1.0),
            Err(ParameterError::NotFinite { parameter: "mean" })
        ));
        assert!(matches!(
            Normal::new(1.0, f64::INFINITY),
            Err(ParameterError::NotFinite {
                parameter: "deviation"
            })
        ));
        assert!(matches!(
            Normal::new(1.0, 0.0),
            Err(ParameterError::NotPositive {
                parameter: "deviation",
                ..
            })
        ));
        // Round trips inside one process, or in virtual time, can take no time at all.
        assert!(Normal::new(0.0, 1e-9).is_ok());
    }

    #[test]
    fn extremes_saturate() {
        let model = Normal::new(f64::MAX, f64::MIN_POSITIVE).unwrap();
        assert_eq!(model.phi(f64::MIN), 0.0);
        let model = Normal::new(0.0, f64::MIN_POSITIVE).unwrap();
        assert_eq!(model.phi(f64::MAX), f64::MAX);
        let model = Normal::new(0.0, f64::MAX).unwrap();
        assert_eq!(model.elapsed_at(f64::MAX), f64::MAX);
        assert!(model.phi(f64::NAN).is_nan());
    }
}
