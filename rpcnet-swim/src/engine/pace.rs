//! Datagrams of a node by kind, for the simulation's checkers.

use std::ops::Sub;

use super::{Engine, Phase};
use crate::time::Time;
use crate::wire::Payload;

/// Datagrams that a node has sent, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Hellos: of a node that looks for a way in, or for another cluster of its name.
    pub(crate) hellos: u64,
    /// Requests and pages of the full state and of syncs.
    pub(crate) pages: u64,
    /// Everything else.
    pub(crate) others: u64,
}

impl Sub for Sent {
    type Output = Self;

    /// What came after `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            hellos: self.hellos - earlier.hellos,
            pages: self.pages - earlier.pages,
            others: self.others - earlier.others,
        }
    }
}

impl Engine {
    pub(crate) fn sent_by_kind(&self) -> Sent {
        self.sent
    }

    pub(super) fn note_sent(&mut self, payload: &Payload) {
        *match payload {
            Payload::Hello { .. } => &mut self.sent.hellos,
            // One for each hello, which is counted where it comes from: a thousand may come at once.
            Payload::Challenge { .. }
            | Payload::Welcome { .. }
            | Payload::Refused { .. }
            | Payload::JoinRefused { .. } => return,
            Payload::SyncDigest { .. }
            | Payload::SyncSummary(_)
            | Payload::SyncPull { .. }
            | Payload::SyncRecords { .. }
            | Payload::FullPull { .. }
            | Payload::FullPage { .. } => &mut self.sent.pages,
            _ => &mut self.sent.others,
        } += 1;
    }

    /// Whether this node has something to tell or to ask for, beside its probes.
    pub(crate) fn is_in_news(&self, now: Time) -> bool {
        let alone = self.table.live().is_empty();
        // Alone there is nobody to tell, so what waits does not go out.
        (!self.queue.is_empty() && !alone)
            || self.pull.is_some()
            || self.phase != Phase::Active
            || self.is_syncing(now)
    }
}

#[cfg(test)]
impl Engine {
    /// Sends more of one kind than there is a reason for.
    pub(crate) fn plant_sent(&mut self, kind: impl FnOnce(&mut Sent) -> &mut u64) {
        *kind(&mut self.sent) += 1_000;
    }
}
