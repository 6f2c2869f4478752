//! Counts of sent datagrams by kind, for the checkers of the simulation.

use std::ops::Sub;

use super::{DetectorHooks, Engine, Phase};
use crate::time::Time;
use crate::wire::Payload;

/// Datagrams that a node has sent, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentByKind {
    /// Hellos of a node that tries to join, or looks for another cluster of its name.
    pub hellos: u64,
    /// Requests and pages of full state transfers and syncs.
    pub pages: u64,
    /// Everything else.
    pub others: u64,
}

impl Sub for SentByKind {
    type Output = Self;

    /// Counts after those of `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            hellos: self.hellos - earlier.hellos,
            pages: self.pages - earlier.pages,
            others: self.others - earlier.others,
        }
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Counts of sent datagrams.
    pub fn sent_by_kind(&self) -> SentByKind {
        self.instruments.sent_by_kind
    }

    pub(super) fn record_sent(&mut self, payload: &Payload) {
        *match payload {
            Payload::Hello { .. } => &mut self.instruments.sent_by_kind.hellos,
            // One for each hello, which is counted at its sender: a thousand may come at once.
            Payload::Challenge { .. }
            | Payload::Welcome(_)
            | Payload::HelloRefused { .. }
            | Payload::JoinRefused { .. } => return,
            Payload::SyncDigest { .. }
            | Payload::SyncSummary(_)
            | Payload::SyncPull { .. }
            | Payload::SyncRecords { .. }
            | Payload::FullPull { .. }
            | Payload::FullPage { .. } => &mut self.instruments.sent_by_kind.pages,
            _ => &mut self.instruments.sent_by_kind.others,
        } += 1;
    }

    /// Whether this node has something to gossip or to ask for, beside its probes.
    pub fn has_pending_work(&self, now: Time) -> bool {
        let alone = self.table.live().is_empty();
        // Alone, the gossip queue is not sent.
        (!self.gossip_queue.is_empty() && !alone)
            || self.anti_entropy.pull.is_some()
            || self.phase != Phase::Active
            || self.is_syncing(now)
    }
}
