//! Scenario of a simulated fleet: workers, clients, load and changes.

use std::time::Duration;

use super::{ClientPolicy, ServiceTime, SimMethod, SimWorker, WorkerChange};
use crate::Time;

/// Scenario of a simulated fleet: workers, clients, load and changes.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetScenario {
    pub(super) workers: Vec<SimWorker>,
    pub(super) clients: usize,
    pub(super) load: Load,
    pub(super) policy: ClientPolicy,
    pub(super) duration: Time,
    pub(super) network_delay: Duration,
    pub(super) changes: Vec<(Time, usize, WorkerChange)>,
    pub(super) methods: Vec<SimMethod>,
}

impl FleetScenario {
    /// A scenario of one client that puts this load on these workers for 10 s without changes, with
    /// a network delay of 50 µs each way.
    #[must_use]
    pub const fn new(workers: Vec<SimWorker>, load: Load) -> Self {
        Self {
            workers,
            clients: 1,
            load,
            policy: ClientPolicy::new(),
            duration: Time::from_nanos(10_000_000_000),
            network_delay: Duration::from_micros(50),
            changes: Vec::new(),
            methods: Vec::new(),
        }
    }

    /// Adds a method of a fraction of the calls. The rest is of method 0, whose service time is
    /// that of the workers and whose deadline is that of the client policy; added methods are
    /// numbered from 1. Default none.
    #[must_use]
    pub fn with_method(mut self, method: SimMethod) -> Self {
        self.methods.push(method);
        self
    }

    /// Sets the number of clients that share the load, at least 1, each with a balancer of its own.
    #[must_use]
    pub fn with_clients(mut self, clients: usize) -> Self {
        self.clients = clients.max(1);
        self
    }

    /// Sets what the clients do about calls that do not succeed at once.
    #[must_use]
    pub const fn with_policy(mut self, policy: ClientPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the time after which no call begins. Default 10 s.
    #[must_use]
    pub fn with_duration(mut self, duration: Duration) -> Self {
        self.duration = duration.into();
        self
    }

    /// Sets the one-way delay of a message. Default 50 µs.
    #[must_use]
    pub const fn with_network_delay(mut self, latency: Duration) -> Self {
        self.network_delay = latency;
        self
    }

    /// Adds a change of a worker at a time. Changes of the same time happen in the order they were
    /// added.
    ///
    /// # Panics
    ///
    /// If there is no such worker.
    #[must_use]
    pub fn with_change(mut self, at: Duration, worker: usize, change: WorkerChange) -> Self {
        assert!(worker < self.workers.len(), "there is no worker {worker}");
        self.changes.push((at.into(), worker, change));
        self
    }

    /// Requests a second that the workers can serve together, without those that are absent at the
    /// beginning.
    #[must_use]
    pub fn capacity_per_s(&self) -> f64 {
        let present = self.workers.iter().filter(|worker| !worker.absent);
        present.map(SimWorker::capacity_per_s).sum()
    }

    /// The deadlines of method 0 and of those that were added.
    pub(super) fn deadlines(&self) -> Vec<Duration> {
        let added = self.methods.iter().map(|method| method.deadline);
        [self.policy.deadline].into_iter().chain(added).collect()
    }

    /// The service time of a method, if it is not that of the worker.
    pub(super) fn service_time_of(&self, method: usize) -> Option<ServiceTime> {
        let added = method.checked_sub(1)?;
        Some(self.methods[added].service_time)
    }

    /// The number of the method of a call, chosen by a number in 0 to 1.
    pub(super) fn method(&self, drawn: f64) -> usize {
        let mut remaining = drawn;
        let found = self.methods.iter().position(|method| {
            remaining -= method.fraction;
            remaining <= 0.0
        });
        found.map_or(0, |added| added + 1)
    }

    /// The number of workers, including those that are absent at the beginning.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.workers.len()
    }
}

/// Load of the fleet: when calls begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    pub(super) kind: LoadKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum LoadKind {
    Closed {
        in_flight: usize,
        calls: usize,
    },
    /// Steps of (time, calls a second).
    Open(Vec<(Time, f64)>),
}

impl Load {
    /// Closed loop: this many calls at any time, shared by the clients; when one ends, the next
    /// begins, until there were `calls` of them.
    #[must_use]
    pub const fn closed(in_flight: usize, calls: usize) -> Self {
        Self {
            kind: LoadKind::Closed { in_flight, calls },
        }
    }

    /// Open loop: calls begin independently of each other, on average this many a second.
    #[must_use]
    pub fn open(per_s: f64) -> Self {
        Self {
            kind: LoadKind::Open(vec![(Time::ZERO, per_s)]),
        }
    }

    /// Changes the rate of an open loop to `per_s` from this time on. Without effect on a closed
    /// loop.
    #[must_use]
    pub fn then(mut self, from: Duration, per_s: f64) -> Self {
        if let LoadKind::Open(steps) = &mut self.kind {
            steps.push((from.into(), per_s));
            steps.sort_by_key(|(from, _)| *from);
        }
        self
    }
}
