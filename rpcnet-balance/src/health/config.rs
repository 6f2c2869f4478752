//! What is watched, and how strictly.

use std::time::Duration;

/// What [`OutlierDetector`](super::OutlierDetector) watches. Everything is on by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthConfig {
    pub(super) outlier_detection: Option<OutlierConfig>,
    pub(super) unreachable_backoff: Option<(Duration, Duration)>,
    pub(super) panic_threshold_percent: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl From<OutlierConfig> for HealthConfig {
    fn from(outliers: OutlierConfig) -> Self {
        Self::new().with_outlier_detection(outliers)
    }
}

impl HealthConfig {
    /// Everything, at its defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            outlier_detection: Some(OutlierConfig::new()),
            unreachable_backoff: Some((Duration::from_millis(100), Duration::from_secs(10))),
            panic_threshold_percent: 50,
        }
    }

    /// Nothing is ever marked.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            outlier_detection: None,
            unreachable_backoff: None,
            panic_threshold_percent: 0,
        }
    }

    /// How those that fail more often than others are found, and for how long they are ejected.
    #[must_use]
    pub const fn with_outlier_detection(mut self, outliers: OutlierConfig) -> Self {
        self.outlier_detection = Some(outliers);
        self
    }

    /// No endpoint is ejected, however often it fails.
    #[must_use]
    pub const fn without_outlier_detection(mut self) -> Self {
        self.outlier_detection = None;
        self
    }

    /// For how long an endpoint is passed over to which there is no connection: after the first failure, default 100 ms,
    /// doubled with each in a row up to a maximum, default 10 s; a random fifth more or less. A shorter time finds one that
    /// is back sooner and knocks more often at one that is not.
    #[must_use]
    pub fn with_unreachable_backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.unreachable_backoff = Some((initial, max.max(initial)));
        self
    }

    /// Endpoints are picked also when there is no connection to them.
    #[must_use]
    pub const fn without_unreachable_backoff(mut self) -> Self {
        self.unreachable_backoff = None;
        self
    }

    /// In a group of which less than this part is neither unreachable nor ejected, ejections are not heeded. Default 50 %.
    /// With a higher one, the endpoints that are left are less likely to be overwhelmed, and more calls fail at those that
    /// were ejected for a reason. 0: never.
    #[must_use]
    pub const fn with_panic_threshold_percent(mut self, percent: u32) -> Self {
        self.panic_threshold_percent = percent;
        self
    }
}

/// How those that fail more often than the others are found, and for how long they are ejected.
///
/// The rules and defaults are those of gRPC's proposal A50, with ejection after failures in a row added and one change: no
/// ejection brings the ejected above the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierConfig {
    pub(super) interval: Duration,
    pub(super) ejection_time: (Duration, Duration),
    pub(super) ejected_percent_max: u32,
    pub(super) consecutive_failures: u32,
    pub(super) success_rate: Option<SuccessRate>,
    pub(super) failure_percentage: Option<FailurePercentage>,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl OutlierConfig {
    /// Everything, at its defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            interval: Duration::from_secs(10),
            ejection_time: (Duration::from_secs(30), Duration::from_secs(300)),
            ejected_percent_max: 10,
            consecutive_failures: 5,
            success_rate: Some(SuccessRate::new()),
            failure_percentage: Some(FailurePercentage::new()),
        }
    }

    /// How often rates are compared; default 10 s. Each time those since the last time. A shorter interval acts sooner, and
    /// finds fewer endpoints with enough requests.
    #[must_use]
    pub const fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// For how long one is ejected the first time, default 30 s, and the most, default 300 s. Each further time it is so much
    /// longer as the first; every interval without ejection takes one back.
    #[must_use]
    pub fn with_ejection_time(mut self, base: Duration, max: Duration) -> Self {
        self.ejection_time = (base, max.max(base));
        self
    }

    /// How many may be ejected at a time, of all; default 10 %, and one in any case unless it is the only one.
    #[must_use]
    pub const fn with_ejected_percent_max(mut self, percent: u32) -> Self {
        self.ejected_percent_max = percent;
        self
    }

    /// How many failures in a row eject an endpoint at once; default 5. 0: any number is borne.
    #[must_use]
    pub const fn with_consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// Ejects those whose success rate is much lower than that of the others; `None`: no such comparison.
    #[must_use]
    pub const fn with_success_rate(mut self, rule: Option<SuccessRate>) -> Self {
        self.success_rate = rule;
        self
    }

    /// Ejects those of whose requests more than a part fails; `None`: whatever part is borne.
    #[must_use]
    pub const fn with_failure_percentage(mut self, rule: Option<FailurePercentage>) -> Self {
        self.failure_percentage = rule;
        self
    }
}

/// Ejects an endpoint whose success rate is below mean - factor * standard deviation of all.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SuccessRate {
    /// How many standard deviations below the mean; default 1.9.
    pub deviations: f64,
    /// How many endpoints with enough requests there must be for a comparison; default 5.
    pub hosts_min: usize,
    /// How many requests are enough in an interval; default 100.
    pub requests_min: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self::new()
    }
}

impl SuccessRate {
    /// The defaults of A50.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deviations: 1.9,
            hosts_min: 5,
            requests_min: 100,
        }
    }

    /// How many standard deviations below the mean.
    #[must_use]
    pub const fn with_deviations(mut self, deviations: f64) -> Self {
        self.deviations = deviations;
        self
    }

    /// How many endpoints with how many requests each there must be for a comparison.
    #[must_use]
    pub const fn with_minimum(mut self, hosts: usize, requests: u32) -> Self {
        (self.hosts_min, self.requests_min) = (hosts, requests);
        self
    }
}

/// Ejects an endpoint of whose requests more than a part failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailurePercentage {
    /// The part, in percent; default 85.
    pub percent: u32,
    /// How many endpoints with enough requests there must be; default 5.
    pub hosts_min: usize,
    /// How many requests are enough in an interval; default 50.
    pub requests_min: u32,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self::new()
    }
}

impl FailurePercentage {
    /// The defaults of A50.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            percent: 85,
            hosts_min: 5,
            requests_min: 50,
        }
    }

    /// More than this part, in percent.
    #[must_use]
    pub const fn with_percent(mut self, percent: u32) -> Self {
        self.percent = percent;
        self
    }

    /// How many endpoints with how many requests each there must be.
    #[must_use]
    pub const fn with_minimum(mut self, hosts: usize, requests: u32) -> Self {
        (self.hosts_min, self.requests_min) = (hosts, requests);
        self
    }
}
