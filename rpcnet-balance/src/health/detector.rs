//! Outlier detector: flags endpoints by the outcomes of calls.

use std::{
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    time::Duration,
};

use super::{
    EjectionReason, HealthChange, HealthConfig, HealthStats, OutlierConfig, change::HealthCounters,
    sweep,
};
use crate::{
    BackoffRange, Endpoint, ExclusionFlags, Outcome, OutcomeKind, Time, View,
    atomic_time::AtomicTime,
    rng::{SharedRng, unit_f64},
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
    random: SharedRng,
    /// The number of endpoints, and of those that are ejected.
    population: AtomicUsize,
    ejected: AtomicUsize,
    /// Time of the next sweep; none before the first attempt.
    sweep_at: AtomicTime,
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
    pub fn on_outcome(&self, endpoint: &Endpoint, outcome: &Outcome) -> Option<HealthChange> {
        let now = outcome.now?;
        match outcome.kind {
            OutcomeKind::Success | OutcomeKind::StreamStarted => {
                if self.config.outlier_detection.is_some() {
                    endpoint.health_record().on_success();
                }
                // Rarely it is flagged; an ejected endpoint has to pass its probe.
                if endpoint.flags().contains(ExclusionFlags::UNREACHABLE) {
                    return self.on_reachable(now, endpoint);
                }
                None
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
            OutcomeKind::Unreachable => self.on_unreachable(now, endpoint),
            // The balancer respects its load. Counted as a failure, its calls would go to others
            // and overload them.
            OutcomeKind::Overloaded => None,
            // Says nothing about whether the endpoint works.
            OutcomeKind::Refused => None,
            // The caller did not wait for it.
            OutcomeKind::Cancelled => None,
        }
    }

    /// Records that a connection to the endpoint failed or broke. Changes nothing while it is
    /// flagged already.
    pub fn on_unreachable(&self, now: Time, endpoint: &Endpoint) -> Option<HealthChange> {
        let range = self.config.unreachable_backoff?;
        if endpoint.flags().contains(ExclusionFlags::UNREACHABLE) {
            return None;
        }
        // The time is set first: a thread that sees the flag finds it.
        let record = endpoint.health_record();
        let before = record.on_unreachable();
        let probe_in = self.unreachable_backoff(range, before);
        record.defer_probe(now + probe_in);
        if endpoint
            .set_flags(ExclusionFlags::UNREACHABLE)
            .contains(ExclusionFlags::UNREACHABLE)
        {
            return None;
        }
        self.bump_version();
        self.counters.flagged_unreachable.add_one();
        Some(HealthChange::Unreachable {
            endpoint: endpoint.id(),
            failures: before.saturating_add(1),
            probe_in,
        })
    }

    /// Records that the endpoint can be reached or is known to be healthy. From now on it is
    /// [ready](Endpoint::set_ready).
    pub fn on_reachable(&self, now: Time, endpoint: &Endpoint) -> Option<HealthChange> {
        if !endpoint.flags().contains(ExclusionFlags::UNREACHABLE) {
            return None;
        }
        endpoint.health_record().on_reachable();
        let before = endpoint.clear_flags(ExclusionFlags::UNREACHABLE);
        if !before.contains(ExclusionFlags::UNREACHABLE) {
            return None;
        }
        if !before.contains(ExclusionFlags::EJECTED) {
            endpoint.health_record().cancel_probe();
        }
        endpoint.set_ready(now);
        self.bump_version();
        self.counters.cleared_unreachable.add_one();
        Some(HealthChange::Reachable {
            endpoint: endpoint.id(),
        })
    }

    /// Requests a probe of a flagged endpoint by the next call: there is a reason to expect that it
    /// is healthy, and no proof. Its flags stay, and its consecutive failures are not reset.
    pub fn request_probe(&self, now: Time, endpoint: &Endpoint) {
        let probed = ExclusionFlags::UNREACHABLE | ExclusionFlags::EJECTED;
        if !endpoint.flags().and(probed).is_empty() {
            endpoint.health_record().set_probe_at(now);
            self.bump_version();
        }
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

    /// Whether a [`sweep`](Self::sweep) is due and the caller is the one to do it.
    #[must_use]
    pub fn claim_sweep(&self, now: Time) -> bool {
        let due = self.sweep_at.get();
        if due.is_some_and(|due| now < due) {
            return false;
        }
        let Some(config) = &self.config.outlier_detection else {
            return false;
        };
        let claimed = self.sweep_at.replace(due, Some(now + config.interval));
        // The first interval has only begun.
        claimed && due.is_some()
    }

    /// Compares the endpoints by their outcomes since the last sweep, and ejects the outliers.
    /// `view` is all of them.
    pub fn sweep(&self, now: Time, view: &View) -> Vec<HealthChange> {
        self.recount(view);
        let Some(config) = &self.config.outlier_detection else {
            return Vec::new();
        };
        let tallies: Vec<_> = view
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.health_record().take_interval_counts())
            .collect();
        let mut changes = Vec::new();
        for (index, reason) in sweep::find_outliers(config, &tallies) {
            changes.extend(self.eject(config, now, &view[index], reason));
        }
        for endpoint in view.endpoints() {
            if !endpoint.flags().contains(ExclusionFlags::EJECTED) {
                endpoint.health_record().on_quiet_interval();
            }
        }
        changes
    }

    /// Rises when a flag or the time of a probe changes.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    pub(super) fn bump_version(&self) {
        self.version.fetch_add(1, AcqRel);
    }

    /// Ejects the endpoint, unless it is ejected or the maximum is reached.
    fn eject(
        &self,
        config: &OutlierConfig,
        now: Time,
        endpoint: &Endpoint,
        reason: EjectionReason,
    ) -> Option<HealthChange> {
        if endpoint.flags().contains(ExclusionFlags::EJECTED) {
            return None;
        }
        let limit = sweep::ejected_max(config, self.population.load(Relaxed));
        let room = |ejected: usize| (ejected < limit).then_some(ejected + 1);
        if self.ejected.fetch_update(Relaxed, Relaxed, room).is_err() {
            self.counters.ejections_overflow.add_one();
            // The count starts again, so that not every further failure is counted.
            endpoint.health_record().reset_consecutive_failures();
            return None;
        }
        let record = endpoint.health_record();
        let before = record.on_ejected();
        let probe_in = sweep::ejection_time(config, before);
        record.defer_probe(now + probe_in);
        if endpoint
            .set_flags(ExclusionFlags::EJECTED)
            .contains(ExclusionFlags::EJECTED)
        {
            self.count_one_less_ejected();
            return None;
        }
        record.reset_consecutive_failures();
        self.bump_version();
        self.counters.count_ejection(reason);
        Some(HealthChange::Ejected {
            endpoint: endpoint.id(),
            reason,
            ejection_count: before.saturating_add(1),
            probe_in,
        })
    }

    pub(super) fn reinstate(&self, now: Time, endpoint: &Endpoint) -> Option<HealthChange> {
        if !endpoint
            .clear_flags(ExclusionFlags::EJECTED)
            .contains(ExclusionFlags::EJECTED)
        {
            return None;
        }
        endpoint.health_record().reset_consecutive_failures();
        endpoint.health_record().cancel_probe();
        endpoint.set_ready(now);
        self.count_one_less_ejected();
        self.bump_version();
        self.counters.reinstated.add_one();
        Some(HealthChange::Reinstated {
            endpoint: endpoint.id(),
        })
    }

    /// Counts the endpoints and the ejected ones: ejected endpoints may have gone, or recovered
    /// while the view changed. Where other threads eject meanwhile, the next count is right.
    fn recount(&self, view: &View) {
        self.population.store(view.len(), Relaxed);
        let before = self.ejected.load(Relaxed);
        let ejected = view.endpoints().iter();
        let ejected = ejected.filter(|endpoint| endpoint.flags().contains(ExclusionFlags::EJECTED));
        let _ = self
            .ejected
            .compare_exchange(before, ejected.count(), Relaxed, Relaxed);
    }

    fn count_one_less_ejected(&self) {
        let less = |ejected: usize| ejected.checked_sub(1);
        let _ = self.ejected.fetch_update(Relaxed, Relaxed, less);
    }

    /// The initial backoff doubled `before` times, with a jitter of a fifth.
    pub(super) fn unreachable_backoff(&self, range: BackoffRange, before: u32) -> Duration {
        let full = range.after(before).min(UNREACHABLE_BACKOFF_MAX);
        let fraction = unit_f64(self.random.next());
        full.mul_f64(1.0 - JITTER + 2.0 * JITTER * fraction)
    }
}

impl Default for OutlierDetector {
    /// A detector with everything on, and a constant seed.
    fn default() -> Self {
        Self::seeded(HealthConfig::new(), 0)
    }
}

const JITTER: f64 = 0.2;

/// A century, so that the jitter still fits into a duration.
const UNREACHABLE_BACKOFF_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
