//! Suspicions whose time runs out, at most one for each member.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::time::Time;

/// When each suspicion is over.
#[derive(Debug, Default)]
pub(in crate::engine) struct SuspicionTimers {
    timers: HashMap<u64, (SuspicionTimer, Time)>,
    order: BTreeSet<(Time, u64)>,
}

/// One suspicion.
#[derive(Clone, Copy, Debug)]
pub(super) struct SuspicionTimer {
    /// Of the suspicion that it belongs to.
    pub(super) generation: u32,
    pub(super) since: Time,
    /// How long it lasts at least.
    pub(super) min: Duration,
    /// Suspectors beside the first that bring it there.
    pub(super) awaited: usize,
}

impl SuspicionTimers {
    /// In the place of an earlier one of this member.
    pub(super) fn start(&mut self, key: u64, trial: SuspicionTimer, due: Time) {
        self.cancel(key);
        self.timers.insert(key, (trial, due));
        self.order.insert((due, key));
    }

    pub(super) fn get(&self, key: u64) -> Option<SuspicionTimer> {
        self.timers.get(&key).map(|(trial, _)| *trial)
    }

    /// Makes it due at another time.
    pub(super) fn reschedule(&mut self, key: u64, at: Time) {
        if let Some((_, due)) = self.timers.get_mut(&key) {
            self.order.remove(&(*due, key));
            *due = at;
            self.order.insert((at, key));
        }
    }

    pub(in crate::engine) fn cancel(&mut self, key: u64) {
        if let Some((_, due)) = self.timers.remove(&key) {
            self.order.remove(&(due, key));
        }
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.order.first().map(|(due, _)| *due)
    }

    /// One that is due: it stays so until it is ended or put off.
    pub(super) fn first_due(&self, now: Time) -> Option<u64> {
        let (due, key) = *self.order.first()?;
        (due <= now).then_some(key)
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.timers.len().max(self.order.len())
    }
}
