//! The members: who is live, in which order to probe them, and the hash of the view.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::entry::Entry;
#[cfg(feature = "sim")]
use super::inspect::{Change, Standing};
use crate::event::MemberState;
use crate::time::Time;
use crate::wire::BUCKETS;

/// Every member but this node, by key.
#[derive(Debug)]
pub(crate) struct Table {
    /// Boxed, as a tree's leaves are half empty.
    members: BTreeMap<u64, Box<Entry>>,
    /// Keys of the live, in the order of probing: before the cursor they had their turn.
    live: Vec<u64>,
    cursor: usize,
    /// The live, by address: a newer life there takes the place of an older one.
    by_addr: HashMap<SocketAddr, u64>,
    /// The failed and the left, by the time they went.
    gone: BTreeSet<(Time, u64)>,
    own_key: u64,
    own_version: u64,
    buckets: Box<[u64; BUCKETS]>,
    /// Of the last change of the view.
    changed_at: Time,
    /// Each change of a member, for the simulation's checkers.
    #[cfg(feature = "sim")]
    pub(super) trail: Option<Vec<Change>>,
}

impl Table {
    pub(crate) fn new(own_key: u64) -> Self {
        Self {
            members: BTreeMap::new(),
            live: Vec::new(),
            cursor: 0,
            by_addr: HashMap::new(),
            gone: BTreeSet::new(),
            own_key,
            own_version: 0,
            buckets: Box::new([0; BUCKETS]),
            changed_at: Time::ZERO,
            #[cfg(feature = "sim")]
            trail: None,
        }
    }

    /// Counts this node itself into the view.
    pub(crate) fn set_own_version(&mut self, now: Time, epoch: u64, incarnation: u32) {
        let version = version(self.own_key, epoch, incarnation);
        *self.bucket(self.own_key) ^= self.own_version ^ version;
        self.own_version = version;
        self.changed_at = now;
    }

    /// Adds a live member at a random place of the probing order that is still to come, so that
    /// its first probe does not wait for a whole pass (SWIM section 4.3).
    pub(crate) fn insert(&mut self, now: Time, key: u64, mut entry: Entry, rng: &mut Rng) {
        debug_assert!(key != self.own_key && entry.state == MemberState::Alive);
        #[cfg(feature = "sim")]
        self.leave_trail(key, self.get(key).map(Standing::of), Standing::of(&entry));
        self.remove(key);
        self.enlist(key, &mut entry);
        *self.bucket(key) ^= version(key, entry.epoch, entry.incarnation);
        self.members.insert(key, Box::new(entry));
        self.changed_at = now;
        let last = self.live.len() - 1;
        let place = rng.usize(self.cursor.min(last)..=last);
        self.swap_live(place, last);
    }

    /// Changes an entry and keeps all that is derived from it true.
    ///
    /// # Panics
    /// If there is no such member.
    pub(crate) fn update<R>(
        &mut self,
        now: Time,
        key: u64,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> R {
        let mut entry = self.members.remove(&key).expect("the caller found it");
        let before = entry.state;
        #[cfg(feature = "sim")]
        let standing = Standing::of(&entry);
        self.strike(key, &entry);
        let result = change(&mut entry);
        #[cfg(feature = "sim")]
        self.leave_trail(key, Some(standing), Standing::of(&entry));
        if entry.state != before {
            entry.since = now;
        }
        match (before.is_live(), entry.state.is_live()) {
            (true, false) => self.delist(entry.live_at),
            (false, true) => self.enlist(key, &mut entry),
            _ => {}
        }
        if entry.state.is_live() {
            *self.bucket(key) ^= version(key, entry.epoch, entry.incarnation);
            self.by_addr.insert(entry.addr, key);
        }
        if !entry.state.is_live() {
            self.gone.insert((entry.since, key));
        }
        self.members.insert(key, entry);
        self.changed_at = now;
        result
    }

    /// Forgets a member.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Entry> {
        let entry = self.members.remove(&key)?;
        self.strike(key, &entry);
        if entry.state.is_live() {
            self.delist(entry.live_at);
        }
        Some(*entry)
    }

    /// The next member of the shuffled round robin (SWIM section 4.3).
    pub(crate) fn next_probe(&mut self, rng: &mut Rng) -> Option<u64> {
        if self.cursor >= self.live.len() {
            rng.shuffle(&mut self.live);
            for at in 0..self.live.len() {
                self.note_place(at);
            }
            self.cursor = 0;
        }
        let key = self.live.get(self.cursor).copied()?;
        self.cursor += 1;
        Some(key)
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Entry> {
        self.members.get(&key).map(Box::as_ref)
    }

    /// For what is not derived from: evidence, suspicion, replay window.
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut Entry> {
        self.members.get_mut(&key).map(Box::as_mut)
    }

    pub(crate) fn at_addr(&self, addr: SocketAddr) -> Option<u64> {
        self.by_addr.get(&addr).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.members
            .iter()
            .map(|(key, entry)| (*key, entry.as_ref()))
    }

    /// How many members there are, failed and left ones too.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn live(&self) -> &[u64] {
        &self.live
    }

    /// How many members went missing at `from` or later. Of several that lived at one address one
    /// after the other, the last one counts: if it left, nobody is missing there.
    pub(crate) fn missing_since(&self, from: Time) -> usize {
        let gone = self
            .gone
            .range((from, 0)..)
            .map(|(_, key)| &self.members[key]);
        let mut last: HashMap<SocketAddr, &Entry> = HashMap::new();
        for entry in gone.filter(|entry| !self.by_addr.contains_key(&entry.addr)) {
            let known = last.entry(entry.addr).or_insert(entry);
            if entry.epoch > known.epoch {
                *known = entry;
            }
        }
        last.values()
            .filter(|entry| entry.state == MemberState::Failed)
            .count()
    }

    /// The failed members that may come back, the longest gone first.
    pub(crate) fn missing(&self) -> impl Iterator<Item = u64> {
        self.gone
            .iter()
            .map(|(_, key)| *key)
            .filter(|key| self.is_missing(*key))
    }

    /// Members that failed or left at `until` or before.
    pub(crate) fn gone_before(&self, until: Time) -> Vec<u64> {
        self.gone
            .iter()
            .take_while(|(since, _)| *since <= until)
            .map(|(_, key)| *key)
            .collect()
    }

    /// Whether any member failed or left and is remembered.
    pub(crate) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// The nth live member after `own_key` on the ring of keys.
    pub(crate) fn successor(&self, nth: usize) -> Option<u64> {
        let after = self.members.range(self.own_key..);
        let before = self.members.range(..self.own_key);
        after
            .chain(before)
            .filter(|(_, e)| e.state.is_live())
            .map(|(key, _)| *key)
            .nth(nth)
    }

    /// The live members of a range of keys, with their versions.
    pub(crate) fn versions(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut versions: Vec<_> = self
            .live_from(first)
            .take_while(|(key, _)| *key <= last)
            .map(|(key, e)| (key, version(key, e.epoch, e.incarnation)))
            .collect();
        if (first..=last).contains(&self.own_key) {
            let place = versions.partition_point(|(key, _)| *key < self.own_key);
            versions.insert(place, (self.own_key, self.own_version));
        }
        versions
    }

    /// The live members from a key on.
    pub(crate) fn live_from(&self, first: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.members
            .range(first..)
            .filter(|(_, e)| e.state.is_live())
            .map(|(k, e)| (*k, e.as_ref()))
    }

    /// Hash of who is live, with which epoch and incarnation; equal views have equal hashes.
    pub(crate) fn view(&self) -> u64 {
        self.buckets.iter().fold(0, |all, bucket| all ^ bucket)
    }

    /// The same from the members alone: to check that it was kept true.
    #[cfg(feature = "sim")]
    pub(crate) fn recomputed_view(&self) -> u64 {
        let live = self.members.iter().filter(|(_, e)| e.state.is_live());
        live.map(|(key, e)| version(*key, e.epoch, e.incarnation))
            .fold(self.own_version, |all, version| all ^ version)
    }

    pub(crate) fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    /// How long the view has been as it is.
    pub(crate) fn quiet_for(&self, now: Time) -> Duration {
        now.since(self.changed_at)
    }

    /// Failed, and nobody else lives at its address: one that was succeeded there is not cut off
    /// but gone.
    fn is_missing(&self, key: u64) -> bool {
        self.members.get(&key).is_some_and(|entry| {
            entry.state == MemberState::Failed && !self.by_addr.contains_key(&entry.addr)
        })
    }

    fn bucket(&mut self, key: u64) -> &mut u64 {
        &mut self.buckets[(key >> (64 - BUCKETS.ilog2())) as usize]
    }

    /// Takes out of the derived what [`Table::update`] puts in again.
    fn strike(&mut self, key: u64, entry: &Entry) {
        if entry.state.is_live() {
            *self.bucket(key) ^= version(key, entry.epoch, entry.incarnation);
            if self.by_addr.get(&entry.addr) == Some(&key) {
                self.by_addr.remove(&entry.addr);
            }
        }
        if !entry.state.is_live() {
            self.gone.remove(&(entry.since, key));
        }
    }

    #[cfg(feature = "sim")]
    fn leave_trail(&mut self, key: u64, before: Option<Standing>, after: Standing) {
        if let Some(trail) = &mut self.trail {
            trail.push(Change { key, before, after });
        }
    }

    fn enlist(&mut self, key: u64, entry: &mut Entry) {
        entry.live_at = self.live.len() as u32;
        self.live.push(key);
        self.by_addr.insert(entry.addr, key);
    }

    /// Fills the gap so that nobody loses a turn or gets a second one.
    fn delist(&mut self, at: u32) {
        let mut gap = at as usize;
        if gap < self.cursor {
            self.cursor -= 1;
            self.swap_live(gap, self.cursor);
            gap = self.cursor;
        }
        self.live.swap_remove(gap);
        if gap < self.live.len() {
            self.note_place(gap);
        }
    }

    fn swap_live(&mut self, a: usize, b: usize) {
        self.live.swap(a, b);
        self.note_place(a);
        self.note_place(b);
    }

    fn note_place(&mut self, at: usize) {
        // The entry that is being changed is out of the map; its place is noted by the caller.
        if let Some(entry) = self.members.get_mut(&self.live[at]) {
            entry.live_at = at as u32;
        }
    }
}

/// One member's part of the view's hash.
fn version(key: u64, epoch: u64, incarnation: u32) -> u64 {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..16].copy_from_slice(&epoch.to_le_bytes());
    bytes[16..].copy_from_slice(&incarnation.to_le_bytes());
    xxh3_64_with_seed(&bytes, 0)
}

#[cfg(test)]
mod tests;
