//! A worker at work.

use std::{collections::VecDeque, time::Duration};

use super::{
    Worker,
    dice::Dice,
    events::{Event, Events},
    trip::{Answer, Place, Trip},
};
use crate::{OutcomeKind, ReportedLoad, Time};

/// A worker at work: what it serves, what waits, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Server {
    worker: Worker,
    /// How often it started.
    incarnation: u32,
    /// How often it moved.
    address: u32,
    up: bool,
    hung: bool,
    failing: bool,
    rejecting: bool,
    underreporting: bool,
    pace: f64,
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
pub(super) struct Site<'a> {
    pub(super) events: &'a mut Events,
    pub(super) trips: &'a mut [Trip],
    pub(super) network: Duration,
    pub(super) seed: u64,
}

impl Server {
    pub(super) const fn new(worker: Worker) -> Self {
        Self {
            up: !worker.absent,
            worker,
            incarnation: 0,
            address: 0,
            hung: false,
            failing: false,
            rejecting: false,
            underreporting: false,
            pace: 1.0,
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

    pub(super) fn request(&mut self, trip: usize, site: &mut Site<'_>) {
        let now = site.events.now();
        if !self.up || site.trips[trip].address != self.address {
            site.answer(trip, Answer::gone(false), Duration::ZERO);
        } else if self.hung {
            self.unread.push(trip);
        } else if self
            .draining
            .is_some_and(|since| now.since(since) >= LAME_DUCK)
        {
            site.answer(trip, self.refusal(), Duration::ZERO);
        } else if self.rejecting {
            let rejection = Answer {
                processed: false,
                ..self.says(OutcomeKind::Refused)
            };
            site.answer(trip, rejection, FAILS_WITHIN);
        } else if self.failing {
            let failure = self.says(OutcomeKind::Failure);
            site.answer(trip, failure, FAILS_WITHIN);
        } else if self.serving.len() < self.worker.concurrency {
            self.serve(trip, site);
        } else if self.queued < self.worker.queue_len {
            self.queue.push_back(trip);
            self.queued += 1;
            site.trips[trip].place = Place::Queued(now);
            let waited = Event::Waited(trip);
            site.events.after(self.worker.queue_wait, waited);
        } else {
            site.answer(trip, self.refusal(), Duration::ZERO);
        }
    }

    pub(super) fn served(&mut self, trip: usize, site: &mut Site<'_>) {
        if site.trips[trip].place != Place::Serving {
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
        site.answer(trip, self.says(kind), Duration::ZERO);
        self.serve_next(site);
    }

    pub(super) fn waited(&mut self, trip: usize, site: &mut Site<'_>) {
        if matches!(site.trips[trip].place, Place::Queued(_)) && !self.hung {
            self.queued -= 1;
            site.answer(trip, self.refusal(), Duration::ZERO);
        }
    }

    pub(super) fn cancelled(&mut self, trip: usize, site: &mut Site<'_>) {
        if self.hung {
            // It reads nothing.
            return;
        }
        match site.trips[trip].place {
            Place::Queued(_) => self.queued -= 1,
            Place::Serving => self.serving.retain(|one| *one != trip),
            Place::Underway | Place::Done => return,
        }
        site.trips[trip].place = Place::Done;
        self.serve_next(site);
    }

    pub(super) const fn set_pace(&mut self, pace: f64) {
        self.pace = pace;
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

    pub(super) fn recover(&mut self, site: &mut Site<'_>) {
        self.failing = false;
        self.rejecting = false;
        self.underreporting = false;
        if !std::mem::take(&mut self.hung) {
            return;
        }
        for trip in std::mem::take(&mut self.overdue) {
            self.served(trip, site);
        }
        // Of what it now reads, the calls that have been given up are cancelled right after.
        let held: Vec<usize> = self.serving.iter().chain(&self.queue).copied().collect();
        for trip in held {
            if !site.trips[trip].is_open() {
                self.cancelled(trip, site);
            }
        }
        for trip in std::mem::take(&mut self.unread) {
            if site.trips[trip].is_open() {
                self.request(trip, site);
            }
        }
        self.serve_next(site);
    }

    pub(super) fn crash(&mut self, site: &mut Site<'_>) {
        self.lose_all(site);
        *self = Self {
            up: false,
            incarnation: self.incarnation,
            address: self.address,
            ..Self::new(self.worker)
        };
    }

    /// Without effect on one that is gone.
    pub(super) fn relocate(&mut self, site: &mut Site<'_>) {
        if self.up {
            self.lose_all(site);
            self.address += 1;
        }
    }

    /// Its connections break.
    fn lose_all(&mut self, site: &mut Site<'_>) {
        let lost = self.serving.drain(..).chain(self.queue.drain(..));
        for trip in lost.chain(self.unread.drain(..)) {
            if site.trips[trip].place != Place::Done {
                site.answer(trip, Answer::gone(true), BREAKS_AFTER);
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

    fn serve_next(&mut self, site: &mut Site<'_>) {
        while self.serving.len() < self.worker.concurrency {
            let Some(trip) = self.queue.pop_front() else {
                return;
            };
            let Place::Queued(since) = site.trips[trip].place else {
                continue;
            };
            self.queued -= 1;
            if site.events.now().since(since) > self.worker.queue_wait {
                site.answer(trip, self.refusal(), Duration::ZERO);
            } else {
                self.serve(trip, site);
            }
        }
    }

    fn serve(&mut self, trip: usize, site: &mut Site<'_>) {
        self.serving.push(trip);
        let one = &mut site.trips[trip];
        one.place = Place::Serving;
        // Of the call and how often it was tried, not of the worker or the moment: the same for each balancer.
        let mut dice = Dice::new(site.seed, one.chance);
        let latency = one.latency.unwrap_or(self.worker.latency);
        let time = latency.draw(&mut dice);
        let pace = self.pace * self.coldness(site.events.now());
        site.events.after(time.mul_f64(pace), Event::Served(trip));
    }

    /// How many times as long it takes because it is cold.
    fn coldness(&self, now: Time) -> f64 {
        let Some(started) = self.started else {
            return 1.0;
        };
        let warm = now.since(started).as_secs_f64() / self.worker.cold_for.as_secs_f64();
        // Without a cold start that is no number, or a large one.
        if warm < 1.0 {
            self.worker.cold_pace + (1.0 - self.worker.cold_pace) * warm
        } else {
            1.0
        }
    }

    fn says(&self, kind: OutcomeKind) -> Answer {
        Answer {
            kind,
            load: Some(self.load()),
            retry_after: None,
            processed: true,
        }
    }

    fn refusal(&self) -> Answer {
        let ahead = (self.queued + 1) as f64 / self.worker.concurrency as f64;
        let wait = self.worker.latency.mean().mul_f64(ahead * self.pace);
        Answer {
            retry_after: Some(wait.max(RETRY_AFTER_MIN)),
            processed: false,
            ..self.says(OutcomeKind::Overloaded)
        }
    }

    fn load(&self) -> ReportedLoad {
        if self.underreporting {
            return ReportedLoad::new().with_draining(self.draining.is_some());
        }
        let all = self.serving.len() + self.queued;
        // By Little's law: what a request waits that comes now.
        let ahead = self.queued as f64 / self.worker.concurrency as f64;
        let delay = self.worker.latency.mean().mul_f64(ahead * self.pace);
        ReportedLoad::new()
            .with_in_flight(all as u32)
            .with_queue_delay(delay)
            .with_busy(5 * all >= 4 * self.worker.concurrency)
            .with_draining(self.draining.is_some())
    }
}

impl Site<'_> {
    /// The worker has done with it, and after `time` the answer leaves.
    fn answer(&mut self, trip: usize, answer: Answer, time: Duration) {
        let one = &mut self.trips[trip];
        one.place = Place::Done;
        one.answer = Some(answer);
        let arrives = time + self.network;
        self.events.after(arrives, Event::Answer(trip));
    }
}

/// How long one that fails takes for it.
const FAILS_WITHIN: Duration = Duration::from_micros(100);

/// How long a client takes to notice that a connection is broken on which it waits for an answer.
const BREAKS_AFTER: Duration = Duration::from_millis(100);

/// How long one that drains goes on to take what comes.
const LAME_DUCK: Duration = Duration::from_secs(1);

const RETRY_AFTER_MIN: Duration = Duration::from_millis(1);
