//! Configuration of a detector.

use core::time::Duration;

use crate::ModelKind;

/// Configuration of a [`PhiDetector`](crate::PhiDetector): threshold, arrival model, prior, window.
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
    /// Sets the phi from which the peer is suspect. Default 8.0: wrong once in 10^8 heartbeats.
    ///
    /// A larger value gives fewer false alarms and later true ones. Must be above zero.
    #[must_use]
    pub fn with_threshold(mut self, phi: f64) -> Self {
        self.threshold = phi;
        self
    }

    /// Sets the model of arrivals. Default [`ModelKind::Normal`].
    #[must_use]
    pub fn with_model(mut self, model: ModelKind) -> Self {
        self.model = model;
        self
    }

    /// Sets the expected time between heartbeats before anything was observed. Default one second.
    ///
    /// The prior counts as four heartbeats. A mean below the peer's real period makes a young
    /// detector suspect a living peer; a mean above it makes the detector slow. Must be above zero.
    #[must_use]
    pub fn with_prior_mean(mut self, mean: Duration) -> Self {
        self.prior_mean = mean;
        self
    }

    /// Sets the expected deviation of that time before anything was observed. Default 250 ms.
    ///
    /// With a larger value a young detector forgives longer pauses and is slower. Must be above
    /// zero.
    #[must_use]
    pub fn with_prior_deviation(mut self, deviation: Duration) -> Self {
        self.prior_deviation = deviation;
        self
    }

    /// Sets the smallest deviation that the detector assumes, however regular the peer is. Default
    /// 50 ms.
    ///
    /// A larger value forgives longer pauses; under [`ModelKind::Normal`] the peer is suspect (at
    /// 8.0) no earlier than 5.6 times this value after the mean. Must be above zero.
    #[must_use]
    pub fn with_deviation_min(mut self, deviation: Duration) -> Self {
        self.deviation_min = deviation;
        self
    }

    /// Sets how many intervals the estimate remembers. Default 64, at least 2.
    ///
    /// A larger value is steadier and slower to follow a changed period. It costs no memory.
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
