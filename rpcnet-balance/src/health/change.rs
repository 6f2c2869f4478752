//! What was done, and why.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Something was done about an endpoint, which is told by its id.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum HealthChange {
    /// There is no connection to it. Picks pass it over until a probe succeeds.
    Unreachable {
        /// Which one.
        endpoint: u64,
        /// How often in a row.
        failures: u32,
        /// How long until the next probe.
        probe_in: Duration,
    },
    /// There is a connection to it again, or reason to think so.
    Reachable {
        /// Which one.
        endpoint: u64,
    },
    /// It fails. Picks pass it over until a probe succeeds.
    Ejected {
        /// Which one.
        endpoint: u64,
        /// What it did.
        reason: EjectionReason,
        /// How often it was ejected recently.
        ejection_count: u32,
        /// How long until the next probe.
        probe_in: Duration,
    },
    /// The probe succeeded: it is picked again.
    Reinstated {
        /// Which one.
        endpoint: u64,
    },
    /// It says that it takes no new calls.
    Draining {
        /// Which one.
        endpoint: u64,
    },
    /// It takes calls again.
    Resumed {
        /// Which one.
        endpoint: u64,
    },
    /// So few of a group are well that ejections are not heeded in it.
    PanicBegan {
        /// How many are well.
        healthy: usize,
        /// Of how many.
        total: usize,
    },
    /// Enough of the group are well again.
    PanicEnded {
        /// How many are well.
        healthy: usize,
        /// Of how many.
        total: usize,
    },
}

impl HealthChange {
    /// The id of the endpoint that it is about, if it is about one.
    #[must_use]
    pub const fn endpoint(&self) -> Option<u64> {
        match self {
            Self::Unreachable { endpoint, .. }
            | Self::Reachable { endpoint }
            | Self::Ejected { endpoint, .. }
            | Self::Reinstated { endpoint }
            | Self::Draining { endpoint }
            | Self::Resumed { endpoint } => Some(*endpoint),
            Self::PanicBegan { .. } | Self::PanicEnded { .. } => None,
        }
    }
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum EjectionReason {
    /// So many failures in a row.
    ConsecutiveFailures(u32),
    /// Its success rate is too far below that of the others. Rates are 0 to 1.
    SuccessRate {
        /// Its own.
        rate: f64,
        /// That of all, on average.
        mean: f64,
        /// Below this, one is ejected.
        threshold: f64,
    },
    /// Too large a part of its requests failed.
    FailurePercentage {
        /// The part, in percent.
        percent: u32,
    },
    /// The probe failed after an ejection.
    ProbeFailed,
}

impl fmt::Display for EjectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(count) => write!(f, "{count} failures in a row"),
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

/// Up to two actions: one call may say that an endpoint is reachable and works.
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

/// What was done so far, in numbers that only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthStats {
    /// Endpoints marked as unreachable.
    pub marked_unreachable: u64,
    /// Endpoints that could be reached again.
    pub marked_reachable: u64,
    /// Ejections after failures in a row.
    pub ejected_consecutive: u64,
    /// Ejections for a low success rate.
    pub ejected_success_rate: u64,
    /// Ejections because too large a part failed.
    pub ejected_failure_percentage: u64,
    /// Endpoints that deserved ejection and were spared, because as many as may be were ejected.
    pub ejections_overflow: u64,
    /// Ejections that ended.
    pub reinstated: u64,
    /// Calls let through to see whether a marked endpoint works.
    pub probes: u64,
    /// Those of them that failed.
    pub probes_failed: u64,
    /// How often a group had so few that were well that ejections were not heeded.
    pub panics: u64,
}

/// The counters behind [`HealthStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) marked_unreachable: Counter,
    pub(super) marked_reachable: Counter,
    pub(super) ejected_consecutive: Counter,
    pub(super) ejected_success_rate: Counter,
    pub(super) ejected_failure_percentage: Counter,
    pub(super) ejections_overflow: Counter,
    pub(super) reinstated: Counter,
    pub(super) probes: Counter,
    pub(super) probes_failed: Counter,
    pub(super) panics: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
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
            marked_unreachable: self.marked_unreachable.value(),
            marked_reachable: self.marked_reachable.value(),
            ejected_consecutive: self.ejected_consecutive.value(),
            ejected_success_rate: self.ejected_success_rate.value(),
            ejected_failure_percentage: self.ejected_failure_percentage.value(),
            ejections_overflow: self.ejections_overflow.value(),
            reinstated: self.reinstated.value(),
            probes: self.probes.value(),
            probes_failed: self.probes_failed.value(),
            panics: self.panics.value(),
        }
    }
}
