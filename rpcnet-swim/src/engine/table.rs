//! The members: who is live, in which order to probe them, and the hash of the view.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::replay::ReplayWindow;
use super::suspicion::{Evidence, Suspicion};
use crate::event::{Member, MemberState};
use crate::id::{NodeId, life_key};
use crate::key::KeyId;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{BUCKETS, Claim, Record};

/// All that is known of one member.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    pub(crate) addr: SocketAddr,
    pub(crate) draining: bool,
    pub(crate) state: MemberState,
    pub(crate) tags: Tags,
    /// Start of this state, or of this life if it is live.
    pub(crate) since: Time,
    pub(crate) window: ReplayWindow,
    /// What our own probes say.
    pub(crate) evidence: Evidence,
    /// What everybody's probes say, while it is suspect.
    pub(crate) suspicion: Option<Box<Suspicion>>,
    /// Somebody's view holds it failed; one witnessed miss of our own confirms that.
    pub(crate) claimed_failed: bool,
    /// Which key its datagrams are sealed with.
    pub(crate) sealed_with: Option<KeyId>,
    /// How often it came back from the dead lately.
    pub(crate) flaps: u8,
    /// Until then a refutation does not bring it back.
    pub(crate) hold_until: Time,
    /// How often it was dialled since it failed, and when it is due again.
    pub(crate) redials: u8,
    pub(crate) redial_at: Time,
    /// An older life that still speaks was reported.
    pub(crate) conflict_reported: bool,
    /// Place in the list of the live.
    live_at: u32,
}

impl Entry {
    pub(crate) fn new(record: &Record, tags: Tags, now: Time) -> Self {
        Self {
            name: record.name.clone(),
            epoch: record.epoch,
            incarnation: record.incarnation,
            addr: record.addr,
            draining: record.draining,
            state: MemberState::Alive,
            tags,
            since: now,
            window: ReplayWindow::default(),
            evidence: Evidence::default(),
            suspicion: None,
            claimed_failed: false,
            sealed_with: None,
            flaps: 0,
            hold_until: Time::ZERO,
            redials: 0,
            redial_at: Time::ZERO,
            conflict_reported: false,
            live_at: 0,
        }
    }

    /// Goes on with what is known of a newer life. Its tags are not.
    pub(crate) fn begin_life(&mut self, record: &Record) {
        self.epoch = record.epoch;
        self.incarnation = record.incarnation;
        self.addr = record.addr;
        self.draining = record.draining;
        self.window = ReplayWindow::default();
        self.evidence = Evidence::default();
        self.conflict_reported = false;
    }

    pub(crate) fn life(&self, key: u64) -> u64 {
        life_key(key, self.epoch)
    }

    /// What we would tell others of it.
    pub(crate) fn record(&self) -> Record {
        let claim = match (self.state, &self.suspicion) {
            (MemberState::Suspect, Some(suspicion)) => Claim::Suspect(suspicion.suspectors),
            (MemberState::Failed, _) => Claim::Failed,
            (MemberState::Left, _) => Claim::Left,
            _ => Claim::Alive(self.tags.clone()),
        };
        self.claiming(claim)
    }

    /// What the member itself has to hear so that it can refute it.
    pub(crate) fn accusation(&self) -> Option<Record> {
        match self.state {
            _ if self.claimed_failed => Some(self.claiming(Claim::Failed)),
            MemberState::Suspect | MemberState::Failed => Some(self.record()),
            MemberState::Alive | MemberState::Left => None,
        }
    }

    /// That it is alive: its address and tags, whatever we believe.
    pub(crate) fn alive_record(&self) -> Record {
        self.claiming(Claim::Alive(self.tags.clone()))
    }

    fn claiming(&self, claim: Claim) -> Record {
        Record {
            name: self.name.clone(),
            epoch: self.epoch,
            incarnation: self.incarnation,
            addr: self.addr,
            draining: self.draining,
            claim,
        }
    }

    pub(crate) fn member(&self) -> Member {
        Member {
            id: NodeId {
                name: self.name.clone(),
                epoch: self.epoch,
            },
            addr: self.addr,
            incarnation: self.incarnation,
            state: self.state,
            draining: self.draining,
            tags: self.tags.clone(),
        }
    }
}

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
        self.strike(key, &entry);
        let result = change(&mut entry);
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
mod tests {
    use super::*;

    fn entry(n: u64) -> Entry {
        let record = Record {
            name: format!("n{n}").into(),
            epoch: 1,
            incarnation: 0,
            addr: SocketAddr::from(([127, 0, 0, 1], 1_000 + (n.rotate_left(8) % 8_192) as u16)),
            draining: false,
            claim: Claim::Failed,
        };
        Entry::new(&record, Tags::new(), Time::ZERO)
    }

    fn check(table: &Table) {
        let live: Vec<u64> = table
            .members
            .iter()
            .filter(|(_, e)| e.state.is_live())
            .map(|(k, _)| *k)
            .collect();
        let mut listed = table.live.clone();
        listed.sort_unstable();
        assert_eq!(listed, live);
        for (at, key) in table.live.iter().enumerate() {
            assert_eq!(table.members[key].live_at as usize, at);
        }
        assert!(table.cursor <= table.live.len());
        assert_eq!(table.by_addr.len(), live.len());
        let hash = live
            .iter()
            .map(|k| version(*k, table.members[k].epoch, table.members[k].incarnation));
        assert_eq!(table.view(), hash.fold(table.own_version, |all, v| all ^ v));
        let gone = table
            .members
            .values()
            .filter(|e| !e.state.is_live())
            .count();
        assert_eq!(table.gone.len(), gone);
    }

    #[test]
    fn all_that_is_derived_stays_true() {
        let mut rng = Rng::with_seed(3);
        let mut table = Table::new(u64::MAX / 2);
        table.set_own_version(Time::ZERO, 1, 0);
        for step in 0..4_000u64 {
            let (now, key) = (Time::from_millis(step), rng.u64(..40) << 58 | rng.u64(..3));
            match (rng.u8(..6), table.get(key).is_some()) {
                (0, _) | (_, false) => table.insert(now, key, entry(key), &mut rng),
                (1, true) => drop(table.remove(key)),
                (2, true) => table.update(now, key, |e| e.state = MemberState::Failed),
                (3, true) => table.update(now, key, |e| e.incarnation += 1),
                (4, true) => table.update(now, key, |e| e.state = MemberState::Alive),
                (_, true) => drop(table.next_probe(&mut rng)),
            }
            check(&table);
        }
    }

    #[test]
    fn each_is_probed_once_a_pass_while_members_come_and_go() {
        let mut rng = Rng::with_seed(9);
        let mut table = Table::new(0);
        for key in 1..=20 {
            table.insert(Time::ZERO, key, entry(key), &mut rng);
        }
        while table.cursor != table.live.len() {
            table.next_probe(&mut rng);
        }
        let mut probed = Vec::new();
        for key in 21..=30 {
            probed.push(table.next_probe(&mut rng).unwrap());
            table.insert(Time::ZERO, key, entry(key), &mut rng);
            table.update(Time::ZERO, key - 20, |e| e.state = MemberState::Left);
        }
        while table.cursor != table.live.len() {
            probed.push(table.next_probe(&mut rng).unwrap());
        }
        probed.retain(|key| *key > 10);
        probed.sort_unstable();
        assert_eq!(probed, (11..=30).collect::<Vec<_>>());
    }

    #[test]
    fn successors_follow_the_ring_and_skip_the_dead() {
        let mut rng = Rng::with_seed(1);
        let mut table = Table::new(50);
        for key in [10, 40, 60, 90] {
            table.insert(Time::ZERO, key, entry(key), &mut rng);
        }
        table.update(Time::ZERO, 60, |e| e.state = MemberState::Failed);
        let ring: Vec<_> = (0..4).filter_map(|nth| table.successor(nth)).collect();
        assert_eq!(ring, [90, 10, 40]);
    }
}
