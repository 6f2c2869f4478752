//! Member table: live and gone members, the order of probing, and the hash of the view.

mod address_index;
mod key_set;
mod tag_pool;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[cfg(test)]
pub(super) use self::address_index::BUCKET_MAX;
use self::key_set::KeySet;
use self::tag_pool::TagPool;
use super::entry::Entry;
use super::local_member::LocalMember;
use super::slab::Slab;
use super::work_counter::WorkCounter;
#[cfg(feature = "unstable")]
use super::{
    inspect::{MemberChange, MemberVersion},
    interner::Interner,
};
use crate::event::MemberState;
use crate::id::{key_hash, name_key};
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{DIGEST_BUCKETS, KnownMembers};

/// All members but this node, by key.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Slab<Entry>,
    /// Slot of every member, by the keyed hash of its key.
    slots: HashTable<u32>,
    /// Keys of the live members, and of the failed and left ones, in their order.
    ring: KeySet,
    gone: KeySet,
    /// Slots of the live, in the order of probing: those before the cursor had their turn.
    live: Vec<u32>,
    cursor: usize,
    /// Slot of every member, by the keyed hash of its address; see [`address_index`].
    by_addr: HashTable<u32>,
    /// Key of both hashes.
    hash_seed: u64,
    /// Start of the next search for a member that was never heard.
    unheard_from: u64,
    /// Failed and left members, by the time of that.
    gone_by_time: BTreeSet<(Time, u64)>,
    /// Missing members, by the time of their redial.
    redials_by_time: BTreeSet<(Time, u64)>,
    /// Number of members that went missing at this time or later.
    missing_count: (Time, usize),
    tag_pool: TagPool,
    own_key: u64,
    own_version: u64,
    buckets: Box<[u64; DIGEST_BUCKETS]>,
    /// All buckets together.
    view: u64,
    /// Time of the last change of the view.
    changed_at: Time,
    /// Counter of entries looked up and visited.
    pub(super) work: WorkCounter,
    /// Changes of members, for the checkers of the simulation.
    #[cfg(feature = "unstable")]
    pub(super) change_log: Option<Vec<MemberChange>>,
    /// Store of values that other engines share.
    #[cfg(feature = "unstable")]
    pub(super) interner: Option<Interner>,
}

impl Table {
    /// Empty table. `hash_seed` is a secret of the engine, of which nothing leaves the process:
    /// a peer that knows it can choose names and addresses that collide.
    pub(crate) fn new(own_key: u64, hash_seed: u64) -> Self {
        Self {
            entries: Slab::new(),
            slots: HashTable::new(),
            ring: KeySet::default(),
            gone: KeySet::default(),
            live: Vec::new(),
            cursor: 0,
            by_addr: HashTable::new(),
            hash_seed,
            unheard_from: 0,
            gone_by_time: BTreeSet::new(),
            redials_by_time: BTreeSet::new(),
            missing_count: (Time::ZERO, 0),
            tag_pool: TagPool::default(),
            own_key,
            own_version: 0,
            buckets: Box::new([0; DIGEST_BUCKETS]),
            view: 0,
            changed_at: Time::ZERO,
            work: WorkCounter::default(),
            #[cfg(feature = "unstable")]
            change_log: None,
            #[cfg(feature = "unstable")]
            interner: None,
        }
    }

    /// Key of the hashes, for the table that replaces this one.
    pub(crate) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// The same tags, in the copy that other members have if there is one.
    pub(crate) fn shared_tags(&mut self, tags: &Tags) -> Tags {
        self.tag_pool.share(tags)
    }

    /// Counts this node itself into the view.
    pub(crate) fn set_own_version(&mut self, now: Time, epoch: u64, incarnation: u32) {
        let version = version(self.own_key, epoch, incarnation);
        self.xor_into_view(self.own_key, self.own_version ^ version);
        self.own_version = version;
        self.changed_at = now;
    }

    /// Inserts a live member at a random position of the probing order that is still to come, so
    /// that its first probe does not wait for a whole pass (SWIM section 4.3).
    pub(crate) fn insert(&mut self, now: Time, key: u64, mut entry: Entry, rng: &mut Rng) {
        debug_assert!(key != self.own_key && entry.state == MemberState::Alive);
        #[cfg(feature = "unstable")]
        self.log_change(
            key,
            self.get(key).map(MemberVersion::of_entry),
            MemberVersion::of_entry(&entry),
        );
        self.remove(key);
        if entry.key != key {
            entry.info_mut().key = key;
        }
        let slot = self.entries.insert(entry);
        self.index_key(slot);
        self.add_live(slot);
        self.index(slot);
        self.changed_at = now;
        let last = self.live.len() - 1;
        let index = rng.usize(self.cursor.min(last)..=last);
        self.swap_live(index, last);
    }

    /// Changes an entry and updates all that is derived from it.
    ///
    /// # Panics
    /// If there is no such member.
    pub(crate) fn update<R>(
        &mut self,
        now: Time,
        key: u64,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> R {
        let slot = self.slot(key).expect("the caller found it");
        self.unindex(slot);
        let entry = &mut self.entries[slot];
        let before = entry.state;
        #[cfg(feature = "unstable")]
        let version = MemberVersion::of_entry(entry);
        let result = change(entry);
        let after = entry.state;
        #[cfg(feature = "unstable")]
        self.log_change(
            key,
            Some(version),
            MemberVersion::of_entry(&self.entries[slot]),
        );
        if after != before {
            self.entries[slot].since = now;
        }
        match (before.is_live(), after.is_live()) {
            (true, false) => {
                self.remove_live(slot);
                self.gone.insert(key);
            }
            (false, true) => {
                self.gone.remove(key);
                self.add_live(slot);
            }
            _ => {}
        }
        self.index(slot);
        self.changed_at = now;
        result
    }

    /// Sets when a missing member is redialled.
    pub(crate) fn set_redial(&mut self, key: u64, at: Time) {
        if let Some(slot) = self.slot(key) {
            let faults = self.entries[slot].faults_mut();
            let before = std::mem::replace(&mut faults.next_redial_at, at);
            if self.redials_by_time.remove(&(before, key)) {
                self.redials_by_time.insert((at, key));
            }
        }
    }

    /// Removes a member.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Entry> {
        let slot = self.slot(key)?;
        self.unindex(slot);
        if self.entries[slot].state.is_live() {
            self.remove_live(slot);
        } else {
            self.gone.remove(key);
        }
        self.unindex_key(slot);
        Some(self.entries.remove(slot))
    }

    /// Next member of the shuffled round robin (SWIM section 4.3).
    pub(crate) fn next_probe(&mut self, rng: &mut Rng) -> Option<u64> {
        if self.cursor >= self.live.len() {
            rng.shuffle(&mut self.live);
            for at in 0..self.live.len() {
                self.update_live_index(at);
            }
            self.cursor = 0;
        }
        let slot = self.live.get(self.cursor).copied()?;
        self.cursor += 1;
        Some(self.entries[slot].key)
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Entry> {
        self.slot(key).map(|slot| &self.entries[slot])
    }

    /// Entry to change what nothing is derived from: the fault history, the replay window.
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut Entry> {
        self.slot(key).map(|slot| &mut self.entries[slot])
    }

    /// All members, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        let (mut ring, mut gone) = (self.ring.iter().peekable(), self.gone.iter().peekable());
        std::iter::from_fn(move || {
            let key = match (ring.peek(), gone.peek()) {
                (Some(live), Some(first_gone)) if first_gone < live => gone.next(),
                (None, _) => gone.next(),
                _ => ring.next(),
            }?;
            Some((key, self.get(key)?))
        })
    }

    /// Number of members, failed and left ones included.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Slots of the live, in the order of probing.
    pub(crate) fn live(&self) -> &[u32] {
        &self.live
    }

    pub(crate) fn entry_at(&self, slot: u32) -> &Entry {
        &self.entries[slot]
    }

    /// Member with the next key: a live one if there is any.
    pub(crate) fn nearest(&self, key: u64) -> Option<&Entry> {
        let near = |keys: &KeySet| keys.from(key).next().or_else(|| keys.iter().next());
        self.get(near(&self.ring).or_else(|| near(&self.gone))?)
    }

    /// Members that went missing at `from` or later, as [`Table::missing_since`] counts them.
    pub(crate) fn missing_entries(&self, from: Time) -> impl Iterator<Item = &Entry> {
        let went = self.gone_by_time.range((from, 0)..);
        went.filter_map(|(_, key)| self.get(*key).filter(|entry| self.counts_as_missing(entry)))
    }

    /// Number of members that went missing at `from` or later. Of several members that had one
    /// address, the last one counts: if it left, none is missing there. Cheap as long as `from`
    /// does not go back.
    pub(crate) fn missing_since(&mut self, from: Time) -> usize {
        let (before, count) = self.missing_count;
        let between = |range: Range<Time>| {
            let went = self.gone_by_time.range((range.start, 0)..(range.end, 0));
            went.filter(|(_, key)| {
                self.get(*key)
                    .is_some_and(|entry| self.counts_as_missing(entry))
            })
            .count()
        };
        let count = match from >= before {
            true => count - between(before..from),
            false => count + between(from..before),
        };
        self.missing_count = (from, count);
        count
    }

    /// Failed members that may recover, the longest gone first.
    pub(crate) fn missing(&self) -> impl Iterator<Item = u64> {
        self.gone_by_time
            .iter()
            .map(|(_, key)| *key)
            .filter(|key| self.get(*key).is_some_and(|entry| self.is_missing(entry)))
    }

    /// Missing members to be redialled by now, at most `max`: the first to be due, and among them
    /// the longest gone first.
    pub(crate) fn due_redials(&self, now: Time, max: usize) -> Vec<u64> {
        let due = self
            .redials_by_time
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(max);
        let mut keys: Vec<u64> = due.map(|(_, key)| *key).collect();
        keys.sort_by_key(|key| self.get(*key).map(|entry| (entry.since, *key)));
        keys
    }

    /// Time of the first redial.
    pub(crate) fn next_redial(&self) -> Option<Time> {
        self.redials_by_time.first().map(|(at, _)| *at)
    }

    /// Members that failed or left at `until` or before.
    pub(crate) fn gone_before(&self, until: Time) -> Vec<u64> {
        self.gone_by_time
            .iter()
            .take_while(|(since, _)| *since <= until)
            .map(|(_, key)| *key)
            .collect()
    }

    /// Failed or left member that has been gone longest.
    pub(crate) fn longest_gone(&self, is_free: impl Fn(u64) -> bool) -> Option<u64> {
        let mut gone = self
            .gone_by_time
            .iter()
            .map(|(_, key)| *key)
            .take(GONE_VISITS);
        gone.find(|key| is_free(*key))
    }

    /// Live member of which no datagram ever came, if there is one among the next few hundred: the
    /// one known longest, so that the latest had time to be heard. The next call goes on there.
    pub(crate) fn find_unheard(&mut self) -> Option<u64> {
        let from = self.unheard_from;
        let ring = self.ring.from(from).chain(self.ring.before(from));
        let (mut found, mut last) = (None, from);
        for key in ring.take(UNHEARD_VISITS) {
            let Some(entry) = self.get(key) else {
                continue;
            };
            last = key;
            if !entry.replay_window().is_started() {
                found = found.into_iter().chain([(entry.since, key)]).min();
            }
        }
        self.unheard_from = last.wrapping_add(1);
        found.map(|(_, key)| key)
    }

    /// Whether any failed or left member is remembered.
    pub(crate) fn has_gone(&self) -> bool {
        !self.gone_by_time.is_empty()
    }

    /// Nth live member after `own_key` on the ring of keys.
    pub(crate) fn successor(&self, nth: usize) -> Option<u64> {
        let after = self.ring.from(self.own_key);
        after.chain(self.ring.before(self.own_key)).nth(nth)
    }

    /// First `max` live members of a range of keys with their versions, this node included, and the
    /// end of the range that they cover: keys can be chosen to lie in one range.
    pub(crate) fn versions(&self, first: u64, last: u64, max: usize) -> (Vec<(u64, u64)>, u64) {
        let mut versions: Vec<_> = self
            .live_from(first)
            .take_while(|(key, _)| *key <= last)
            .take(max + 1)
            .map(|(key, e)| (key, version(key, e.epoch, e.incarnation)))
            .collect();
        let mut end = last;
        if versions.len() > max {
            versions.truncate(max);
            end = versions.last().map_or(last, |(key, _)| *key);
        }
        if (first..=end).contains(&self.own_key) {
            let index = versions.partition_point(|(key, _)| *key < self.own_key);
            versions.insert(index, (self.own_key, self.own_version));
        }
        (versions, end)
    }

    /// Live members from a key on.
    pub(crate) fn live_from(&self, first: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let ring = self.ring.from(first);
        ring.filter_map(|key| Some((key, self.get(key)?)))
    }

    /// Hash of the live members with epoch and incarnation; equal views have equal hashes.
    pub(crate) fn view(&self) -> u64 {
        self.view
    }

    /// The same computed from the members alone, to check it.
    #[cfg(feature = "unstable")]
    pub(crate) fn recomputed_view(&self) -> u64 {
        let live = self.iter().filter(|(_, e)| e.state.is_live());
        live.map(|(key, e)| version(key, e.epoch, e.incarnation))
            .fold(self.own_version, |all, version| all ^ version)
    }

    pub(crate) fn buckets(&self) -> &[u64; DIGEST_BUCKETS] {
        &self.buckets
    }

    /// Time since the last change of the view.
    pub(crate) fn unchanged_for(&self, now: Time) -> Duration {
        now.since(self.changed_at)
    }

    fn slot(&self, key: u64) -> Option<u32> {
        self.work.add(1);
        let is_same = |slot: &u32| self.entries[*slot].key == key;
        let hash = key_hash(key, self.hash_seed);
        self.slots.find(hash, is_same).copied()
    }

    fn index_key(&mut self, slot: u32) {
        let (entries, seed) = (&self.entries, self.hash_seed);
        let hash = |slot: &u32| key_hash(entries[*slot].key, seed);
        self.slots.insert_unique(hash(&slot), slot, hash);
    }

    fn unindex_key(&mut self, slot: u32) {
        let hash = key_hash(self.entries[slot].key, self.hash_seed);
        if let Ok(found) = self.slots.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
    }

    /// Removes a member from all that is derived from it; [`Table::index`] adds it again.
    fn unindex(&mut self, slot: u32) {
        let entry = &self.entries[slot];
        let (key, since) = (entry.key, entry.since);
        if entry.state.is_live() {
            self.xor_into_view(key, version(key, entry.epoch, entry.incarnation));
        } else {
            self.gone_by_time.remove(&(since, key));
        }
        self.unindex_address(slot);
    }

    fn index(&mut self, slot: u32) {
        #[cfg(feature = "unstable")]
        if let Some(interner) = &self.interner {
            interner.share(self.entries[slot].shared_info());
        }
        self.index_address(slot);
        let entry = &self.entries[slot];
        let (key, since) = (entry.key, entry.since);
        if entry.state.is_live() {
            self.xor_into_view(key, version(key, entry.epoch, entry.incarnation));
        } else {
            self.gone_by_time.insert((since, key));
        }
    }

    /// Adds a version to the hash of the view, or removes it.
    fn xor_into_view(&mut self, key: u64, version: u64) {
        self.buckets[(key >> (64 - DIGEST_BUCKETS.ilog2())) as usize] ^= version;
        self.view ^= version;
    }

    #[cfg(feature = "unstable")]
    fn log_change(&mut self, key: u64, before: Option<MemberVersion>, after: MemberVersion) {
        if let Some(change_log) = &mut self.change_log {
            change_log.push(MemberChange { key, before, after });
        }
    }

    fn add_live(&mut self, slot: u32) {
        let entry = &mut self.entries[slot];
        entry.live_index = self.live.len() as u32;
        self.ring.insert(entry.key);
        if self.live.len() == self.live.capacity() {
            // Less is unused than if the capacity doubled.
            self.live.reserve_exact(self.live.len() / 8 + 8);
        }
        self.live.push(slot);
    }

    /// Removes a member from the order of probing so that no other loses a turn or gets a second
    /// one.
    fn remove_live(&mut self, slot: u32) {
        let entry = &self.entries[slot];
        self.ring.remove(entry.key);
        let mut gap = entry.live_index as usize;
        if gap < self.cursor {
            self.cursor -= 1;
            self.swap_live(gap, self.cursor);
            gap = self.cursor;
        }
        self.live.swap_remove(gap);
        if gap < self.live.len() {
            self.update_live_index(gap);
        }
    }

    fn swap_live(&mut self, a: usize, b: usize) {
        self.live.swap(a, b);
        self.update_live_index(a);
        self.update_live_index(b);
    }

    fn update_live_index(&mut self, at: usize) {
        self.entries[self.live[at]].live_index = at as u32;
    }
}

impl KnownMembers for (&LocalMember, &Table) {
    fn by_name(&self, name: &str) -> Option<(&Arc<str>, &Tags)> {
        let (me, table) = self;
        let key = name_key(name);
        let (known, tags) = match key == me.key {
            true => (&me.name, &me.tags),
            false => table.get(key).map(|entry| (&entry.name, &entry.tags))?,
        };
        (**known == *name).then_some((known, tags))
    }
}

/// Part of one member in the hash of the view.
fn version(key: u64, epoch: u64, incarnation: u32) -> u64 {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..16].copy_from_slice(&epoch.to_le_bytes());
    bytes[16..].copy_from_slice(&incarnation.to_le_bytes());
    xxh3_64_with_seed(&bytes, 0)
}

/// Most members visited to find one that was never heard.
const UNHEARD_VISITS: usize = 512;
/// Most failed and left members visited to find one that may be forgotten.
const GONE_VISITS: usize = 512;

#[cfg(test)]
mod tests;
