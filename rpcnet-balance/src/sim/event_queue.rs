//! What is to come.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use crate::Time;

/// Something that happens. Numbers are places in the lists of calls, attempts, clients and workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FleetEvent {
    /// A client begins a call.
    StartCall {
        client: usize,
    },
    /// An attempt is at its worker.
    RequestArrives(usize),
    /// Its worker is done with it.
    ServiceCompletes(usize),
    /// It has been in the queue for as long as any may.
    QueueTimeout(usize),
    /// Its worker hears that nobody waits for it any more.
    CancelArrives(usize),
    /// Its answer is at the client.
    ReplyArrives(usize),
    DeadlineExpires(usize),
    /// The next attempt of a call begins.
    Retry(usize),
    /// A call has taken so long that a second attempt is worth it.
    Hedge(usize),
    /// A change of the plan.
    WorkerChange(usize),
    /// The membership tells the clients whether a worker is there.
    MembershipUpdate {
        worker: usize,
    },
    /// The membership tells them of a drain.
    DrainNotice {
        worker: usize,
    },
}

/// What is to come, the next first; what is at the same moment, in the order in which it was scheduled.
#[derive(Debug)]
pub(super) struct EventQueue {
    now: Time,
    scheduled: u64,
    heap: BinaryHeap<Reverse<(Time, u64, FleetEvent)>>,
}

impl EventQueue {
    pub(super) const fn new() -> Self {
        Self {
            now: Time::ZERO,
            scheduled: 0,
            heap: BinaryHeap::new(),
        }
    }

    pub(super) const fn now(&self) -> Time {
        self.now
    }

    pub(super) fn schedule_after(&mut self, time: Duration, event: FleetEvent) {
        self.schedule_at(self.now + time, event);
    }

    pub(super) fn schedule_at(&mut self, time: Time, event: FleetEvent) {
        self.scheduled += 1;
        self.heap.push(Reverse((time, self.scheduled, event)));
    }

    /// The next, whose moment it is then.
    pub(super) fn pop(&mut self) -> Option<FleetEvent> {
        let Reverse((time, _, event)) = self.heap.pop()?;
        debug_assert!(time >= self.now, "time does not go back");
        self.now = time;
        Some(event)
    }
}
