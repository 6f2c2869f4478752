//! The knobs of a detector.

use core::time::Duration;

use crate::ModelKind;

/// How a [`PhiDetector`](crate::PhiDetector) judges silence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhiConfig {
    pub(crate) threshold: f64,
    pub(crate) model: ModelKind,
    pub(crate) prior_mean: Duration,
    pub(crate) prior_deviation: Duration,
    pub(crate) deviation_min: Duration,
    pub(crate) window: u32,
}

impl PhiConfig {
    /// The phi from which the peer is suspect. Default 8.0: wrong once in 10^8 heartbeats.
    ///
    /// Larger: fewer false alarms, later true ones. Must be above zero.
    #[must_use]
    pub fn with_threshold(mut self, phi: f64) -> Self {
        self.threshold = phi;
        self
    }

    /// The model of arrivals. Default [`ModelKind::Normal`].
    #[must_use]
    pub fn with_model(mut self, model: ModelKind) -> Self {
        self.model = model;
        self
    }

    /// What is expected before anything was observed: the time between heartbeats and its deviation. Default one second
    /// and 250 ms.
    ///
    /// The prior counts as four heartbeats. A mean below the peer's real period makes a young detector accuse a living
    /// peer; one above makes it slow. Both must be above zero.
    #[must_use]
    pub fn with_prior(mut self, mean: Duration, deviation: Duration) -> Self {
        self.prior_mean = mean;
        self.prior_deviation = deviation;
        self
    }

    /// The deviation that is assumed at least, however regular the peer. Default 50 ms.
    ///
    /// Larger: forgives longer hiccups; under [`ModelKind::Normal`] the peer is suspect (at 8.0) no earlier than 5.6 times
    /// this after the mean. Must be above zero.
    #[must_use]
    pub fn with_deviation_min(mut self, deviation: Duration) -> Self {
        self.deviation_min = deviation;
        self
    }

    /// How many intervals are remembered. Default 64, at least 2.
    ///
    /// Larger: steadier, slower to follow a changed rhythm. Costs no memory.
    #[must_use]
    pub fn with_window(mut self, intervals: u32) -> Self {
        self.window = intervals;
        self
    }
}

impl Default for PhiConfig {
    fn default() -> Self {
        Self {
            threshold: 8.0,
            model: ModelKind::Normal,
            prior_mean: Duration::from_secs(1),
            prior_deviation: Duration::from_millis(250),
            deviation_min: Duration::from_millis(50),
            window: 64,
        }
    }
}
