//! What is to come.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use crate::Time;

/// Something that happens. Numbers are places in the lists of calls, attempts, clients and workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A client begins a call.
    Begin {
        client: usize,
    },
    /// An attempt is at its worker.
    Request(usize),
    /// Its worker is done with it.
    Served(usize),
    /// It has been in the queue for as long as any may.
    Waited(usize),
    /// Its worker hears that nobody waits for it any more.
    Cancelled(usize),
    /// Its answer is at the client.
    Answer(usize),
    Deadline(usize),
    /// The next attempt of a call begins.
    Again(usize),
    /// A call has taken so long that a second attempt is worth it.
    Hedge(usize),
    /// A change of the plan.
    Change(usize),
    /// The membership tells the clients whether a worker is there.
    Membership {
        worker: usize,
    },
    /// The membership tells them of a drain.
    Draining {
        worker: usize,
    },
}

/// What is to come, the next first; what is at the same moment, in the order in which it was scheduled.
#[derive(Debug)]
pub(super) struct Events {
    now: Time,
    scheduled: u64,
    waiting: BinaryHeap<Reverse<(Time, u64, Event)>>,
}

impl Events {
    pub(super) const fn new() -> Self {
        Self {
            now: Time::ZERO,
            scheduled: 0,
            waiting: BinaryHeap::new(),
        }
    }

    pub(super) const fn now(&self) -> Time {
        self.now
    }

    pub(super) fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now + time, event);
    }

    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.scheduled += 1;
        self.waiting.push(Reverse((time, self.scheduled, event)));
    }

    /// The next, whose moment it is then.
    pub(super) fn next(&mut self) -> Option<Event> {
        let Reverse((time, _, event)) = self.waiting.pop()?;
        debug_assert!(time >= self.now, "time does not go back");
        self.now = time;
        Some(event)
    }
}
