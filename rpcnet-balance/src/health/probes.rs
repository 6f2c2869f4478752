//! Probes: calls that are let through to find out whether a flagged endpoint has recovered.

use std::time::Duration;

use super::{EjectionReason, HealthChange, HealthChanges, NOT_COUNTED, OutlierDetector, sweep};
use crate::{
    BackoffRange, Endpoint, ExclusionFlags, Outcome, OutcomeKind, PickContext, Time, View,
    backoff::BACKOFF_MAX,
};

/// A call that is let through to a flagged endpoint. Identifies the probe; see
/// [`OutlierDetector::probe`].
#[derive(Debug, PartialEq, Eq)]
pub struct Probe {
    claim: u64,
}

/// Half-open state.
impl OutlierDetector {
    /// Claims a probe: the flagged endpoint that the next call shall go to, if the time of one is
    /// over. Other calls avoid it until the outcome of the probe is recorded, or for about the time
    /// of its backoff. Never an endpoint that drains, has no weight, is gone or is excluded, and
    /// none without the [time](PickContext::with_now) of the pick.
    pub fn probe(&self, view: &View, cx: &PickContext<'_>) -> Option<(usize, Probe)> {
        let now = cx.now()?;
        let probed = ExclusionFlags::UNREACHABLE | ExclusionFlags::EJECTED;
        let relaxed = cx.with_respected_flags(cx.respected_flags().without(probed));
        view.endpoints()
            .iter()
            .enumerate()
            .filter(|(_, endpoint)| !endpoint.flags().and(probed).is_empty())
            .filter(|(_, endpoint)| endpoint.flags().and(NOT_COUNTED).is_empty())
            .filter(|(_, endpoint)| relaxed.allows(endpoint))
            .find_map(|(index, endpoint)| {
                let lease = self.lease(endpoint);
                let claim = endpoint.health_record().claim_probe(now, lease)?;
                self.bump_version();
                self.counters.probes.add_one();
                Some((index, Probe { claim }))
            })
    }

    /// Records the outcome of a probe. Success clears the flags. An outcome without a
    /// [time](Outcome::now) is not recorded: the next probe is due when the lease of this one ends.
    pub fn on_probe_outcome(
        &self,
        endpoint: &Endpoint,
        probe: &Probe,
        outcome: &Outcome,
    ) -> HealthChanges {
        let Some(now) = outcome.now else {
            return HealthChanges::default();
        };
        match outcome.kind {
            OutcomeKind::Success | OutcomeKind::StreamStarted => {
                let reachable = self.on_outcome(endpoint, outcome);
                HealthChanges::new(reachable, self.reinstate(now, endpoint))
            }
            OutcomeKind::Failure | OutcomeKind::Unreachable => {
                self.counters.probes_failed.add_one();
                HealthChanges::new(self.on_probe_failed(now, endpoint, outcome), None)
            }
            OutcomeKind::Overloaded => {
                // The endpoint can be reached; whether it works is not known yet.
                let reachable = self.on_reachable(now, endpoint);
                let wait = outcome
                    .retry_after
                    .unwrap_or(PROBE_AFTER_OVERLOADED)
                    .min(BACKOFF_MAX);
                self.release_probe(endpoint, probe, now + wait);
                HealthChanges::new(reachable, None)
            }
            OutcomeKind::Refused => {
                // The endpoint can be reached; whether it works is for another call to find out.
                let reachable = self.on_reachable(now, endpoint);
                self.release_probe(endpoint, probe, now + PROBE_AFTER_REFUSED);
                HealthChanges::new(reachable, None)
            }
            OutcomeKind::Cancelled => {
                self.release_probe(endpoint, probe, now);
                HealthChanges::default()
            }
        }
    }

    /// Releases a probe that was given up without an outcome: another may be made from `at` on.
    pub fn release_probe(&self, endpoint: &Endpoint, probe: &Probe, at: Time) {
        if endpoint.health_record().release_probe(probe.claim, at) {
            self.bump_version();
        }
    }

    /// Records a failed probe: the time starts again, longer.
    fn on_probe_failed(
        &self,
        now: Time,
        endpoint: &Endpoint,
        outcome: &Outcome,
    ) -> Option<HealthChange> {
        let (flags, record) = (endpoint.flags(), endpoint.health_record());
        let missed =
            outcome.kind == OutcomeKind::Unreachable || flags.contains(ExclusionFlags::UNREACHABLE);
        if let (true, Some(range)) = (missed, self.config.unreachable_backoff) {
            let before = record.on_unreachable();
            let probe_in = self.unreachable_backoff(range, before);
            record.set_probe_at(now + probe_in);
            let before_flags = endpoint.set_flags(ExclusionFlags::UNREACHABLE);
            self.bump_version();
            if !before_flags.contains(ExclusionFlags::UNREACHABLE) {
                self.counters.flagged_unreachable.add_one();
            }
            return Some(HealthChange::Unreachable {
                endpoint: endpoint.id(),
                failures: before.saturating_add(1),
                probe_in,
            });
        }
        let config = self.config.outlier_detection.as_ref()?;
        if !flags.contains(ExclusionFlags::EJECTED) {
            // The flag was cleared meanwhile: a failure like any other.
            return self.on_outcome(endpoint, outcome);
        }
        let before = record.on_ejected();
        let probe_in = sweep::ejection_time(config, before);
        record.set_probe_at(now + probe_in);
        self.bump_version();
        Some(HealthChange::Ejected {
            endpoint: endpoint.id(),
            reason: EjectionReason::ProbeFailed,
            ejection_count: before.saturating_add(1),
            probe_in,
        })
    }

    /// The longest time that a probe may keep others waiting.
    fn lease(&self, endpoint: &Endpoint) -> Duration {
        let base = self
            .config
            .outlier_detection
            .map(|config| config.ejection_time);
        match base {
            Some(base) if endpoint.flags().contains(ExclusionFlags::EJECTED) => base,
            _ => self
                .config
                .unreachable_backoff
                .map_or(LEASE_MIN, BackoffRange::longest)
                .max(LEASE_MIN),
        }
    }
}

/// Time until the next probe of an endpoint that rejected its probe for lack of capacity, without a
/// retry-after time.
const PROBE_AFTER_OVERLOADED: Duration = Duration::from_secs(1);

/// Time until the next probe of an endpoint that refused its probe before running it.
const PROBE_AFTER_REFUSED: Duration = Duration::from_secs(1);

/// Lower bound of a lease, however short the backoffs are.
const LEASE_MIN: Duration = Duration::from_secs(1);
