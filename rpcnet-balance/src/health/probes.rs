//! Calls that are let through to see how a marked endpoint does.

use std::time::Duration;

use super::{EjectionReason, HealthChange, HealthChanges, NOT_COUNTED, OutlierDetector, sweep};
use crate::{
    Endpoint, ExclusionFlags, Outcome, OutcomeKind, PickContext, Time, View, backoff::BACKOFF_MAX,
};

/// A call that is let through to a marked endpoint. Tells it from others; see [`OutlierDetector::probe`].
#[derive(Debug, PartialEq, Eq)]
pub struct Probe {
    claim: u64,
}

/// Half-open.
impl OutlierDetector {
    /// A marked endpoint that the next call shall go to as a probe, if there is one whose time is over; the others wait
    /// until its outcome is told, or for about the time that it was passed over. Not one that drains, has no weight, is gone or is excluded.
    pub fn probe(&self, view: &View, cx: &PickContext<'_>) -> Option<(usize, Probe)> {
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
                let claim = endpoint.health_record().claim_probe(cx.now(), lease)?;
                self.bump_version();
                self.counters.probes.add_one();
                Some((index, Probe { claim }))
            })
    }

    /// The probe has ended. Success takes the marks away.
    pub fn on_probe_outcome(
        &self,
        endpoint: &Endpoint,
        probe: &Probe,
        outcome: &Outcome,
    ) -> HealthChanges {
        match outcome.kind {
            OutcomeKind::Success | OutcomeKind::StreamStarted => {
                let reachable = self.on_outcome(endpoint, outcome);
                HealthChanges::new(reachable, self.reinstate(outcome.now, endpoint))
            }
            OutcomeKind::Failure | OutcomeKind::Unreachable => {
                self.counters.probes_failed.add_one();
                HealthChanges::new(self.on_probe_failed(endpoint, outcome), None)
            }
            OutcomeKind::Overloaded => {
                // There is a way to it; whether it works is not known yet.
                let reachable = self.on_reachable(outcome.now, endpoint);
                let wait = outcome
                    .retry_after
                    .unwrap_or(PROBE_AFTER_OVERLOADED)
                    .min(BACKOFF_MAX);
                self.release_probe(endpoint, probe, outcome.now + wait);
                HealthChanges::new(reachable, None)
            }
            OutcomeKind::Refused => {
                // There is a way to it; whether it works is for another call to find out.
                let reachable = self.on_reachable(outcome.now, endpoint);
                self.release_probe(endpoint, probe, outcome.now + PROBE_AFTER_REFUSED);
                HealthChanges::new(reachable, None)
            }
            OutcomeKind::Cancelled => {
                self.release_probe(endpoint, probe, outcome.now);
                HealthChanges::default()
            }
        }
    }

    /// The probe was given up without an outcome: another may go from `at` on.
    pub fn release_probe(&self, endpoint: &Endpoint, probe: &Probe, at: Time) {
        if endpoint.health_record().release_probe(probe.claim, at) {
            self.bump_version();
        }
    }

    /// The probe failed: the time begins anew, longer.
    fn on_probe_failed(&self, endpoint: &Endpoint, outcome: &Outcome) -> Option<HealthChange> {
        let (marks, record) = (endpoint.flags(), endpoint.health_record());
        let missed =
            outcome.kind == OutcomeKind::Unreachable || marks.contains(ExclusionFlags::UNREACHABLE);
        if let (true, Some(range)) = (missed, self.config.unreachable_backoff) {
            let before = record.on_unreachable();
            let probe_in = self.unreachable_backoff(range, before);
            record.set_probe_at(outcome.now + probe_in);
            let marked = endpoint.set_flags(ExclusionFlags::UNREACHABLE);
            self.bump_version();
            if !marked.contains(ExclusionFlags::UNREACHABLE) {
                self.counters.marked_unreachable.add_one();
            }
            return Some(HealthChange::Unreachable {
                endpoint: endpoint.id(),
                failures: before.saturating_add(1),
                probe_in,
            });
        }
        let config = self.config.outlier_detection.as_ref()?;
        if !marks.contains(ExclusionFlags::EJECTED) {
            // News took the mark away meanwhile: a failure like any other.
            return self.on_outcome(endpoint, outcome);
        }
        let before = record.on_ejected();
        let probe_in = sweep::ejection_time(config, before);
        record.set_probe_at(outcome.now + probe_in);
        self.bump_version();
        Some(HealthChange::Ejected {
            endpoint: endpoint.id(),
            reason: EjectionReason::ProbeFailed,
            ejection_count: before.saturating_add(1),
            probe_in,
        })
    }

    /// For how long a probe may keep others waiting.
    fn lease(&self, endpoint: &Endpoint) -> Duration {
        let base = self
            .config
            .outlier_detection
            .map(|config| config.ejection_time.0);
        match base {
            Some(base) if endpoint.flags().contains(ExclusionFlags::EJECTED) => base,
            _ => self
                .config
                .unreachable_backoff
                .map_or(LEASE_MIN, |(_, max)| max)
                .max(LEASE_MIN),
        }
    }
}

/// Until an endpoint that refused its probe for want of capacity, and did not say when to come back, gets another.
const PROBE_AFTER_OVERLOADED: Duration = Duration::from_secs(1);

/// Until an endpoint that refused its probe before running it gets another.
const PROBE_AFTER_REFUSED: Duration = Duration::from_secs(1);

/// However short the times are for which endpoints are passed over.
const LEASE_MIN: Duration = Duration::from_secs(1);
