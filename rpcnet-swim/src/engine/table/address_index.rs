//! Address index: members that have an address, or had it.
//!
//! A member that starts again and again under new names leaves a tombstone each time. Of the
//! members of one address at most [`BUCKET_MAX`] are kept: before another one gets it, the engine
//! evicts the one that [`Table::bucket_victim`] names.
//!
//! A lookup visits these, and entries of other addresses in its probe sequence of the hash table
//! that have the same seven bits of their hash. Those are few on average, and no peer can choose
//! addresses that make them many, as long as the seed of the hash is secret; if it were known, only
//! the size of the table would bound them. The same holds for the members by key, and for the
//! gossip queue.

use std::net::SocketAddr;

use super::Table;
use crate::engine::compact_addr::CompactAddr;
use crate::engine::entry::Entry;
use crate::event::MemberState;

impl Table {
    /// Live member at an address.
    pub(crate) fn at_addr(&self, addr: SocketAddr) -> Option<u64> {
        self.members_at(addr.into())
            .filter(|entry| entry.state.is_live())
            .map(|entry| entry.key)
            .min()
    }

    /// Member to be evicted before `key` gets an address, if the bucket of that is full: the one
    /// that has been gone longest, if any is gone. The last that had the address, which may count
    /// as missing, is evicted only if all others are live.
    pub(in crate::engine) fn bucket_victim(&self, key: u64, addr: SocketAddr) -> Option<u64> {
        let hash = CompactAddr::from(addr).hash(self.hash_seed);
        let others = || self.bucket(hash).filter(|entry| entry.key != key);
        others().nth(BUCKET_MAX - 1)?;
        let last = others().map(age_order).max();
        let victim = others().min_by_key(|entry| {
            let is_last = Some(age_order(entry)) == last;
            (entry.state.is_live(), is_last, entry.since, entry.key)
        });
        victim.map(|entry| entry.key)
    }

    /// Adds a slot to the index, in whose bucket the caller has made room.
    pub(super) fn index_address(&mut self, slot: u32) {
        let addr = self.entries[slot].compact_addr();
        let hash = addr.hash(self.hash_seed);
        // More are there only where a test planted them.
        debug_assert_ne!(self.bucket_len(hash), BUCKET_MAX, "no room was made");
        self.count_missing_at(addr, false);
        self.insert_address(hash, slot);
        self.count_missing_at(addr, true);
    }

    /// Removes a slot from the index.
    pub(super) fn unindex_address(&mut self, slot: u32) {
        let addr = self.entries[slot].compact_addr();
        let hash = addr.hash(self.hash_seed);
        self.count_missing_at(addr, false);
        if let Ok(found) = self.by_addr.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        self.count_missing_at(addr, true);
    }

    /// Whether a member is missing: failed, and no live member has its address. A member that was
    /// replaced there is not partitioned but gone.
    pub(super) fn is_missing(&self, entry: &Entry) -> bool {
        entry.state == MemberState::Failed
            && !self
                .members_at(entry.compact_addr())
                .any(|other| other.state.is_live())
    }

    /// Whether a member is missing, and the last that had its address.
    pub(in crate::engine) fn counts_as_missing(&self, entry: &Entry) -> bool {
        self.is_missing(entry)
            && self
                .members_at(entry.compact_addr())
                .all(|other| age_order(other) <= age_order(entry))
    }

    fn insert_address(&mut self, hash: u64, slot: u32) {
        let (entries, seed) = (&self.entries, self.hash_seed);
        let hash_of = |slot: &u32| entries[*slot].compact_addr().hash(seed);
        self.by_addr.insert_unique(hash, slot, hash_of);
    }

    /// Members whose addresses have one hash, in no order.
    fn bucket(&self, hash: u64) -> impl Iterator<Item = &Entry> {
        let entries = self.by_addr.iter_hash(hash).map(|slot| {
            self.work.add(1);
            &self.entries[*slot]
        });
        entries.filter(move |entry| entry.compact_addr().hash(self.hash_seed) == hash)
    }

    /// Members that have an address or had it, in no order: several only after a change of names.
    fn members_at(&self, addr: CompactAddr) -> impl Iterator<Item = &Entry> {
        let slots = self.by_addr.iter_hash(addr.hash(self.hash_seed));
        let entries = slots.map(|slot| {
            self.work.add(1);
            &self.entries[*slot]
        });
        entries.filter(move |entry| entry.compact_addr() == addr)
    }

    /// Number of members whose addresses have one hash, up to one more than may be.
    fn bucket_len(&self, hash: u64) -> usize {
        let has_hash =
            |slot: &&u32| self.entries[**slot].compact_addr().hash(self.hash_seed) == hash;
        let bucket = self.by_addr.iter_hash(hash).filter(has_hash);
        bucket.take(BUCKET_MAX + 1).count()
    }

    /// Counts the members at an address that are missing, or no longer: a change of one of them may
    /// change that for all.
    fn count_missing_at(&mut self, addr: CompactAddr, count: bool) {
        let (mut last, mut is_taken) = ((0, 0), false);
        for entry in self.members_at(addr) {
            last = last.max(age_order(entry));
            is_taken |= entry.state.is_live();
        }
        if is_taken {
            return;
        }
        let hash = addr.hash(self.hash_seed);
        for slot in self.by_addr.iter_hash(hash) {
            self.work.add(1);
            let entry = &self.entries[*slot];
            if entry.compact_addr() != addr || entry.state != MemberState::Failed {
                continue;
            }
            let due = (entry.faults().next_redial_at, entry.key);
            let counted =
                usize::from(entry.since >= self.missing_count.0 && age_order(entry) == last);
            if count {
                self.missing_count.1 += counted;
                self.redials_by_time.insert(due);
            } else {
                self.missing_count.1 -= counted;
                self.redials_by_time.remove(&due);
            }
        }
    }
}

#[cfg(feature = "unstable")]
impl Table {
    /// Adds a member that is gone without making room for it.
    pub(crate) fn insert_beyond_bound(&mut self, entry: Entry) {
        let (key, since) = (entry.key, entry.since);
        let hash = entry.compact_addr().hash(self.hash_seed);
        let slot = self.entries.insert(entry);
        self.index_key(slot);
        self.gone.insert(key);
        self.gone_by_time.insert((since, key));
        self.insert_address(hash, slot);
    }
}

/// Order of members at one address: the highest is the last that had it.
fn age_order(entry: &Entry) -> (u64, u64) {
    (entry.epoch, entry.key)
}

/// Most members whose addresses have one hash, those at one address included.
pub(in crate::engine) const BUCKET_MAX: usize = 16;
