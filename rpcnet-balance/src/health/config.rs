//! Configuration of outlier detection and of the backoff of unreachable endpoints.

use std::time::Duration;

use crate::BackoffRange;

/// Configuration of an [`OutlierDetector`](super::OutlierDetector). Everything is on by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthConfig {
    pub(super) outlier_detection: Option<OutlierConfig>,
    pub(super) unreachable_backoff: Option<BackoffRange>,
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
    /// Everything on, at its defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            outlier_detection: Some(OutlierConfig::new()),
            unreachable_backoff: Some(BackoffRange {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(10),
            }),
            panic_threshold_percent: 50,
        }
    }

    /// Everything off: no endpoint is ever flagged.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            outlier_detection: None,
            unreachable_backoff: None,
            panic_threshold_percent: 0,
        }
    }

    /// Sets how outliers are detected, and for how long they are ejected.
    #[must_use]
    pub const fn with_outlier_detection(mut self, outliers: OutlierConfig) -> Self {
        self.outlier_detection = Some(outliers);
        self
    }

    /// Switches outlier detection off: no endpoint is ejected, however often it fails.
    #[must_use]
    pub const fn without_outlier_detection(mut self) -> Self {
        self.outlier_detection = None;
        self
    }

    /// Sets the backoff of an unreachable endpoint; default 100 ms to 10 s, with a jitter of a
    /// fifth. A shorter time finds an endpoint that is back sooner and tries one that is not more
    /// often.
    #[must_use]
    pub const fn with_unreachable_backoff(mut self, range: BackoffRange) -> Self {
        self.unreachable_backoff = Some(range);
        self
    }

    /// Switches the backoff off: endpoints are picked also when they are unreachable.
    #[must_use]
    pub const fn without_unreachable_backoff(mut self) -> Self {
        self.unreachable_backoff = None;
        self
    }

    /// Sets the panic threshold: in a group of which less than this percentage is neither
    /// unreachable nor ejected, ejections are ignored (Envoy's panic mode). Default 50 %. With a
    /// higher one, the remaining endpoints are less likely to be overwhelmed, and more calls fail
    /// at those that were ejected for a reason. 0: never.
    #[must_use]
    pub const fn with_panic_threshold_percent(mut self, percent: u32) -> Self {
        self.panic_threshold_percent = percent;
        self
    }
}

/// Configuration of outlier detection: how outliers are found, and for how long they are ejected.
///
/// The rules and defaults are those of gRPC's proposal A50, with ejection after consecutive
/// failures added and one change: no ejection brings the number of ejected endpoints above the
/// limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierConfig {
    pub(super) interval: Duration,
    pub(super) ejection_time: Duration,
    pub(super) ejection_time_max: Duration,
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
    /// Every rule on, at its defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            interval: Duration::from_secs(10),
            ejection_time: Duration::from_secs(30),
            ejection_time_max: Duration::from_secs(300),
            ejected_percent_max: 10,
            consecutive_failures: 5,
            success_rate: Some(SuccessRate::new()),
            failure_percentage: Some(FailurePercentage::new()),
        }
    }

    /// Sets how often rates are compared; default 10 s. Each comparison covers the requests since
    /// the last one. A shorter interval acts sooner, and finds fewer endpoints with enough
    /// requests.
    #[must_use]
    pub const fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the duration of the first ejection; default 30 s. Each further ejection is longer by
    /// it; every interval without ejection takes one back.
    #[must_use]
    pub const fn with_ejection_time(mut self, base: Duration) -> Self {
        self.ejection_time = base;
        self
    }

    /// Sets the maximum duration of an ejection; default 300 s. One below the duration of the first
    /// ejection counts as equal to it.
    #[must_use]
    pub const fn with_ejection_time_max(mut self, max: Duration) -> Self {
        self.ejection_time_max = max;
        self
    }

    /// Sets the maximum percentage of endpoints that are ejected at a time; default 10 %, and one
    /// in any case unless it is the only one.
    #[must_use]
    pub const fn with_ejected_percent_max(mut self, percent: u32) -> Self {
        self.ejected_percent_max = percent;
        self
    }

    /// Sets how many consecutive failures eject an endpoint at once; default 5. 0 switches the rule
    /// off.
    #[must_use]
    pub const fn with_consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// Sets the success rate rule, which ejects endpoints whose success rate is much lower than
    /// that of the others; `None` switches it off.
    #[must_use]
    pub const fn with_success_rate(mut self, rule: Option<SuccessRate>) -> Self {
        self.success_rate = rule;
        self
    }

    /// Sets the failure percentage rule, which ejects endpoints of whose requests too many fail;
    /// `None` switches it off.
    #[must_use]
    pub const fn with_failure_percentage(mut self, rule: Option<FailurePercentage>) -> Self {
        self.failure_percentage = rule;
        self
    }
}

/// Success rate rule: ejects an endpoint whose success rate is below mean - factor * standard
/// deviation of all.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SuccessRate {
    /// The number of standard deviations below the mean; default 1.9.
    pub deviations: f64,
    /// The number of endpoints with enough requests that a comparison needs; default 5.
    pub hosts_min: usize,
    /// The number of requests in an interval that are enough; default 100.
    pub requests_min: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self::new()
    }
}

impl SuccessRate {
    /// The rule with the defaults of A50.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deviations: 1.9,
            hosts_min: 5,
            requests_min: 100,
        }
    }

    /// Sets the number of standard deviations below the mean.
    #[must_use]
    pub const fn with_deviations(mut self, deviations: f64) -> Self {
        self.deviations = deviations;
        self
    }

    /// Sets the number of endpoints, and of requests of each, that a comparison needs.
    #[must_use]
    pub const fn with_minimum(mut self, hosts: usize, requests: u32) -> Self {
        (self.hosts_min, self.requests_min) = (hosts, requests);
        self
    }
}

/// Failure percentage rule: ejects an endpoint of whose requests more than a percentage failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailurePercentage {
    /// The percentage; default 85.
    pub percent: u32,
    /// The number of endpoints with enough requests that the rule needs; default 5.
    pub hosts_min: usize,
    /// The number of requests in an interval that are enough; default 50.
    pub requests_min: u32,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self::new()
    }
}

impl FailurePercentage {
    /// The rule with the defaults of A50.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            percent: 85,
            hosts_min: 5,
            requests_min: 50,
        }
    }

    /// Sets the percentage above which an endpoint is ejected.
    #[must_use]
    pub const fn with_percent(mut self, percent: u32) -> Self {
        self.percent = percent;
        self
    }

    /// Sets the number of endpoints, and of requests of each, that the rule needs.
    #[must_use]
    pub const fn with_minimum(mut self, hosts: usize, requests: u32) -> Self {
        (self.hosts_min, self.requests_min) = (hosts, requests);
        self
    }
}
