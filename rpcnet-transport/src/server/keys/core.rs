//! What is known of the calls of the last minute that had keys. Pure: time is an argument.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

/// Calls by their keys: those that run, with who waits for them, and those that have ended, with how.
///
/// Bounded by number, by bytes of what is remembered and by time. Room is made by forgetting what ended first; what runs is never
/// forgotten.
#[derive(Debug)]
pub(super) struct Keys<K, T, W> {
    bounds: Bounds,
    entries: HashMap<K, Entry<T, W>>,
    /// Those that have ended, in that order. Numbers tell entries of the same key apart.
    ended: VecDeque<(K, u64)>,
    bytes: usize,
    next_number: u64,
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
    /// Everything that is remembered runs.
    Full,
}

#[derive(Debug)]
struct Entry<T, W> {
    number: u64,
    /// Of the body.
    hash: u64,
    state: State<T, W>,
}

#[derive(Debug)]
enum State<T, W> {
    Runs {
        waiters: Vec<W>,
    },
    Ended {
        outcome: T,
        bytes: usize,
        at: Duration,
    },
}

impl<K: Clone + Eq + Hash, T: Clone, W> Keys<K, T, W> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: HashMap::new(),
            ended: VecDeque::new(),
            bytes: 0,
            next_number: 0,
        }
    }

    /// A call comes. The waiter is told how the call ends that runs, unless the answer is known already.
    pub(super) fn begin(&mut self, now: Duration, key: K, hash: u64, waiter: W) -> Begun<T> {
        self.forget_old(now);
        if let Some(entry) = self.entries.get_mut(&key) {
            if entry.hash != hash {
                return Begun::Differs;
            }
            return match &mut entry.state {
                State::Ended { outcome, .. } => Begun::Ended(outcome.clone()),
                State::Runs { waiters } => {
                    waiters.push(waiter);
                    Begun::Joins
                }
            };
        }
        while self.entries.len() >= self.bounds.len_max {
            if !self.forget_first() {
                return Begun::Full;
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        let state = State::Runs {
            waiters: vec![waiter],
        };
        let entry = Entry {
            number,
            hash,
            state,
        };
        self.entries.insert(key, entry);
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
        let State::Runs { waiters } = &mut entry.state else {
            return Vec::new();
        };
        if entry.number != number {
            return Vec::new();
        }
        let waiters = std::mem::take(waiters);
        match remember {
            Some((outcome, bytes)) if bytes <= self.bounds.bytes_max => {
                let at = now;
                entry.state = State::Ended { outcome, bytes, at };
                self.bytes += bytes;
                self.ended.push_back((key.clone(), number));
            }
            _ => {
                self.entries.remove(key);
            }
        }
        while self.bytes > self.bounds.bytes_max && self.forget_first() {}
        waiters
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget_old(&mut self, now: Duration) {
        while let Some((key, _)) = self.ended.front() {
            let is_old = self.entries.get(key).is_none_or(|entry| match entry.state {
                State::Ended { at, .. } => now.saturating_sub(at) > self.bounds.time,
                State::Runs { .. } => true,
            });
            if !is_old || !self.forget_first() {
                return;
            }
        }
    }

    /// Says whether there was something to forget.
    fn forget_first(&mut self) -> bool {
        let Some((key, number)) = self.ended.pop_front() else {
            return false;
        };
        if let Some(entry) = self.entries.get(&key)
            && entry.number == number
            && let State::Ended { bytes, .. } = entry.state
        {
            self.bytes -= bytes;
            self.entries.remove(&key);
        }
        true
    }
}

#[cfg(test)]
mod tests;
