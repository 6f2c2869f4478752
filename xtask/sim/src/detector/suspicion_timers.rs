//! Suspicion timers: when each suspicion expires, at most one for each member.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use rpcnet_swim::Time;

/// The timers, by member and by time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SuspicionTimers {
    timers: HashMap<u64, (SuspicionTimer, Time)>,
    order: BTreeSet<(Time, u64)>,
}

/// Timer of one suspicion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SuspicionTimer {
    /// Generation of the suspicion that it belongs to.
    pub(super) generation: u32,
    pub(super) since: Time,
    /// How long the suspicion lasts at least.
    pub(super) min: Duration,
    /// Suspectors beside the first that bring it there.
    pub(super) awaited: usize,
}

impl SuspicionTimers {
    /// Starts a timer in the place of an earlier one of this member.
    pub(super) fn start(&mut self, key: u64, timer: SuspicionTimer, due: Time) {
        self.cancel(key);
        self.timers.insert(key, (timer, due));
        self.order.insert((due, key));
    }

    pub(super) fn get(&self, key: u64) -> Option<SuspicionTimer> {
        self.timers.get(&key).map(|(timer, _)| *timer)
    }

    /// Makes a timer due at another time.
    pub(super) fn reschedule(&mut self, key: u64, at: Time) {
        if let Some((_, due)) = self.timers.get_mut(&key) {
            self.order.remove(&(*due, key));
            *due = at;
            self.order.insert((at, key));
        }
    }

    pub(super) fn cancel(&mut self, key: u64) {
        if let Some((_, due)) = self.timers.remove(&key) {
            self.order.remove(&(due, key));
        }
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.order.first().map(|(due, _)| *due)
    }

    /// First member whose timer is due: it stays so until it is cancelled or rescheduled.
    pub(super) fn first_due(&self, now: Time) -> Option<u64> {
        let (due, key) = *self.order.first()?;
        (due <= now).then_some(key)
    }

    pub(super) fn len(&self) -> usize {
        self.timers.len().max(self.order.len())
    }
}
