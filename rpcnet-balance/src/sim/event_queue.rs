//! Event queue of the simulation.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use crate::Time;

/// Event of the simulation. Numbers are indices into the lists of calls, attempts, clients and
/// workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FleetEvent {
    /// A client begins a call.
    StartCall {
        client: usize,
    },
    /// An attempt arrives at its worker.
    RequestArrives(usize),
    /// The worker has finished an attempt.
    ServiceCompletes(usize),
    /// An attempt has reached the longest time in the queue.
    QueueTimeout(usize),
    /// The worker learns that the client has cancelled an attempt.
    CancelArrives(usize),
    /// The reply arrives at the client.
    ReplyArrives(usize),
    DeadlineExpires(usize),
    /// A call has reached the time of its next step: a retry or a hedge.
    CallStep(usize),
    /// A change of the scenario takes place.
    WorkerChange(usize),
    /// The membership tells the clients the state of a worker.
    MembershipUpdate {
        worker: usize,
    },
    /// The membership tells the clients of a drain.
    DrainNotice {
        worker: usize,
    },
}

/// Event queue, the next event first; events of the same time in the order in which they were
/// scheduled.
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

    /// The next event; the time advances to it.
    pub(super) fn pop(&mut self) -> Option<FleetEvent> {
        let Reverse((time, _, event)) = self.heap.pop()?;
        debug_assert!(time >= self.now, "time does not go back");
        self.now = time;
        Some(event)
    }
}
