//! Table of calls with idempotency keys. Pure: time is an argument.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use crate::accounts::{FairShare, SHARE_FLOOR};

/// Calls by key: running ones with their waiters, and completed ones with their result.
///
/// Bounded by number, by bytes of the cached results and by time. Room is made by evicting the
/// oldest result of the owner that has most, so that an owner that floods the table evicts its own
/// results. A running call is never evicted, and the running calls of one owner are at most its
/// [share](FairShare).
#[derive(Debug)]
pub(super) struct KeyTable<O, K, T, W> {
    bounds: CacheBounds,
    entries: HashMap<K, KeyEntry<O, T, W>>,
    /// Owners that have at least one call.
    owners: HashMap<O, OwnerCalls<K>>,
    /// Share of an owner in the calls that may run.
    share: FairShare,
    running: usize,
    bytes: usize,
    next_number: u64,
    /// When results that are too old were last evicted.
    swept_at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CacheBounds {
    pub(super) len_max: usize,
    pub(super) bytes_max: usize,
    pub(super) ttl: Duration,
}

/// Call by its key.
#[derive(Debug)]
pub(super) struct KeyedCall<O, K> {
    pub(super) owner: O,
    pub(super) key: K,
    pub(super) body_hash: u64,
}

/// Result of the lookup of a call's key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyLookup<T> {
    /// It is the first call: it runs, and has to [complete](KeyTable::complete) under this number.
    Run(u64),
    /// The first call still runs, and its waiters are told its result.
    Join,
    /// The first call has completed with this result.
    Completed(T),
    /// The key was used for a call with another body.
    BodyMismatch,
    /// Too many calls run, of this owner or of all.
    Full,
}

#[derive(Debug)]
struct KeyEntry<O, T, W> {
    run_number: u64,
    owner: O,
    /// Hash of the body.
    body_hash: u64,
    state: EntryState<T, W>,
}

#[derive(Debug)]
enum EntryState<T, W> {
    Running {
        waiters: Vec<W>,
        /// Number of waiters at which those that no longer wait are removed.
        prune_at: usize,
    },
    Completed {
        outcome: T,
        bytes: usize,
        completed_at: Duration,
    },
}

/// Calls of one owner.
#[derive(Debug)]
struct OwnerCalls<K> {
    running: usize,
    /// In the order of completion.
    completed: VecDeque<K>,
    bytes: usize,
}

impl<O: Clone + Eq + Hash, K: Clone + Eq + Hash, T: Clone, W> KeyTable<O, K, T, W> {
    pub(super) fn new(bounds: CacheBounds) -> Self {
        Self {
            bounds,
            entries: HashMap::new(),
            owners: HashMap::new(),
            share: FairShare::new(bounds.len_max, SHARE_FLOOR),
            running: 0,
            bytes: 0,
            next_number: 0,
            swept_at: Duration::ZERO,
        }
    }

    /// Looks up a call. The waiter is told the result of the run, unless that is known already or
    /// the waiter is gone by then.
    pub(super) fn look_up(
        &mut self,
        now: Duration,
        call: KeyedCall<O, K>,
        waiter: W,
        is_gone: impl Fn(&W) -> bool,
    ) -> KeyLookup<T> {
        let KeyedCall {
            owner,
            key,
            body_hash,
        } = call;
        self.evict_expired(now, &owner);
        if let Some(entry) = self.entries.get_mut(&key) {
            if entry.body_hash != body_hash {
                return KeyLookup::BodyMismatch;
            }
            return match &mut entry.state {
                EntryState::Completed { outcome, .. } => KeyLookup::Completed(outcome.clone()),
                EntryState::Running { waiters, prune_at } => {
                    if waiters.len() >= *prune_at {
                        waiters.retain(|waiter| !is_gone(waiter));
                        *prune_at = (2 * waiters.len()).max(PRUNE_WAITERS_MIN);
                    }
                    waiters.push(waiter);
                    KeyLookup::Join
                }
            };
        }
        let own = self.owners.get(&owner).map_or(0, |owned| owned.running);
        if !self.share.allows(own, self.running, 1) {
            return KeyLookup::Full;
        }
        while self.entries.len() >= self.bounds.len_max {
            let Some(most) = self.owner_to_evict(&owner, |owned| owned.completed.len()) else {
                return KeyLookup::Full;
            };
            self.evict_oldest(&most);
        }
        let number = self.next_number;
        self.next_number += 1;
        let entry = KeyEntry {
            run_number: number,
            owner: owner.clone(),
            body_hash,
            state: EntryState::Running {
                waiters: vec![waiter],
                prune_at: PRUNE_WAITERS_MIN,
            },
        };
        self.entries.insert(key, entry);
        let owned = self.owners.entry(owner);
        owned.or_insert_with(OwnerCalls::new).running += 1;
        self.running += 1;
        KeyLookup::Run(number)
    }

    /// Completes a run: with a result to cache and its size in bytes, or as if the call had never
    /// come. Returns its waiters.
    pub(super) fn complete(
        &mut self,
        now: Duration,
        key: &K,
        number: u64,
        result: Option<(T, usize)>,
    ) -> Vec<W> {
        let Some(entry) = self.entries.get_mut(key) else {
            return Vec::new();
        };
        let EntryState::Running { waiters, .. } = &mut entry.state else {
            return Vec::new();
        };
        if entry.run_number != number {
            return Vec::new();
        }
        let waiters = std::mem::take(waiters);
        let owner = entry.owner.clone();
        self.running -= 1;
        if let Some(owned) = self.owners.get_mut(&owner) {
            owned.running -= 1;
        }
        let Some((outcome, bytes)) = result.filter(|(_, bytes)| *bytes <= self.bounds.bytes_max)
        else {
            self.entries.remove(key);
            self.remove_if_empty(&owner);
            return waiters;
        };
        entry.state = EntryState::Completed {
            outcome,
            bytes,
            completed_at: now,
        };
        let owned = self.owners.entry(owner.clone());
        let owned = owned.or_insert_with(OwnerCalls::new);
        owned.completed.push_back(key.clone());
        owned.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > self.bounds.bytes_max
            && let Some(most) = self.owner_to_evict(&owner, |owned| owned.bytes)
        {
            self.evict_oldest(&most);
        }
        waiters
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The owner whose result is evicted: the one that asks for room, unless another has more.
    fn owner_to_evict(&self, requester: &O, has: impl Fn(&OwnerCalls<K>) -> usize) -> Option<O> {
        let ours = self.owners.get(requester).map_or(0, &has);
        let (owner, most) = self.owners.iter().max_by_key(|(_, owned)| has(owned))?;
        let most = has(most);
        if most == 0 {
            return None;
        }
        Some(if most > ours { owner } else { requester }.clone())
    }

    /// Evicts old results of this owner, and now and then of all owners.
    fn evict_expired(&mut self, now: Duration, requester: &O) {
        self.evict_expired_of(requester, now);
        if now.saturating_sub(self.swept_at) <= self.bounds.ttl / SWEEPS_PER_TTL {
            return;
        }
        self.swept_at = now;
        let owners: Vec<O> = self.owners.keys().cloned().collect();
        for owner in owners {
            self.evict_expired_of(&owner, now);
        }
    }

    fn evict_expired_of(&mut self, owner: &O, now: Duration) {
        let time = self.bounds.ttl;
        let is_old = |entry: &KeyEntry<O, T, W>| match entry.state {
            EntryState::Completed {
                completed_at: at, ..
            } => now.saturating_sub(at) > time,
            EntryState::Running { .. } => false,
        };
        while let Some(key) = self
            .owners
            .get(owner)
            .and_then(|owned| owned.completed.front())
            && self.entries.get(key).is_some_and(is_old)
        {
            self.evict_oldest(owner);
        }
    }

    /// Evicts the oldest result of an owner.
    fn evict_oldest(&mut self, owner: &O) {
        let Some(owned) = self.owners.get_mut(owner) else {
            return;
        };
        if let Some(key) = owned.completed.pop_front()
            && let Some(entry) = self.entries.remove(&key)
            && let EntryState::Completed { bytes, .. } = entry.state
        {
            owned.bytes -= bytes;
            self.bytes -= bytes;
        }
        self.remove_if_empty(owner);
    }

    fn remove_if_empty(&mut self, owner: &O) {
        let owned = self.owners.get(owner);
        if owned.is_some_and(|owned| owned.running == 0 && owned.completed.is_empty()) {
            self.owners.remove(owner);
        }
    }
}

impl<K> OwnerCalls<K> {
    fn new() -> Self {
        Self {
            running: 0,
            completed: VecDeque::new(),
            bytes: 0,
        }
    }
}

/// Sweeps over all owners in the time that a result is cached.
const SWEEPS_PER_TTL: u32 = 16;

/// Number of waiters of one call below which pruning is not worthwhile.
const PRUNE_WAITERS_MIN: usize = 16;

#[cfg(test)]
mod tests;
