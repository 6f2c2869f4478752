//! Outlier detector: flags endpoints by the outcomes of calls.

use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire},
};

use super::{EjectionReason, HealthChange, HealthConfig, HealthStats, change::HealthCounters};
use crate::{
    Endpoint, ExclusionFlags, Outcome, OutcomeKind, SuccessBatch, Time, View,
    atomic_time::AtomicTime, rng::SharedRng,
};

/// Outlier detector: flags endpoints by the outcomes of calls, and lets a call through now and then
/// to find out whether they have recovered.
///
/// One value observes all endpoints that are compared with each other, for as long as they live.
/// Its methods:
///
/// - [`set_view`](Self::set_view): the list of all endpoints, whenever it changes.
/// - [`on_outcome`](Self::on_outcome), for every attempt: one or two atomic additions.
///   [`on_probe_outcome`](Self::on_probe_outcome) instead for those that were probes.
/// - [`on_reachable`](Self::on_reachable), [`on_unreachable`](Self::on_unreachable),
///   [`set_draining`](Self::set_draining): what was learned in other ways.
/// - [`claim_sweep`](Self::claim_sweep) and [`sweep`](Self::sweep): the comparison of all, some
///   seconds apart. The caller that gets `true` from the first does the second; asking is one
///   atomic read.
/// - A [`GroupHealth`](super::GroupHealth) for each group that is picked from, and
///   [`probe`](Self::probe) when it says that one is due.
///
/// All may be called from many threads at once, with times that are not quite in order. An outcome
/// without a time is not recorded, as a flag is set until some time. None locks, and only `sweep`
/// allocates.
#[derive(Debug)]
pub struct OutlierDetector {
    pub(super) config: HealthConfig,
    pub(super) random: SharedRng,
    /// The number of endpoints, and of those that are ejected.
    pub(super) population: AtomicUsize,
    pub(super) ejected: AtomicUsize,
    /// Time of the next sweep; none before the first attempt.
    pub(super) sweep_at: AtomicTime,
    /// Rises when a flag or the time of a probe changes.
    version: AtomicU64,
    pub(super) counters: HealthCounters,
}

impl OutlierDetector {
    /// A detector with this config. The seed is for the jitter of backoffs, so that many clients do
    /// not come back all at once.
    #[must_use]
    pub fn seeded(config: impl Into<HealthConfig>, seed: u64) -> Self {
        Self {
            config: config.into(),
            random: SharedRng::seeded(seed),
            population: AtomicUsize::new(0),
            ejected: AtomicUsize::new(0),
            sweep_at: AtomicTime::none(),
            version: AtomicU64::new(0),
            counters: HealthCounters::default(),
        }
    }

    /// The config.
    #[must_use]
    pub const fn config(&self) -> &HealthConfig {
        &self.config
    }

    /// Counters of what was done so far.
    #[must_use]
    pub fn stats(&self) -> HealthStats {
        self.counters.stats()
    }

    /// Sets the list of all endpoints. Without this, none is ejected before the first sweep.
    pub fn set_view(&self, view: &View) {
        self.recount(view);
        self.bump_version();
    }

    /// Records the outcome of an attempt that was no probe. An attempt that was given up without an
    /// outcome is not recorded, nor is an outcome without a [time](Outcome::now).
    #[inline]
    pub fn on_outcome(&self, endpoint: &Endpoint, outcome: &Outcome) -> Option<HealthChange> {
        let now = outcome.now?;
        match outcome.kind {
            OutcomeKind::Success | OutcomeKind::StreamStarted => {
                self.record_successes(now, endpoint, 1)
            }
            OutcomeKind::Failure => {
                let config = self.config.outlier_detection.as_ref()?;
                let failures = endpoint.health_record().on_failure();
                if config.consecutive_failures == 0 || failures < config.consecutive_failures {
                    return None;
                }
                let reason = EjectionReason::ConsecutiveFailures(failures);
                self.eject(config, now, endpoint, reason)
            }
            OutcomeKind::Unreachable => self.flag_unreachable(now, endpoint),
            // The balancer respects its load. Counted as a failure, its calls would go to others
            // and overload them.
            OutcomeKind::Overloaded => None,
            // Says nothing about whether the endpoint works.
            OutcomeKind::Rejected => None,
            // The caller did not wait for it.
            OutcomeKind::Cancelled => None,
        }
    }

    /// Records successes of attempts of which none was a probe, like
    /// [`on_outcome`](Self::on_outcome) for each.
    pub fn on_successes(&self, endpoint: &Endpoint, batch: &SuccessBatch) -> Option<HealthChange> {
        let now = batch.now().filter(|_| !batch.is_empty())?;
        self.record_successes(now, endpoint, batch.count())
    }

    #[inline]
    fn record_successes(&self, now: Time, endpoint: &Endpoint, count: u32) -> Option<HealthChange> {
        if self.config.outlier_detection.is_some() {
            endpoint.health_record().on_successes(count);
        }
        // Rarely it is flagged; an ejected endpoint has to pass its probe.
        if endpoint.flags().contains(ExclusionFlags::UNREACHABLE) {
            return self.on_reachable(now, endpoint);
        }
        None
    }

    /// Sets whether the endpoint drains. Applied whatever the config says, as the endpoint said so
    /// itself.
    pub fn set_draining(&self, endpoint: &Endpoint, draining: bool) -> Option<HealthChange> {
        let before = if draining {
            endpoint.set_flags(ExclusionFlags::DRAINING)
        } else {
            endpoint.clear_flags(ExclusionFlags::DRAINING)
        };
        if before.contains(ExclusionFlags::DRAINING) == draining {
            return None;
        }
        self.bump_version();
        let endpoint = endpoint.id();
        Some(if draining {
            HealthChange::Draining { endpoint }
        } else {
            HealthChange::Resumed { endpoint }
        })
    }

    /// Rises when a flag or the time of a probe changes.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    pub(super) fn bump_version(&self) {
        self.version.fetch_add(1, AcqRel);
    }
}

impl Default for OutlierDetector {
    /// A detector with everything on, and a constant seed.
    fn default() -> Self {
        Self::seeded(HealthConfig::new(), 0)
    }
}
