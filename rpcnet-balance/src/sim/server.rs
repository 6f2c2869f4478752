//! A worker at work.

use std::{collections::VecDeque, time::Duration};

use super::{
    SimWorker,
    event_queue::{EventQueue, FleetEvent},
    in_flight::{AttemptStage, InFlightAttempt, Reply},
    sim_rng::SimRng,
};
use crate::{OutcomeKind, ReportedLoad, Time};

/// A worker at work: what it serves, what waits, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Server {
    worker: SimWorker,
    /// How often it started.
    incarnation: u32,
    /// How often it moved.
    address: u32,
    up: bool,
    hung: bool,
    failing: bool,
    rejecting: bool,
    underreporting: bool,
    slowdown: f64,
    /// When it started cold.
    started: Option<Time>,
    /// Since when it drains.
    draining: Option<Time>,
    serving: Vec<usize>,
    /// Some have gone meanwhile.
    queue: VecDeque<usize>,
    queued: usize,
    /// Came while it hung.
    unread: Vec<usize>,
    /// Would have ended while it hung.
    overdue: Vec<usize>,
}

/// What is around a server.
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

    /// As who it is there, if it is.
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

    pub(super) fn on_request(&mut self, trip: usize, site: &mut ServerContext<'_>) {
        let now = site.events.now();
        if !self.up || site.attempts[trip].address != self.address {
            site.send_reply(trip, Reply::connection_lost(false), Duration::ZERO);
        } else if self.hung {
            self.unread.push(trip);
        } else if self
            .draining
            .is_some_and(|since| now.since(since) >= DRAIN_GRACE)
        {
            site.send_reply(trip, self.overload_reply(), Duration::ZERO);
        } else if self.rejecting {
            let rejection = Reply {
                processed: false,
                ..self.reply(OutcomeKind::Refused)
            };
            site.send_reply(trip, rejection, FAILURE_TIME);
        } else if self.failing {
            let failure = self.reply(OutcomeKind::Failure);
            site.send_reply(trip, failure, FAILURE_TIME);
        } else if self.serving.len() < self.worker.concurrency {
            self.serve(trip, site);
        } else if self.queued < self.worker.queue_len {
            self.queue.push_back(trip);
            self.queued += 1;
            site.attempts[trip].stage = AttemptStage::Queued(now);
            let waited = FleetEvent::QueueTimeout(trip);
            site.events
                .schedule_after(self.worker.queue_timeout, waited);
        } else {
            site.send_reply(trip, self.overload_reply(), Duration::ZERO);
        }
    }

    pub(super) fn on_service_completed(&mut self, trip: usize, site: &mut ServerContext<'_>) {
        if site.attempts[trip].stage != AttemptStage::Serving {
            return;
        }
        if self.hung {
            self.overdue.push(trip);
            return;
        }
        self.serving.retain(|one| *one != trip);
        let kind = if self.failing {
            OutcomeKind::Failure
        } else {
            OutcomeKind::Success
        };
        site.send_reply(trip, self.reply(kind), Duration::ZERO);
        self.serve_next(site);
    }

    pub(super) fn on_queue_timeout(&mut self, trip: usize, site: &mut ServerContext<'_>) {
        if matches!(site.attempts[trip].stage, AttemptStage::Queued(_)) && !self.hung {
            self.queued -= 1;
            site.send_reply(trip, self.overload_reply(), Duration::ZERO);
        }
    }

    pub(super) fn on_cancelled(&mut self, trip: usize, site: &mut ServerContext<'_>) {
        if self.hung {
            // It reads nothing.
            return;
        }
        match site.attempts[trip].stage {
            AttemptStage::Queued(_) => self.queued -= 1,
            AttemptStage::Serving => self.serving.retain(|one| *one != trip),
            AttemptStage::InTransit | AttemptStage::Done => return,
        }
        site.attempts[trip].stage = AttemptStage::Done;
        self.serve_next(site);
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

    pub(super) fn recover(&mut self, site: &mut ServerContext<'_>) {
        self.failing = false;
        self.rejecting = false;
        self.underreporting = false;
        if !std::mem::take(&mut self.hung) {
            return;
        }
        for trip in std::mem::take(&mut self.overdue) {
            self.on_service_completed(trip, site);
        }
        // Of what it now reads, the calls that have been given up are cancelled right after.
        let held: Vec<usize> = self.serving.iter().chain(&self.queue).copied().collect();
        for trip in held {
            if !site.attempts[trip].is_open() {
                self.on_cancelled(trip, site);
            }
        }
        for trip in std::mem::take(&mut self.unread) {
            if site.attempts[trip].is_open() {
                self.on_request(trip, site);
            }
        }
        self.serve_next(site);
    }

    pub(super) fn crash(&mut self, site: &mut ServerContext<'_>) {
        self.break_connections(site);
        *self = Self {
            up: false,
            incarnation: self.incarnation,
            address: self.address,
            ..Self::new(self.worker)
        };
    }

    /// Without effect on one that is gone.
    pub(super) fn relocate(&mut self, site: &mut ServerContext<'_>) {
        if self.up {
            self.break_connections(site);
            self.address += 1;
        }
    }

    /// Its connections break.
    fn break_connections(&mut self, site: &mut ServerContext<'_>) {
        let lost = self.serving.drain(..).chain(self.queue.drain(..));
        for trip in lost.chain(self.unread.drain(..)) {
            if site.attempts[trip].stage != AttemptStage::Done {
                site.send_reply(
                    trip,
                    Reply::connection_lost(true),
                    DISCONNECT_DETECTION_DELAY,
                );
            }
        }
        self.overdue.clear();
        self.queued = 0;
    }

    /// Without effect on one that runs.
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

    fn serve_next(&mut self, site: &mut ServerContext<'_>) {
        while self.serving.len() < self.worker.concurrency {
            let Some(trip) = self.queue.pop_front() else {
                return;
            };
            let AttemptStage::Queued(since) = site.attempts[trip].stage else {
                continue;
            };
            self.queued -= 1;
            if site.events.now().since(since) > self.worker.queue_timeout {
                site.send_reply(trip, self.overload_reply(), Duration::ZERO);
            } else {
                self.serve(trip, site);
            }
        }
    }

    fn serve(&mut self, trip: usize, site: &mut ServerContext<'_>) {
        self.serving.push(trip);
        let one = &mut site.attempts[trip];
        one.stage = AttemptStage::Serving;
        // Of the call and how often it was tried, not of the worker or the moment: the same for each balancer.
        let mut dice = SimRng::new(site.seed, one.rng_stream);
        let latency = one.service_time.unwrap_or(self.worker.service_time);
        let time = latency.draw(&mut dice);
        let pace = self.slowdown * self.cold_factor(site.events.now());
        site.events
            .schedule_after(time.mul_f64(pace), FleetEvent::ServiceCompletes(trip));
    }

    /// How many times as long it takes because it is cold.
    fn cold_factor(&self, now: Time) -> f64 {
        let Some(started) = self.started else {
            return 1.0;
        };
        let warm = now.since(started).as_secs_f64() / self.worker.warm_up_time.as_secs_f64();
        // Without a cold start that is no number, or a large one.
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
        // By Little's law: what a request waits that comes now.
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
    /// The worker has done with it, and after `time` the answer leaves.
    fn send_reply(&mut self, trip: usize, answer: Reply, time: Duration) {
        let one = &mut self.attempts[trip];
        one.stage = AttemptStage::Done;
        one.reply = Some(answer);
        let arrives = time + self.network_delay;
        self.events
            .schedule_after(arrives, FleetEvent::ReplyArrives(trip));
    }
}

/// How long one that fails takes for it.
const FAILURE_TIME: Duration = Duration::from_micros(100);

/// How long a client takes to notice that a connection is broken on which it waits for an answer.
const DISCONNECT_DETECTION_DELAY: Duration = Duration::from_millis(100);

/// How long one that drains goes on to take what comes.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

const RETRY_AFTER_MIN: Duration = Duration::from_millis(1);
