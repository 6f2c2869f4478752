//! Capacity: which member is evicted when the table is full, and which newcomer is refused.
//!
//! A full table must keep no newcomer out for the sake of members that are gone or never were. Room
//! is made by forgetting the member that has been gone longest. If no member is gone, a newcomer
//! that proved that it receives at its address replaces a member that this node never heard itself,
//! of which it has only others' claims. A newcomer known by claims alone replaces no member.
//!
//! Of members that had one address, a few are kept, as the address index is bounded for each.

use std::net::SocketAddr;

use super::merge::RecordSource;
use super::{DetectorHooks, Engine, Entry, Sender};
use crate::error::JoinRefusal;
use crate::event::{Event, MemberState};
use crate::time::Time;
use crate::wire::Payload;

/// Evictions and refusals since the last report.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    reported_at: Option<Time>,
    evicted: u64,
    refused: u64,
}

impl<D: DetectorHooks> Engine<D> {
    /// Makes room for one more member if need be. Says whether there is room.
    pub(super) fn make_room(&mut self, now: Time, source: RecordSource) -> bool {
        if self.table.len() < self.config.members_max {
            return true;
        }
        // No member is forgotten during a partition, or a minority would become a majority.
        let gone = self
            .table
            .longest_gone(|key| !self.is_kept_for_partition(now, key));
        let found = match gone {
            None if source == RecordSource::Hello => self.table.find_unheard(),
            found => found,
        };
        let Some(key) = found else {
            self.stats.members_refused += 1;
            self.capacity.refused += 1;
            self.emit_table_full(now);
            return false;
        };
        self.evict(key);
        self.capacity.evicted += 1;
        self.emit_table_full(now);
        true
    }

    /// Changes a member that is at this address then, in whose bucket of the index it may be new.
    /// All changes of addresses go this way.
    pub(super) fn update_at<R>(
        &mut self,
        now: Time,
        key: u64,
        addr: SocketAddr,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> R {
        let entry = self.table.get(key);
        if entry.is_none_or(|entry| entry.addr() != addr) {
            self.evict_from_bucket(key, addr);
        }
        self.table.update(now, key, change)
    }

    /// Makes room at the address that `key` is about to get, which may have been that of many
    /// others.
    pub(super) fn evict_from_bucket(&mut self, key: u64, addr: SocketAddr) {
        if let Some(victim) = self.table.bucket_victim(key, addr) {
            self.evict(victim);
        }
    }

    /// Forgets a member to make room for another.
    fn evict(&mut self, key: u64) {
        let Some(entry) = self.forget(key) else {
            return;
        };
        self.stats.members_evicted += 1;
        if entry.state.is_live() {
            // A subscriber that was told that it joined has to hear that it is no longer a member.
            let mut member = entry.member();
            member.state = MemberState::Failed;
            self.emit(Event::NodeFailed(member));
        }
    }

    /// Forgets a member: the only way out of the table. The address of one that was gone stays in
    /// the address book.
    pub(super) fn forget(&mut self, key: u64) -> Option<Entry> {
        self.gossip_queue.remove(key);
        self.detector.on_member_removed(key);
        let entry = self.table.remove(key)?;
        if !entry.state.is_live() {
            self.join.remember_addr(entry.addr());
        }
        Some(entry)
    }

    /// Whether the sender of a merged hello is a member now. If not, it is told why.
    pub(super) fn is_admitted(&mut self, sender: Sender, name: &str) -> bool {
        let reason = match self.table.get(sender.key) {
            None if self.table.len() >= self.config.members_max => JoinRefusal::TableFull,
            Some(entry) if *entry.name != *name => JoinRefusal::NameCollision,
            // Another member has its address, or a newer instance of it is known: it tries again.
            None => JoinRefusal::NotAdmitted,
            Some(entry) if entry.epoch != sender.epoch => JoinRefusal::NotAdmitted,
            Some(_) => return true,
        };
        self.refuse_join(sender, reason);
        false
    }

    pub(super) fn refuse_join(&mut self, sender: Sender, reason: JoinRefusal) {
        let echo = sender.counter;
        self.reply(sender, Payload::JoinRefused { echo, reason });
    }

    /// Handles a seed's refusal to let this node in.
    pub(super) fn on_join_refused(&mut self, sender: Sender, echo: u64, reason: JoinRefusal) {
        if !self.join.accept_hello_answer(echo, sender.addr) {
            self.stats.dropped.unexpected += 1;
            return;
        }
        self.record_join_refusal(sender.addr, reason);
    }

    /// Stores why this node was refused, and emits it while this node has not joined.
    pub(super) fn record_join_refusal(&mut self, by: SocketAddr, reason: JoinRefusal) {
        let is_new = self.join.refusal.replace((by, reason)) != Some((by, reason));
        if is_new && !self.join.is_joined() {
            self.emit(Event::JoinRefused { by, reason });
        }
    }

    /// Last seed that answered and refused to let this node in, and why; none once it has joined.
    pub fn join_refusal(&self) -> Option<(SocketAddr, JoinRefusal)> {
        self.join.refusal.filter(|_| !self.join.is_joined())
    }

    /// Reports that the table is full, at most once in [`FULL_REPORT_ROUNDS`].
    fn emit_table_full(&mut self, now: Time) {
        let interval = FULL_REPORT_ROUNDS * self.config.probe_interval;
        let is_due = |at| now.since(at) >= interval;
        if self.capacity.reported_at.is_none_or(is_due) {
            let Capacity {
                evicted, refused, ..
            } = self.capacity;
            self.capacity = Capacity {
                reported_at: Some(now),
                ..Capacity::default()
            };
            self.emit(Event::TableFull {
                members: self.table.len(),
                evicted,
                refused,
            });
        }
    }
}

/// Time between two reports that the table is full, in probe intervals.
const FULL_REPORT_ROUNDS: u32 = 30;
