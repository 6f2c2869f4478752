//! Unejection: a flagged endpoint comes back, or stays away for longer, by the outcome of a probe.

use std::time::Duration;

use super::{EjectionReason, HealthChange, HealthChanges, OutlierDetector, Probe, ejection};
use crate::{Endpoint, ExclusionFlags, Outcome, OutcomeKind, Time, backoff::BACKOFF_MAX};

/// Unejection.
impl OutlierDetector {
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
                HealthChanges::new(reachable, self.uneject(now, endpoint))
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
            OutcomeKind::Rejected => {
                // The endpoint can be reached; whether it works is for another call to find out.
                let reachable = self.on_reachable(now, endpoint);
                self.release_probe(endpoint, probe, now + PROBE_AFTER_REJECTED);
                HealthChanges::new(reachable, None)
            }
            OutcomeKind::Cancelled => {
                self.release_probe(endpoint, probe, now);
                HealthChanges::default()
            }
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
            return Some(self.on_probe_unreachable(now, endpoint, range));
        }
        let config = self.config.outlier_detection.as_ref()?;
        if !flags.contains(ExclusionFlags::EJECTED) {
            // The flag was cleared meanwhile: a failure like any other.
            return self.on_outcome(endpoint, outcome);
        }
        let before = record.on_ejected();
        let probe_in = ejection::ejection_time(config, before);
        record.set_probe_at(now + probe_in);
        self.bump_version();
        Some(HealthChange::Ejected {
            endpoint: endpoint.id(),
            reason: EjectionReason::ProbeFailed,
            ejection_count: before.saturating_add(1),
            probe_in,
        })
    }

    fn uneject(&self, now: Time, endpoint: &Endpoint) -> Option<HealthChange> {
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
        self.counters.unejected.add_one();
        Some(HealthChange::Unejected {
            endpoint: endpoint.id(),
        })
    }
}

/// Time until the next probe of an endpoint that rejected its probe for lack of capacity, without a
/// retry-after time.
const PROBE_AFTER_OVERLOADED: Duration = Duration::from_secs(1);

/// Time until the next probe of an endpoint that rejected its probe before running it.
const PROBE_AFTER_REJECTED: Duration = Duration::from_secs(1);
