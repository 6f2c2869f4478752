//! Health changes: what outlier detection did, and why; and their statistics.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Change of the health of an endpoint, which is named by its id, or of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum HealthChange {
    /// A connection to the endpoint failed. Picks avoid it until a probe succeeds.
    Unreachable {
        /// The id of the endpoint.
        endpoint: u64,
        /// The number of consecutive failures to connect.
        failures: u32,
        /// The time until the next probe.
        probe_in: Duration,
    },
    /// The endpoint can be reached again, or is believed to be.
    Reachable {
        /// The id of the endpoint.
        endpoint: u64,
    },
    /// The endpoint is ejected as an outlier. Picks avoid it until a probe succeeds.
    Ejected {
        /// The id of the endpoint.
        endpoint: u64,
        /// The reason of the ejection.
        reason: EjectionReason,
        /// The number of recent ejections, including this one.
        ejection_count: u32,
        /// The time until the next probe.
        probe_in: Duration,
    },
    /// The ejection ended, as the probe succeeded: the endpoint is picked again.
    Unejected {
        /// The id of the endpoint.
        endpoint: u64,
    },
    /// The endpoint drains: it takes no new calls.
    Draining {
        /// The id of the endpoint.
        endpoint: u64,
    },
    /// The endpoint takes calls again after a drain.
    Resumed {
        /// The id of the endpoint.
        endpoint: u64,
    },
    /// Panic mode began: so few endpoints of a group are healthy that ejections are ignored in it.
    PanicBegan {
        /// The number of healthy endpoints.
        healthy: usize,
        /// The number of endpoints that count.
        total: usize,
    },
    /// Panic mode ended: enough endpoints of the group are healthy again.
    PanicEnded {
        /// The number of healthy endpoints.
        healthy: usize,
        /// The number of endpoints that count.
        total: usize,
    },
}

impl HealthChange {
    /// The id of the endpoint that changed; `None` for a change of a group.
    #[must_use]
    pub const fn endpoint(&self) -> Option<u64> {
        match self {
            Self::Unreachable { endpoint, .. }
            | Self::Reachable { endpoint }
            | Self::Ejected { endpoint, .. }
            | Self::Unejected { endpoint }
            | Self::Draining { endpoint }
            | Self::Resumed { endpoint } => Some(*endpoint),
            Self::PanicBegan { .. } | Self::PanicEnded { .. } => None,
        }
    }
}

/// Reason of an ejection.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum EjectionReason {
    /// This many consecutive failures.
    ConsecutiveFailures(u32),
    /// Success rate too far below that of the others. Rates are 0 to 1.
    SuccessRate {
        /// The success rate of the endpoint.
        rate: f64,
        /// The mean success rate of all endpoints.
        mean: f64,
        /// The threshold below which an endpoint is ejected.
        threshold: f64,
    },
    /// Failure percentage too high.
    FailurePercentage {
        /// The failed requests, in percent.
        percent: u32,
    },
    /// The probe after an ejection failed.
    ProbeFailed,
}

impl fmt::Display for EjectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(count) => write!(f, "{count} consecutive failures"),
            Self::SuccessRate {
                rate,
                mean,
                threshold,
            } => write!(
                f,
                "success rate {rate:.3} below {threshold:.3}, on average {mean:.3}"
            ),
            Self::FailurePercentage { percent } => write!(f, "{percent} % of its requests failed"),
            Self::ProbeFailed => f.write_str("the probe failed"),
        }
    }
}

/// Health changes of one call, up to two: it may show that an endpoint is reachable and that it
/// works.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HealthChanges([Option<HealthChange>; 2]);

impl HealthChanges {
    pub(super) fn new(first: Option<HealthChange>, second: Option<HealthChange>) -> Self {
        Self([first, second])
    }
}

impl Iterator for HealthChanges {
    type Item = HealthChange;

    fn next(&mut self) -> Option<HealthChange> {
        let [first, second] = &mut self.0;
        first.take().or_else(|| second.take())
    }
}

/// Counters of what outlier detection did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthStats {
    /// Endpoints flagged as unreachable.
    pub flagged_unreachable: u64,
    /// Endpoints that could be reached again.
    pub cleared_unreachable: u64,
    /// Ejections after consecutive failures.
    pub ejected_consecutive: u64,
    /// Ejections for a low success rate.
    pub ejected_success_rate: u64,
    /// Ejections for a high failure percentage.
    pub ejected_failure_percentage: u64,
    /// Ejections that were not made, because the maximum number was ejected already.
    pub ejections_overflow: u64,
    /// Ejections that ended.
    pub unejected: u64,
    /// Calls let through to find out whether a flagged endpoint works.
    pub probes: u64,
    /// Probes that failed.
    pub probes_failed: u64,
    /// Transitions of groups into panic mode.
    pub panics: u64,
}

/// The counters behind [`HealthStats`].
#[derive(Debug, Default)]
pub(super) struct HealthCounters {
    pub(super) flagged_unreachable: HealthCounter,
    pub(super) cleared_unreachable: HealthCounter,
    pub(super) ejected_consecutive: HealthCounter,
    pub(super) ejected_success_rate: HealthCounter,
    pub(super) ejected_failure_percentage: HealthCounter,
    pub(super) ejections_overflow: HealthCounter,
    pub(super) unejected: HealthCounter,
    pub(super) probes: HealthCounter,
    pub(super) probes_failed: HealthCounter,
    pub(super) panics: HealthCounter,
}

#[derive(Debug, Default)]
pub(super) struct HealthCounter(AtomicU64);

impl HealthCounter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl HealthCounters {
    pub(super) fn count_ejection(&self, reason: EjectionReason) {
        match reason {
            EjectionReason::ConsecutiveFailures(_) => self.ejected_consecutive.add_one(),
            EjectionReason::SuccessRate { .. } => self.ejected_success_rate.add_one(),
            EjectionReason::FailurePercentage { .. } => self.ejected_failure_percentage.add_one(),
            // Counted as a probe.
            EjectionReason::ProbeFailed => {}
        }
    }

    pub(super) fn stats(&self) -> HealthStats {
        HealthStats {
            flagged_unreachable: self.flagged_unreachable.value(),
            cleared_unreachable: self.cleared_unreachable.value(),
            ejected_consecutive: self.ejected_consecutive.value(),
            ejected_success_rate: self.ejected_success_rate.value(),
            ejected_failure_percentage: self.ejected_failure_percentage.value(),
            ejections_overflow: self.ejections_overflow.value(),
            unejected: self.unejected.value(),
            probes: self.probes.value(),
            probes_failed: self.probes_failed.value(),
            panics: self.panics.value(),
        }
    }
}
