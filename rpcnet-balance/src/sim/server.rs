//! Simulated server: queue, service, faults.

use std::{collections::VecDeque, time::Duration};

use super::{
    SimWorker,
    event_queue::{EventQueue, FleetEvent},
    in_flight::{AttemptStage, InFlightAttempt, Reply},
    sim_rng::SimRng,
};
use crate::{OutcomeKind, ReportedLoad, Time};

/// Simulated server: what it serves, what is queued, and its faults.
#[derive(Debug)]
pub(super) struct Server {
    worker: SimWorker,
    /// The number of restarts.
    incarnation: u32,
    /// The number of address changes.
    address: u32,
    up: bool,
    hung: bool,
    failing: bool,
    rejecting: bool,
    underreporting: bool,
    slowdown: f64,
    /// The time of a cold start.
    started: Option<Time>,
    /// Since when it drains.
    draining: Option<Time>,
    serving: Vec<usize>,
    /// Some entries have left the queue meanwhile.
    queue: VecDeque<usize>,
    queued: usize,
    /// Requests that arrived while it hung.
    unread: Vec<usize>,
    /// Attempts that would have ended while it hung.
    overdue: Vec<usize>,
}

/// Context of a server: what it shares with the rest of the simulation.
#[derive(Debug)]
pub(super) struct ServerContext<'a> {
    pub(super) events: &'a mut EventQueue,
    pub(super) attempts: &'a mut [InFlightAttempt],
    pub(super) network_delay: Duration,
    pub(super) seed: u64,
}

impl Server {
    pub(super) const fn new(worker: SimWorker) -> Self {
        Self {
            up: !worker.absent,
            worker,
            incarnation: 0,
            address: 0,
            hung: false,
            failing: false,
            rejecting: false,
            underreporting: false,
            slowdown: 1.0,
            started: None,
            draining: None,
            serving: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            unread: Vec::new(),
            overdue: Vec::new(),
        }
    }

    /// The incarnation of a running server.
    pub(super) fn incarnation(&self) -> Option<u32> {
        self.up.then_some(self.incarnation)
    }

    pub(super) const fn address(&self) -> u32 {
        self.address
    }

    #[cfg(test)]
    pub(super) const fn is_idle(&self) -> bool {
        self.serving.is_empty() && self.queued == 0 && self.unread.is_empty()
    }

    pub(super) fn on_request(&mut self, attempt: usize, context: &mut ServerContext<'_>) {
        let now = context.events.now();
        if !self.up || context.attempts[attempt].address != self.address {
            context.send_reply(attempt, Reply::connection_lost(false), Duration::ZERO);
        } else if self.hung {
            self.unread.push(attempt);
        } else if self
            .draining
            .is_some_and(|since| now.since(since) >= DRAIN_GRACE)
        {
            context.send_reply(attempt, self.overload_reply(), Duration::ZERO);
        } else if self.rejecting {
            let rejection = Reply {
                processed: false,
                ..self.reply(OutcomeKind::Rejected)
            };
            context.send_reply(attempt, rejection, FAILURE_TIME);
        } else if self.failing {
            let failure = self.reply(OutcomeKind::Failure);
            context.send_reply(attempt, failure, FAILURE_TIME);
        } else if self.serving.len() < self.worker.concurrency {
            self.serve(attempt, context);
        } else if self.queued < self.worker.queue_len {
            self.queue.push_back(attempt);
            self.queued += 1;
            context.attempts[attempt].stage = AttemptStage::Queued(now);
            let waited = FleetEvent::QueueTimeout(attempt);
            context
                .events
                .schedule_after(self.worker.queue_timeout, waited);
        } else {
            context.send_reply(attempt, self.overload_reply(), Duration::ZERO);
        }
    }

    pub(super) fn on_service_completed(&mut self, attempt: usize, context: &mut ServerContext<'_>) {
        if context.attempts[attempt].stage != AttemptStage::Serving {
            return;
        }
        if self.hung {
            self.overdue.push(attempt);
            return;
        }
        self.serving.retain(|one| *one != attempt);
        let kind = if self.failing {
            OutcomeKind::Failure
        } else {
            OutcomeKind::Success
        };
        context.send_reply(attempt, self.reply(kind), Duration::ZERO);
        self.serve_next(context);
    }

    pub(super) fn on_queue_timeout(&mut self, attempt: usize, context: &mut ServerContext<'_>) {
        if matches!(context.attempts[attempt].stage, AttemptStage::Queued(_)) && !self.hung {
            self.queued -= 1;
            context.send_reply(attempt, self.overload_reply(), Duration::ZERO);
        }
    }

    pub(super) fn on_cancelled(&mut self, attempt: usize, context: &mut ServerContext<'_>) {
        if self.hung {
            // It reads nothing.
            return;
        }
        match context.attempts[attempt].stage {
            AttemptStage::Queued(_) => self.queued -= 1,
            AttemptStage::Serving => self.serving.retain(|one| *one != attempt),
            AttemptStage::InTransit | AttemptStage::Done => return,
        }
        context.attempts[attempt].stage = AttemptStage::Done;
        self.serve_next(context);
    }

    pub(super) const fn set_slowdown(&mut self, pace: f64) {
        self.slowdown = pace;
    }

    pub(super) const fn fail(&mut self) {
        self.failing = true;
    }

    pub(super) const fn reject(&mut self) {
        self.rejecting = true;
    }

    pub(super) const fn underreport(&mut self) {
        self.underreporting = true;
    }

    pub(super) const fn hang(&mut self) {
        self.hung = self.up;
    }

    pub(super) const fn drain(&mut self, now: Time) {
        if self.draining.is_none() {
            self.draining = Some(now);
        }
    }

    pub(super) fn recover(&mut self, context: &mut ServerContext<'_>) {
        self.failing = false;
        self.rejecting = false;
        self.underreporting = false;
        if !std::mem::take(&mut self.hung) {
            return;
        }
        for attempt in std::mem::take(&mut self.overdue) {
            self.on_service_completed(attempt, context);
        }
        // Calls that were cancelled meanwhile are cancelled right after it reads them.
        let known: Vec<usize> = self.serving.iter().chain(&self.queue).copied().collect();
        for attempt in known {
            if !context.attempts[attempt].is_open() {
                self.on_cancelled(attempt, context);
            }
        }
        for attempt in std::mem::take(&mut self.unread) {
            if context.attempts[attempt].is_open() {
                self.on_request(attempt, context);
            }
        }
        self.serve_next(context);
    }

    pub(super) fn crash(&mut self, context: &mut ServerContext<'_>) {
        self.break_connections(context);
        *self = Self {
            up: false,
            incarnation: self.incarnation,
            address: self.address,
            ..Self::new(self.worker)
        };
    }

    /// Without effect on a server that is down.
    pub(super) fn relocate(&mut self, context: &mut ServerContext<'_>) {
        if self.up {
            self.break_connections(context);
            self.address += 1;
        }
    }

    /// All of its connections break.
    fn break_connections(&mut self, context: &mut ServerContext<'_>) {
        let lost = self.serving.drain(..).chain(self.queue.drain(..));
        for attempt in lost.chain(self.unread.drain(..)) {
            if context.attempts[attempt].stage != AttemptStage::Done {
                context.send_reply(
                    attempt,
                    Reply::connection_lost(true),
                    DISCONNECT_DETECTION_DELAY,
                );
            }
        }
        self.overdue.clear();
        self.queued = 0;
    }

    /// Without effect on a running server.
    pub(super) fn start(&mut self, now: Time) {
        if !self.up {
            *self = Self {
                up: true,
                incarnation: self.incarnation + 1,
                address: self.address,
                started: Some(now),
                ..Self::new(self.worker)
            };
        }
    }

    fn serve_next(&mut self, context: &mut ServerContext<'_>) {
        while self.serving.len() < self.worker.concurrency {
            let Some(attempt) = self.queue.pop_front() else {
                return;
            };
            let AttemptStage::Queued(since) = context.attempts[attempt].stage else {
                continue;
            };
            self.queued -= 1;
            if context.events.now().since(since) > self.worker.queue_timeout {
                context.send_reply(attempt, self.overload_reply(), Duration::ZERO);
            } else {
                self.serve(attempt, context);
            }
        }
    }

    fn serve(&mut self, attempt: usize, context: &mut ServerContext<'_>) {
        self.serving.push(attempt);
        let one = &mut context.attempts[attempt];
        one.stage = AttemptStage::Serving;
        // Drawn for the call and the number of its attempt, not for the worker or the time: the
        // same for each balancer.
        let mut rng = SimRng::new(context.seed, one.rng_stream);
        let latency = one.service_time.unwrap_or(self.worker.service_time);
        let time = latency.draw(&mut rng);
        let pace = self.slowdown * self.cold_factor(context.events.now());
        context
            .events
            .schedule_after(time.mul_f64(pace), FleetEvent::ServiceCompletes(attempt));
    }

    /// The slowdown of a cold server.
    fn cold_factor(&self, now: Time) -> f64 {
        let Some(started) = self.started else {
            return 1.0;
        };
        let warm = now.since(started).as_secs_f64() / self.worker.warm_up_time.as_secs_f64();
        // Without a cold start this is NaN, or a large number.
        if warm < 1.0 {
            self.worker.cold_slowdown + (1.0 - self.worker.cold_slowdown) * warm
        } else {
            1.0
        }
    }

    fn reply(&self, kind: OutcomeKind) -> Reply {
        Reply {
            kind,
            load: Some(self.load()),
            retry_after: None,
            processed: true,
        }
    }

    fn overload_reply(&self) -> Reply {
        let ahead = (self.queued + 1) as f64 / self.worker.concurrency as f64;
        let wait = self
            .worker
            .service_time
            .mean()
            .mul_f64(ahead * self.slowdown);
        Reply {
            retry_after: Some(wait.max(RETRY_AFTER_MIN)),
            processed: false,
            ..self.reply(OutcomeKind::Overloaded)
        }
    }

    fn load(&self) -> ReportedLoad {
        if self.underreporting {
            return ReportedLoad::new().with_draining(self.draining.is_some());
        }
        let all = self.serving.len() + self.queued;
        // By Little's law: the wait of a request that arrives now.
        let ahead = self.queued as f64 / self.worker.concurrency as f64;
        let delay = self
            .worker
            .service_time
            .mean()
            .mul_f64(ahead * self.slowdown);
        ReportedLoad::new()
            .with_in_flight(all as u32)
            .with_queue_delay(delay)
            .with_busy(5 * all >= 4 * self.worker.concurrency)
            .with_draining(self.draining.is_some())
    }
}

impl ServerContext<'_> {
    /// Finishes an attempt; the reply leaves after `time`.
    fn send_reply(&mut self, attempt: usize, reply: Reply, time: Duration) {
        let one = &mut self.attempts[attempt];
        one.stage = AttemptStage::Done;
        one.reply = Some(reply);
        let arrives = time + self.network_delay;
        self.events
            .schedule_after(arrives, FleetEvent::ReplyArrives(attempt));
    }
}

/// Service time of a request that fails or is rejected at once.
const FAILURE_TIME: Duration = Duration::from_micros(100);

/// Time until a client notices that a connection is broken on which it waits for a reply.
const DISCONNECT_DETECTION_DELAY: Duration = Duration::from_millis(100);

/// Time for which a draining server continues to take calls.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

const RETRY_AFTER_MIN: Duration = Duration::from_millis(1);
