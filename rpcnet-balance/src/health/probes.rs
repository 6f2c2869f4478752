//! Calls that are let through to see how a marked endpoint does.

use std::time::Duration;

use super::{APART, Action, Actions, Outliers, Reason, sweep};
use crate::{Endpoint, Marks, Outcome, OutcomeKind, PickContext, Time, View, backoff::HOLD_MAX};

/// A call that is let through to a marked endpoint. Tells it from others; see [`Outliers::probe`].
#[derive(Debug, PartialEq, Eq)]
pub struct Probe {
    claim: u64,
}

/// Half-open.
impl Outliers {
    /// A marked endpoint that the next call shall go to as a probe, if there is one whose time is over; the others wait
    /// until its outcome is told, or for about the time that it was passed over. Not one that drains, has no weight, is gone or is excluded.
    pub fn probe(&self, view: &View, cx: &PickContext<'_>) -> Option<(usize, Probe)> {
        let probed = Marks::UNREACHABLE | Marks::EJECTED;
        let relaxed = cx.with_heeded(cx.heeded().without(probed));
        view.endpoints()
            .iter()
            .enumerate()
            .filter(|(_, endpoint)| !endpoint.marks().and(probed).is_empty())
            .filter(|(_, endpoint)| endpoint.marks().and(APART).is_empty())
            .filter(|(_, endpoint)| relaxed.allows(endpoint))
            .find_map(|(index, endpoint)| {
                let lease = self.lease(endpoint);
                let claim = endpoint.health().claim_probe(cx.now(), lease)?;
                self.changed();
                self.counters.probes.add_one();
                Some((index, Probe { claim }))
            })
    }

    /// The probe has ended. Success takes the marks away.
    pub fn on_probed(&self, endpoint: &Endpoint, probe: &Probe, outcome: &Outcome) -> Actions {
        match outcome.kind {
            OutcomeKind::Success | OutcomeKind::Answering => {
                let reachable = self.on_outcome(endpoint, outcome);
                Actions::new(reachable, self.reinstate(outcome.now, endpoint))
            }
            OutcomeKind::Failure | OutcomeKind::Unreachable => {
                self.counters.probes_failed.add_one();
                Actions::new(self.deny(endpoint, outcome), None)
            }
            OutcomeKind::Overloaded => {
                // There is a way to it; whether it works is not known yet.
                let reachable = self.note_reachable(outcome.now, endpoint);
                let wait = outcome.retry_after.unwrap_or(OVERLOADED_WAIT).min(HOLD_MAX);
                self.release(endpoint, probe, outcome.now + wait);
                Actions::new(reachable, None)
            }
            OutcomeKind::Refused => {
                // There is a way to it; whether it works is for another call to find out.
                let reachable = self.note_reachable(outcome.now, endpoint);
                self.release(endpoint, probe, outcome.now + REFUSED_WAIT);
                Actions::new(reachable, None)
            }
            OutcomeKind::Abandoned => {
                self.release(endpoint, probe, outcome.now);
                Actions::default()
            }
        }
    }

    /// The probe was given up without an outcome: another may go from `at` on.
    pub fn release(&self, endpoint: &Endpoint, probe: &Probe, at: Time) {
        if endpoint.health().release_probe(probe.claim, at) {
            self.changed();
        }
    }

    /// The probe failed: the time begins anew, longer.
    fn deny(&self, endpoint: &Endpoint, outcome: &Outcome) -> Option<Action> {
        let (marks, record) = (endpoint.marks(), endpoint.health());
        let missed = outcome.kind == OutcomeKind::Unreachable || marks.contains(Marks::UNREACHABLE);
        if let (true, Some(range)) = (missed, self.config.down_time) {
            let before = record.missed();
            let probe_in = self.down_time(range, before);
            record.set_probe_at(outcome.now + probe_in);
            let marked = endpoint.mark(Marks::UNREACHABLE);
            self.changed();
            if !marked.contains(Marks::UNREACHABLE) {
                self.counters.marked_unreachable.add_one();
            }
            return Some(Action::Unreachable {
                endpoint: endpoint.id(),
                failures: before.saturating_add(1),
                probe_in,
            });
        }
        let config = self.config.outliers.as_ref()?;
        if !marks.contains(Marks::EJECTED) {
            // News took the mark away meanwhile: a failure like any other.
            return self.on_outcome(endpoint, outcome);
        }
        let before = record.ejected();
        let probe_in = sweep::ejection_time(config, before);
        record.set_probe_at(outcome.now + probe_in);
        self.changed();
        Some(Action::Ejected {
            endpoint: endpoint.id(),
            reason: Reason::ProbeFailed,
            times: before.saturating_add(1),
            probe_in,
        })
    }

    /// For how long a probe may keep others waiting.
    fn lease(&self, endpoint: &Endpoint) -> Duration {
        let base = self.config.outliers.map(|config| config.ejection_time.0);
        match base {
            Some(base) if endpoint.marks().contains(Marks::EJECTED) => base,
            _ => self
                .config
                .down_time
                .map_or(LEASE_MIN, |(_, max)| max)
                .max(LEASE_MIN),
        }
    }
}

/// Until an endpoint that refused its probe for want of capacity, and did not say when to come back, gets another.
const OVERLOADED_WAIT: Duration = Duration::from_secs(1);

/// Until an endpoint that refused its probe before running it gets another.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// However short the times are for which endpoints are passed over.
const LEASE_MIN: Duration = Duration::from_secs(1);
