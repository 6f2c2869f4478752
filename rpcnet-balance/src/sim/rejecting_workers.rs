//! Workers that reject requests before running them, and the times of their probes.

use std::time::Duration;

use crate::{OutcomeKind, Time};

/// Workers that rejected a request before running it, as a client remembers them: calls avoid them,
/// and one is sent as a probe now and then.
#[derive(Debug, Default)]
pub(super) struct RejectingWorkers {
    /// Ids in ascending order.
    ids: Vec<u64>,
    /// The time of the next probe of each, and the time from that to the one after.
    probes: Vec<(Time, Duration)>,
}

impl RejectingWorkers {
    /// The ids of the workers that are avoided, in ascending order.
    pub(super) fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Records the outcome of an attempt.
    pub(super) fn on_outcome(&mut self, now: Time, id: u64, kind: OutcomeKind) {
        match (kind, self.ids.binary_search(&id)) {
            (OutcomeKind::Rejected, Err(index)) => {
                self.ids.insert(index, id);
                let probe = (now + PROBE_AFTER_MIN, 2 * PROBE_AFTER_MIN);
                self.probes.insert(index, probe);
            }
            (OutcomeKind::Success, Ok(_)) => self.forget(id),
            _ => {}
        }
    }

    /// Removes a worker that is another process now, or serves such requests.
    pub(super) fn forget(&mut self, id: u64) {
        if let Ok(index) = self.ids.binary_search(&id) {
            self.ids.remove(index);
            self.probes.remove(index);
        }
    }

    /// Claims a due probe: the worker that this call shall go to, unless it has tried it.
    pub(super) fn claim_probe(&mut self, now: Time, tried: &[u64]) -> Option<u64> {
        let mut all = self.ids.iter().zip(&mut self.probes);
        let (id, (at, wait)) = all.find(|(id, (at, _))| now >= *at && !tried.contains(id))?;
        *at = now + *wait;
        *wait = (2 * *wait).min(PROBE_AFTER_MAX);
        Some(*id)
    }
}

/// Delays as in `rpcnet-registry`.
const PROBE_AFTER_MIN: Duration = Duration::from_secs(5);
const PROBE_AFTER_MAX: Duration = Duration::from_secs(300);
