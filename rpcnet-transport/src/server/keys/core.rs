//! What is known of the calls of the last minute that had keys. Pure: time is an argument.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use crate::accounts::{PLACES_FLOOR, Share};

/// Calls by their keys: those that run, with who waits for them, and those that have ended, with how.
///
/// Bounded by number, by bytes of what is remembered and by time. Room is made by forgetting what
/// ended first of the owner that has most, so that who floods it forgets its own. What runs is
/// never forgotten, and one owner's calls that run are at most its [share](Share).
#[derive(Debug)]
pub(super) struct Keys<O, K, T, W> {
    bounds: Bounds,
    entries: HashMap<K, Entry<O, T, W>>,
    /// None without calls.
    owners: HashMap<O, Owned<K>>,
    /// How many may run.
    share: Share,
    running: usize,
    bytes: usize,
    next_number: u64,
    /// When what is too old was last forgotten.
    swept_at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) len_max: usize,
    pub(super) bytes_max: usize,
    pub(super) time: Duration,
}

/// What a call with a key is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun<T> {
    /// It is the first: it runs, and has to [end](Keys::end) under this number.
    Runs(u64),
    /// The first still runs, and tells the waiter how it ends.
    Joins,
    /// The first has ended so.
    Ended(T),
    /// The key was given to a call with another body.
    Differs,
    /// Too many calls run, of its owner or of all.
    Full,
}

#[derive(Debug)]
struct Entry<O, T, W> {
    number: u64,
    owner: O,
    /// Of the body.
    hash: u64,
    state: State<T, W>,
}

#[derive(Debug)]
enum State<T, W> {
    Runs {
        waiters: Vec<W>,
        /// At so many those that wait no longer are looked for.
        prune_at: usize,
    },
    Ended {
        outcome: T,
        bytes: usize,
        at: Duration,
    },
}

/// What one owner has in memory.
#[derive(Debug)]
struct Owned<K> {
    running: usize,
    /// In the order in which they ended.
    ended: VecDeque<K>,
    bytes: usize,
}

impl<O: Clone + Eq + Hash, K: Clone + Eq + Hash, T: Clone, W> Keys<O, K, T, W> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: HashMap::new(),
            owners: HashMap::new(),
            share: Share::new(bounds.len_max, PLACES_FLOOR),
            running: 0,
            bytes: 0,
            next_number: 0,
            swept_at: Duration::ZERO,
        }
    }

    /// A call comes. The waiter is told how the call ends that runs, unless the answer is known already or it is gone by then.
    pub(super) fn begin(
        &mut self,
        now: Duration,
        owner: &O,
        key: K,
        hash: u64,
        waiter: W,
        is_gone: impl Fn(&W) -> bool,
    ) -> Begun<T> {
        self.forget_old(now, owner);
        if let Some(entry) = self.entries.get_mut(&key) {
            if entry.hash != hash {
                return Begun::Differs;
            }
            return match &mut entry.state {
                State::Ended { outcome, .. } => Begun::Ended(outcome.clone()),
                State::Runs { waiters, prune_at } => {
                    if waiters.len() >= *prune_at {
                        waiters.retain(|waiter| !is_gone(waiter));
                        *prune_at = (2 * waiters.len()).max(WAITERS_PRUNED_AT);
                    }
                    waiters.push(waiter);
                    Begun::Joins
                }
            };
        }
        let own = self.owners.get(owner).map_or(0, |owned| owned.running);
        if !self.share.allows(own, self.running, 1) {
            return Begun::Full;
        }
        while self.entries.len() >= self.bounds.len_max {
            let Some(most) = self.owner_of_most(owner, |owned| owned.ended.len()) else {
                return Begun::Full;
            };
            self.forget_first(&most);
        }
        let number = self.next_number;
        self.next_number += 1;
        let entry = Entry {
            number,
            owner: owner.clone(),
            hash,
            state: State::Runs {
                waiters: vec![waiter],
                prune_at: WAITERS_PRUNED_AT,
            },
        };
        self.entries.insert(key, entry);
        let owned = self.owners.entry(owner.clone());
        owned.or_insert_with(Owned::new).running += 1;
        self.running += 1;
        Begun::Runs(number)
    }

    /// The call that ran has ended; with something to remember of so many bytes, or as if it had never been. Says who waits.
    pub(super) fn end(
        &mut self,
        now: Duration,
        key: &K,
        number: u64,
        remember: Option<(T, usize)>,
    ) -> Vec<W> {
        let Some(entry) = self.entries.get_mut(key) else {
            return Vec::new();
        };
        let State::Runs { waiters, .. } = &mut entry.state else {
            return Vec::new();
        };
        if entry.number != number {
            return Vec::new();
        }
        let waiters = std::mem::take(waiters);
        let owner = entry.owner.clone();
        self.running -= 1;
        if let Some(owned) = self.owners.get_mut(&owner) {
            owned.running -= 1;
        }
        let Some((outcome, bytes)) = remember.filter(|(_, bytes)| *bytes <= self.bounds.bytes_max)
        else {
            self.entries.remove(key);
            self.forget_if_empty(&owner);
            return waiters;
        };
        let at = now;
        entry.state = State::Ended { outcome, bytes, at };
        let owned = self.owners.entry(owner.clone());
        let owned = owned.or_insert_with(Owned::new);
        owned.ended.push_back(key.clone());
        owned.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > self.bounds.bytes_max
            && let Some(most) = self.owner_of_most(&owner, |owned| owned.bytes)
        {
            self.forget_first(&most);
        }
        waiters
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whose memory makes room: that of the owner who asks for it unless another has more.
    fn owner_of_most(&self, asks: &O, has: impl Fn(&Owned<K>) -> usize) -> Option<O> {
        let ours = self.owners.get(asks).map_or(0, &has);
        let (owner, most) = self.owners.iter().max_by_key(|(_, owned)| has(owned))?;
        let most = has(most);
        if most == 0 {
            return None;
        }
        Some(if most > ours { owner } else { asks }.clone())
    }

    /// Forgets what is too old of this owner, and now and then of all.
    fn forget_old(&mut self, now: Duration, asks: &O) {
        self.forget_old_of(asks, now);
        if now.saturating_sub(self.swept_at) <= self.bounds.time / SWEEPS {
            return;
        }
        self.swept_at = now;
        let owners: Vec<O> = self.owners.keys().cloned().collect();
        for owner in owners {
            self.forget_old_of(&owner, now);
        }
    }

    fn forget_old_of(&mut self, owner: &O, now: Duration) {
        let time = self.bounds.time;
        let is_old = |entry: &Entry<O, T, W>| match entry.state {
            State::Ended { at, .. } => now.saturating_sub(at) > time,
            State::Runs { .. } => false,
        };
        while let Some(key) = self.owners.get(owner).and_then(|owned| owned.ended.front())
            && self.entries.get(key).is_some_and(is_old)
        {
            self.forget_first(owner);
        }
    }

    /// What this owner's call ended with that ended first.
    fn forget_first(&mut self, owner: &O) {
        let Some(owned) = self.owners.get_mut(owner) else {
            return;
        };
        if let Some(key) = owned.ended.pop_front()
            && let Some(entry) = self.entries.remove(&key)
            && let State::Ended { bytes, .. } = entry.state
        {
            owned.bytes -= bytes;
            self.bytes -= bytes;
        }
        self.forget_if_empty(owner);
    }

    fn forget_if_empty(&mut self, owner: &O) {
        let owned = self.owners.get(owner);
        if owned.is_some_and(|owned| owned.running == 0 && owned.ended.is_empty()) {
            self.owners.remove(owner);
        }
    }
}

impl<K> Owned<K> {
    fn new() -> Self {
        Self {
            running: 0,
            ended: VecDeque::new(),
            bytes: 0,
        }
    }
}

/// Sweeps in the time that things are remembered.
const SWEEPS: u32 = 16;

/// Fewer that wait for one call are not worth a look.
const WAITERS_PRUNED_AT: usize = 16;

#[cfg(test)]
mod tests;
