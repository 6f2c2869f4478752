//! Workers that refuse requests before running them, and when they are asked again.

use std::time::Duration;

use crate::{OutcomeKind, Time};

/// Workers that refused a request before running it, as a client remembers them: calls pass them over, and one is sent there as
/// a probe now and then.
#[derive(Debug, Default)]
pub(super) struct RefusingWorkers {
    /// In ascending order.
    ids: Vec<u64>,
    /// When the next probe of each is due, and how long after it the one after that.
    probes: Vec<(Time, Duration)>,
}

impl RefusingWorkers {
    /// The ids of the workers that are passed over, in ascending order.
    pub(super) fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// What came of an attempt.
    pub(super) fn on_outcome(&mut self, now: Time, id: u64, kind: OutcomeKind) {
        match (kind, self.ids.binary_search(&id)) {
            (OutcomeKind::Refused, Err(place)) => {
                self.ids.insert(place, id);
                let probe = (now + PROBE_AFTER_MIN, 2 * PROBE_AFTER_MIN);
                self.probes.insert(place, probe);
            }
            (OutcomeKind::Success, Ok(_)) => self.forget(id),
            _ => {}
        }
    }

    /// The worker is another one now, or serves such requests.
    pub(super) fn forget(&mut self, id: u64) {
        if let Ok(place) = self.ids.binary_search(&id) {
            self.ids.remove(place);
            self.probes.remove(place);
        }
    }

    /// The worker that a call of now shall probe, if one is due that it has not tried.
    pub(super) fn claim_probe(&mut self, now: Time, tried: &[u64]) -> Option<u64> {
        let mut all = self.ids.iter().zip(&mut self.probes);
        let (id, (at, wait)) = all.find(|(id, (at, _))| now >= *at && !tried.contains(id))?;
        *at = now + *wait;
        *wait = (2 * *wait).min(PROBE_AFTER_MAX);
        Some(*id)
    }
}

/// As `rpcnet-client` has it.
const PROBE_AFTER_MIN: Duration = Duration::from_secs(5);
const PROBE_AFTER_MAX: Duration = Duration::from_secs(300);
