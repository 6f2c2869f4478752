//! Push/pull: the full state to a random member and its full state back, as memberlist does over
//! TCP; here page by page in datagrams.

use std::time::Duration;

use super::super::entry::Entry;
use super::super::{Engine, Phase, Sender};
use crate::event::MemberState;
use crate::time::Time;
use crate::wire::{Payload, Record};

/// When the next one is due.
#[derive(Debug, Default)]
pub(super) struct PushPull {
    due: Option<Time>,
}

impl PushPull {
    pub(super) fn next(&self) -> Option<Time> {
        self.due
    }
}

impl Engine {
    pub(super) fn push_pull_if_due(&mut self, now: Time) {
        let due = self.rival.push_pull.due;
        if due.is_some_and(|due| due > now) {
            return;
        }
        let stagger = match due {
            Some(_) => Duration::ZERO,
            // Nodes that start together do not exchange together.
            None => PUSH_PULL_INTERVAL.mul_f64(self.rng.f64()),
        };
        self.rival.push_pull.due = Some(now + stagger + push_pull_interval(self.live_count()));
        if due.is_none() || self.phase != Phase::Active {
            return;
        }
        let partner = self.sample_live(1, |_, entry| entry.state == MemberState::Alive);
        let Some(entry) = partner.first().and_then(|key| self.table.get(*key)) else {
            return;
        };
        self.stats.syncs += 1;
        let (addr, life) = (entry.addr(), entry.instance(partner[0]));
        for records in self.full_state() {
            self.send(addr, life, Payload::SyncRecords { records });
        }
        // No keys stand for all of them.
        let keys = Vec::new();
        self.send(addr, life, Payload::SyncPull { keys });
    }

    /// The other half: our state for theirs.
    pub(in crate::engine) fn answer_push_pull(&mut self, sender: Sender) {
        for records in self.full_state() {
            self.reply(sender, Payload::SyncRecords { records });
        }
    }

    /// Everything known of everybody, in pages.
    fn full_state(&self) -> Vec<Vec<Record>> {
        let members = self.table.iter().map(|(_, entry)| Entry::record(entry));
        let records = std::iter::once(self.own_record()).chain(members);
        self.pack(records, 0, usize::MAX)
    }
}

/// memberlist's `pushPullScale`: the larger the cluster, the rarer.
pub(super) fn push_pull_interval(live: usize) -> Duration {
    if live <= PUSH_PULL_SCALES_FROM {
        return PUSH_PULL_INTERVAL;
    }
    let doublings = (live as f64).log2() - (PUSH_PULL_SCALES_FROM as f64).log2();
    PUSH_PULL_INTERVAL * (doublings.ceil() as u32 + 1)
}

const PUSH_PULL_INTERVAL: Duration = Duration::from_secs(30);
const PUSH_PULL_SCALES_FROM: usize = 32;
