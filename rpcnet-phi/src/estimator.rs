//! Estimator of mean and deviation with exponential forgetting.

use crate::{Normal, ParameterError, error};

/// Estimator of the mean and the standard deviation of a quantity that may drift.
///
/// Every observation weighs the same until there are as many as the window is long; from then on
/// older ones fade exponentially (Welford's update with a bounded count). The prior counts as a few
/// observations, so that a young estimator is neither empty nor dominated by its first sample.
///
/// It is 40 bytes, `Copy`, and an observation costs a handful of arithmetic operations and one
/// division.
///
/// ```
/// use rpcnet_phi::Estimator;
///
/// let mut rtt = Estimator::new(1.0, 0.5, 0.05)?; // milliseconds: expected, give or take, at least
/// for sample in [2.0, 2.2, 1.8].into_iter().cycle().take(300) {
///     rtt.observe(sample);
/// }
/// assert!((rtt.mean() - 2.0).abs() < 0.05);
/// assert!((rtt.deviation() - 0.163).abs() < 0.02);
/// assert!(rtt.normal().elapsed_at(3.0) < 2.7);
/// # Ok::<(), rpcnet_phi::ParameterError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimator {
    mean: f64,
    variance: f64,
    floor: f64,
    weight: f64,
    window: f64,
}

impl Estimator {
    /// An estimator that starts from a mean and a deviation, and never reports a deviation below
    /// `floor`.
    ///
    /// A floor keeps a perfectly regular peer from being suspected at its first pause. The window
    /// is 64 observations and the prior counts as 4; see [`with_window`](Self::with_window) and
    /// [`with_prior_weight`](Self::with_prior_weight).
    ///
    /// # Errors
    ///
    /// When a parameter is not finite, or `prior_deviation` or `floor` is not above zero.
    pub const fn new(
        prior_mean: f64,
        prior_deviation: f64,
        floor: f64,
    ) -> Result<Self, ParameterError> {
        match (
            error::finite("prior mean", prior_mean),
            error::positive("prior deviation", prior_deviation),
            error::positive("floor", floor),
        ) {
            (Ok(mean), Ok(deviation), Ok(floor)) => {
                let variance = deviation * deviation;
                if !variance.is_finite() {
                    return Err(ParameterError::NotFinite {
                        parameter: "square of the prior deviation",
                    });
                }
                Ok(Self {
                    mean,
                    variance,
                    floor,
                    weight: PRIOR_WEIGHT_DEFAULT,
                    window: WINDOW_DEFAULT,
                })
            }
            (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => Err(error),
        }
    }

    /// Sets how many observations are remembered: older ones fade out. Default 64, at least 2.
    ///
    /// A larger value is steadier and slower to follow a change.
    #[must_use]
    pub fn with_window(mut self, observations: u32) -> Self {
        self.window = f64::from(observations.max(2));
        self
    }

    /// Sets how many observations the prior counts as. Default 4, at least 1, at most the window.
    #[must_use]
    pub fn with_prior_weight(mut self, observations: u32) -> Self {
        self.weight = f64::from(observations.max(1));
        self
    }

    /// Records one observation.
    ///
    /// A value that is not finite, or so large that its square is not, is ignored.
    pub fn observe(&mut self, value: f64) {
        let weight = (self.weight + 1.0).min(self.window);
        let share = 1.0 / weight;
        let delta = value - self.mean;
        let mean = self.mean + share * delta;
        let variance = (1.0 - share) * (self.variance + share * delta * delta);
        if mean.is_finite() && variance.is_finite() {
            *self = Self {
                mean,
                variance,
                weight,
                ..*self
            };
        }
    }

    /// The mean of the observations, weighted towards recent ones.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// The standard deviation of the observations, not below the floor.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        libm::sqrt(self.variance).max(self.floor)
    }

    /// The normal model with the current mean and deviation.
    #[must_use]
    pub fn normal(&self) -> Normal {
        Normal::new_unchecked(self.mean, self.deviation())
    }
}

const WINDOW_DEFAULT: f64 = 64.0;
const PRIOR_WEIGHT_DEFAULT: f64 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn estimator() -> Estimator {
        Estimator::new(10.0, 2.0, 0.5).unwrap()
    }

    #[test]
    fn it_takes_tens_of_bytes() {
        assert!(size_of::<Estimator>() <= 40);
    }

    #[test]
    fn the_prior_counts_as_some_observations() {
        let mut estimator = estimator();
        assert_eq!((estimator.mean(), estimator.deviation()), (10.0, 2.0));
        estimator.observe(20.0);
        // Four tens and a twenty; the spread of the four is 2.
        assert!((estimator.mean() - 12.0).abs() < 1e-12);
        assert!((estimator.deviation() - libm::sqrt((4.0 * 4.0 + 80.0) / 5.0)).abs() < 1e-12);
    }

    #[test]
    fn window_and_prior_weight_do_not_depend_on_their_order() {
        let observed = |mut estimator: Estimator| {
            (0..100).for_each(|k| estimator.observe(f64::from(k % 7)));
            estimator
        };
        for (window, weight) in [(200, 100), (16, 100), (8, 4)] {
            let first = estimator().with_window(window).with_prior_weight(weight);
            let last = estimator().with_prior_weight(weight).with_window(window);
            assert_eq!(observed(first), observed(last));
        }
    }

    #[test]
    fn the_deviation_has_a_floor() {
        let mut estimator = estimator();
        for _ in 0..10_000 {
            estimator.observe(7.0);
        }
        assert!((estimator.mean() - 7.0).abs() < 1e-9);
        assert_eq!(estimator.deviation(), 0.5);
    }

    #[test]
    fn a_changed_mean_is_learnt_within_some_windows() {
        let mut estimator = estimator().with_window(16);
        for _ in 0..1000 {
            estimator.observe(10.0);
        }
        for _ in 0..64 {
            estimator.observe(30.0);
        }
        assert!(
            (estimator.mean() - 30.0).abs() < 0.5,
            "{}",
            estimator.mean()
        );
    }

    #[test]
    fn invalid_observations_are_ignored() {
        let prior = estimator();
        let mut estimator = prior;
        for nonsense in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            estimator.observe(nonsense);
        }
        assert_eq!(estimator, prior);
        assert!(Estimator::new(1.0, 1e200, 1.0).is_err());
        assert!(Estimator::new(1.0, 1.0, 0.0).is_err());
        assert!(Estimator::new(f64::NAN, 1.0, 1.0).is_err());
    }
}
