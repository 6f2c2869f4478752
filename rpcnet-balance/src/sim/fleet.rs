//! Everybody together, from the first call to the end of the last.

use std::{sync::Arc, time::Duration};

use super::{
    Attempt, Call, Change, End, Plan, Reason, Report,
    client::Client,
    dice::Dice,
    events::{Event, Events},
    plan::Kind,
    retries::{self, Next},
    server::{Server, Site},
    trip::{Answer, Place, Trip, Waiting},
};
use crate::{Balancer, Outcome, OutcomeKind, Time};

/// Runs a plan, and says how it went. Each client has the balancer that `balancer` makes of a seed for it.
///
/// # Panics
///
/// If the balancer breaks a rule of [`Balancer::pick`]: it picks what is not there or what is not allowed.
#[must_use]
pub fn run(plan: &Plan, seed: u64, balancer: impl Fn(u64) -> Arc<dyn Balancer>) -> Report {
    let mut fleet = Fleet::new(plan, seed, balancer);
    fleet.begin();
    while let Some(event) = fleet.events.next() {
        fleet.handle(event);
    }
    fleet.report()
}

#[derive(Debug)]
pub(super) struct Fleet<'a> {
    plan: &'a Plan,
    seed: u64,
    /// Of each method.
    deadlines: Vec<Duration>,
    pub(super) events: Events,
    arrivals: Dice,
    jitter: Dice,
    pub(super) clients: Vec<Client>,
    pub(super) servers: Vec<Server>,
    calls: Vec<Ongoing>,
    pub(super) trips: Vec<Trip>,
    ended: Time,
    open: usize,
}

/// A call, and what is needed while it goes on.
#[derive(Debug)]
struct Ongoing {
    call: Call,
    over: bool,
    /// Attempts of it that are not over.
    open: u8,
    attempts: u8,
    tried: Vec<u64>,
    trips: Vec<usize>,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        seed: u64,
        balancer: impl Fn(u64) -> Arc<dyn Balancer>,
    ) -> Self {
        let mut seeds = Dice::new(seed, BALANCERS);
        let mut client = |_| {
            let seed = seeds.number();
            Client::new(plan, seed, balancer(seed))
        };
        Self {
            plan,
            seed,
            deadlines: plan.deadlines(),
            events: Events::new(),
            arrivals: Dice::new(seed, ARRIVALS),
            jitter: Dice::new(seed, JITTER),
            clients: (0..plan.clients).map(&mut client).collect(),
            servers: plan.workers.iter().copied().map(Server::new).collect(),
            calls: Vec::new(),
            trips: Vec::new(),
            ended: Time::ZERO,
            open: 0,
        }
    }

    pub(super) fn begin(&mut self) {
        for (at, (time, ..)) in self.plan.changes.iter().enumerate() {
            self.events.at(*time, Event::Change(at));
        }
        match self.plan.load.kind {
            Kind::Closed { in_flight, .. } => {
                for slot in 0..in_flight {
                    let client = slot % self.plan.clients;
                    self.events.at(Time::ZERO, Event::Begin { client });
                }
            }
            Kind::Open(_) => self.schedule_arrival(),
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Begin { client } => self.begin_call(client),
            Event::Request(trip) => self.at_server(trip, Server::request),
            Event::Served(trip) => self.at_server(trip, Server::served),
            Event::Waited(trip) => self.at_server(trip, Server::waited),
            Event::Cancelled(trip) => self.at_server(trip, Server::cancelled),
            Event::Answer(trip) => self.answered(trip),
            Event::Deadline(call) => self.timed_out(call),
            Event::Again(call) => {
                if !self.calls[call].over {
                    self.attempt(call, Reason::Retry);
                }
            }
            Event::Hedge(call) => self.hedge(call),
            Event::Change(at) => {
                let (_, worker, change) = self.plan.changes[at];
                self.change(worker, change);
            }
            Event::Membership { worker } => {
                let (now, server) = (self.events.now(), &self.servers[worker]);
                let present = server.incarnation();
                for client in &mut self.clients {
                    client.on_membership(now, worker, &self.plan.workers[worker], present);
                    client.on_address(now, worker, server.address());
                }
            }
            Event::Draining { worker } => {
                for client in &self.clients {
                    client.on_draining(worker);
                }
            }
        }
    }

    /// # Panics
    ///
    /// If a call or an attempt has not ended.
    pub(super) fn report(self) -> Report {
        assert_eq!(self.open, 0, "every call ends");
        for client in &self.clients {
            let in_flight = client.view.endpoints().iter().map(|it| it.in_flight());
            assert_eq!(in_flight.sum::<u32>(), 0, "every attempt ends");
        }
        Report {
            calls: self.calls.into_iter().map(|it| it.call).collect(),
            attempts: self.trips.into_iter().map(|it| it.attempt).collect(),
            deadlines: self.deadlines,
            ended: self.ended,
        }
    }

    fn schedule_arrival(&mut self) {
        let Kind::Open(steps) = &self.plan.load.kind else {
            return;
        };
        let mut now = self.events.now();
        loop {
            let after = steps.partition_point(|(from, _)| *from <= now);
            let per_s = after.checked_sub(1).map_or(0.0, |step| steps[step].1);
            let until = steps.get(after).map_or(self.plan.duration, |it| it.0);
            // Without memory, what is left at the change of the rate is drawn again.
            let gap = self.arrivals.exponential() / per_s;
            let arrives = now + Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX);
            if arrives < until {
                let client = self.arrivals.below(self.plan.clients);
                self.events.at(arrives, Event::Begin { client });
                return;
            }
            if until >= self.plan.duration {
                return;
            }
            now = until;
        }
    }

    fn begin_call(&mut self, client: usize) {
        match self.plan.load.kind {
            Kind::Closed { calls, .. } if self.calls.len() >= calls => return,
            Kind::Closed { .. } => {}
            Kind::Open(_) => {
                if self.events.now() >= self.plan.duration {
                    return;
                }
                self.schedule_arrival();
            }
        }
        let now = self.events.now();
        let call = self.calls.len();
        let method = self.method(call);
        self.calls.push(Ongoing {
            call: Call {
                client,
                method,
                began: now,
                took: Duration::ZERO,
                end: End::NoWorker,
            },
            over: false,
            open: 0,
            attempts: 0,
            tried: Vec::new(),
            trips: Vec::new(),
        });
        self.open += 1;
        let deadline = self.deadlines[method];
        self.events.after(deadline, Event::Deadline(call));
        if let Some(quantile) = self.plan.policy.hedge_at
            && let Some(after) = self.clients[client].hedge_after(now, method, quantile)
        {
            self.events.after(after, Event::Hedge(call));
        }
        self.attempt(call, Reason::First);
    }

    /// What is called, the same for each balancer.
    fn method(&self, call: usize) -> usize {
        if self.plan.methods.is_empty() {
            return 0;
        }
        let mut dice = Dice::new(self.seed, METHODS + call as u64);
        self.plan.method(dice.share())
    }

    fn attempt(&mut self, call: usize, reason: Reason) {
        let now = self.events.now();
        let ongoing = &mut self.calls[call];
        let client = &mut self.clients[ongoing.call.client];
        let picked = match reason {
            Reason::Hedge => client.pick_hedge(now, &ongoing.tried),
            _ => client.pick(now, &ongoing.tried),
        };
        let Some((index, probe)) = picked else {
            if ongoing.open == 0 {
                self.end(call, End::NoWorker);
            }
            return;
        };
        let endpoint = &client.view[index];
        let worker = endpoint.id() as usize;
        let trip = self.trips.len();
        self.trips.push(Trip {
            attempt: Attempt {
                call,
                worker,
                began: now,
                reason,
            },
            address: client.address(worker),
            place: Place::Underway,
            chance: CHANCE + (call as u64) * 256 + u64::from(ongoing.attempts),
            latency: self.plan.latency_of(ongoing.call.method),
            answer: None,
            waiting: Some(Waiting {
                view: Arc::clone(&client.view),
                index,
                probe,
                _counted: client.begin(now, endpoint, ongoing.call.method),
            }),
        });
        ongoing.tried.push(endpoint.id());
        ongoing.trips.push(trip);
        ongoing.open += 1;
        ongoing.attempts = ongoing.attempts.saturating_add(1);
        self.events.after(self.plan.network, Event::Request(trip));
    }

    fn hedge(&mut self, call: usize) {
        let ongoing = &self.calls[call];
        // One that is tried again anyway needs no second attempt beside.
        if ongoing.over || ongoing.open != 1 || ongoing.attempts != 1 {
            return;
        }
        if self.clients[ongoing.call.client]
            .budget
            .withdraw(self.events.now())
        {
            self.attempt(call, Reason::Hedge);
        }
    }

    fn answered(&mut self, trip: usize) {
        let answer = self.trips[trip].answer.expect("it was given");
        if !self.settle(trip, answer.kind, Some(answer)) {
            return;
        }
        let (now, call) = (self.events.now(), self.trips[trip].attempt.call);
        if answer.kind == OutcomeKind::Success {
            self.end(call, End::Answered);
            return;
        }
        let ongoing = &self.calls[call];
        if ongoing.open > 0 {
            // The other one may still succeed.
            return;
        }
        let client = &self.clients[ongoing.call.client];
        let left = ongoing.tried.len() < client.view.len();
        match retries::next(&self.plan.policy, ongoing.attempts, &answer, left) {
            Next::Free if left => self.attempt(call, Reason::Retry),
            Next::Free | Next::Never => self.end(call, End::Failed),
            Next::After(_) if !client.budget.withdraw(now) => self.end(call, End::Failed),
            Next::After(wait) => {
                let wait = wait.draw(&mut self.jitter);
                self.events.after(wait, Event::Again(call));
            }
        }
    }

    fn timed_out(&mut self, call: usize) {
        if self.calls[call].over {
            return;
        }
        for trip in self.calls[call].trips.clone() {
            if self.settle(trip, OutcomeKind::Failure, None) {
                self.events.after(self.plan.network, Event::Cancelled(trip));
            }
        }
        self.end(call, End::TimedOut);
    }

    /// The client waits for this attempt no longer and tells the balancer how it went. `false` if it did not wait.
    fn settle(&mut self, trip: usize, kind: OutcomeKind, answer: Option<Answer>) -> bool {
        let (now, trip) = (self.events.now(), &mut self.trips[trip]);
        let Some(waiting) = trip.waiting.take() else {
            return false;
        };
        let ongoing = &mut self.calls[trip.attempt.call];
        ongoing.open -= 1;
        let client = &mut self.clients[ongoing.call.client];
        let outcome = Outcome::new(kind, now.since(trip.attempt.began))
            .with_now(now)
            .with_reported_load(answer.and_then(|answer| answer.load))
            .with_retry_after(answer.and_then(|answer| answer.retry_after));
        let probe = waiting.probe.as_ref();
        let outcome = (ongoing.call.method, outcome);
        client.on_outcome(&waiting.view, waiting.index, probe, outcome);
        true
    }

    fn end(&mut self, call: usize, end: End) {
        let now = self.events.now();
        let ongoing = &mut self.calls[call];
        debug_assert!(!ongoing.over, "a call ends once");
        ongoing.over = true;
        ongoing.call.end = end;
        ongoing.call.took = now.since(ongoing.call.began);
        self.ended = now;
        self.open -= 1;
        let client = ongoing.call.client;
        ongoing.tried = Vec::new();
        for trip in std::mem::take(&mut ongoing.trips) {
            // The one that lost.
            if self.settle(trip, OutcomeKind::Abandoned, None) {
                self.events.after(self.plan.network, Event::Cancelled(trip));
            }
        }
        if let Kind::Closed { .. } = self.plan.load.kind {
            self.events.at(now, Event::Begin { client });
        }
    }

    fn change(&mut self, worker: usize, change: Change) {
        let now = self.events.now();
        let (server, mut site) = self.site(worker);
        match change {
            Change::Pace(pace) => server.set_pace(pace),
            Change::Fail => server.fail(),
            Change::Reject => server.reject(),
            Change::Underreport => server.underreport(),
            Change::Hang => server.hang(),
            Change::Recover => server.recover(&mut site),
            Change::Drain => {
                server.drain(now);
                site.events.after(TOLD_AFTER, Event::Draining { worker });
            }
            Change::Crash => {
                server.crash(&mut site);
                site.events
                    .after(DETECTED_AFTER, Event::Membership { worker });
            }
            Change::Move => {
                server.relocate(&mut site);
                site.events
                    .after(DETECTED_AFTER, Event::Membership { worker });
            }
            Change::Start => {
                server.start(now);
                site.events.after(TOLD_AFTER, Event::Membership { worker });
            }
        }
    }

    fn at_server(&mut self, trip: usize, does: fn(&mut Server, usize, &mut Site<'_>)) {
        let worker = self.trips[trip].attempt.worker;
        let (server, mut site) = self.site(worker);
        does(server, trip, &mut site);
    }

    fn site(&mut self, worker: usize) -> (&mut Server, Site<'_>) {
        let site = Site {
            events: &mut self.events,
            trips: &mut self.trips,
            network: self.plan.network,
            seed: self.seed,
        };
        (&mut self.servers[worker], site)
    }
}

/// Until a change that a worker announces has gone around.
const TOLD_AFTER: Duration = Duration::from_millis(300);

/// Until it has gone around that a worker is dead, or that it is elsewhere.
const DETECTED_AFTER: Duration = Duration::from_secs(3);

// Streams of chance.
const ARRIVALS: u64 = 0;
const BALANCERS: u64 = 1;
const JITTER: u64 = 2;
/// From here on, one for each call.
const METHODS: u64 = 1 << 31;
/// From here on, one for each attempt.
const CHANCE: u64 = 1 << 32;
