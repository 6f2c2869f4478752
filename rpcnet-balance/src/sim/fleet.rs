//! Simulation of a fleet, from the first call to the end of the last.

use std::{sync::Arc, time::Duration};

use super::{
    Attempt, AttemptKind, Call, CallOutcome, FleetScenario, Report, WorkerChange,
    client::Client,
    event_queue::{EventQueue, FleetEvent},
    in_flight::{AttemptStage, InFlightAttempt, PendingReply, Reply},
    retries,
    scenario::LoadKind,
    server::{Server, ServerContext},
    sim_rng::SimRng,
};
use crate::{
    Balancer, Hedging, Outcome, OutcomeKind, Time,
    health::Probe,
    retry::{AttemptLimits, AttemptReason, CallState, Choice, RetryBackoff, Step},
};

/// Runs a scenario, and reports its calls. Each client has the balancer that `balancer` makes of a
/// seed for it.
///
/// # Panics
///
/// If the balancer breaks a rule of [`Balancer::pick`]: it picks an index out of range or an
/// endpoint that is not allowed.
#[must_use]
pub fn run(
    scenario: &FleetScenario,
    seed: u64,
    balancer: impl Fn(u64) -> Arc<dyn Balancer>,
) -> Report {
    let backoff = retries::backoff(SimRng::new(seed, JITTER).next_u64());
    let mut fleet = Fleet::new(scenario, seed, &backoff, balancer);
    fleet.begin();
    while let Some(event) = fleet.events.pop() {
        fleet.handle(event);
    }
    fleet.report()
}

#[derive(Debug)]
pub(super) struct Fleet<'a> {
    scenario: &'a FleetScenario,
    seed: u64,
    /// The deadline of each method.
    deadlines: Vec<Duration>,
    pub(super) events: EventQueue,
    arrivals: SimRng,
    backoff: &'a RetryBackoff,
    pub(super) clients: Vec<Client>,
    pub(super) servers: Vec<Server>,
    calls: Vec<OngoingCall<'a>>,
    pub(super) attempts: Vec<InFlightAttempt>,
    ended: Time,
    open_calls: usize,
}

/// A call in progress.
#[derive(Debug)]
struct OngoingCall<'a> {
    call: Call,
    state: CallState<'a>,
    is_over: bool,
    attempt_ids: Vec<usize>,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(
        scenario: &'a FleetScenario,
        seed: u64,
        backoff: &'a RetryBackoff,
        balancer: impl Fn(u64) -> Arc<dyn Balancer>,
    ) -> Self {
        let mut seeds = SimRng::new(seed, BALANCERS);
        let mut client = |_| {
            let seed = seeds.next_u64();
            Client::new(scenario, seed, balancer(seed))
        };
        Self {
            scenario,
            seed,
            deadlines: scenario.deadlines(),
            events: EventQueue::new(),
            arrivals: SimRng::new(seed, ARRIVALS),
            backoff,
            clients: (0..scenario.clients).map(&mut client).collect(),
            servers: scenario.workers.iter().copied().map(Server::new).collect(),
            calls: Vec::new(),
            attempts: Vec::new(),
            ended: Time::ZERO,
            open_calls: 0,
        }
    }

    pub(super) fn begin(&mut self) {
        for (at, (time, ..)) in self.scenario.changes.iter().enumerate() {
            self.events.schedule_at(*time, FleetEvent::WorkerChange(at));
        }
        match self.scenario.load.kind {
            LoadKind::Closed { in_flight, .. } => {
                for slot in 0..in_flight {
                    let client = slot % self.scenario.clients;
                    self.events
                        .schedule_at(Time::ZERO, FleetEvent::StartCall { client });
                }
            }
            LoadKind::Open(_) => self.schedule_arrival(),
        }
    }

    pub(super) fn handle(&mut self, event: FleetEvent) {
        match event {
            FleetEvent::StartCall { client } => self.begin_call(client),
            FleetEvent::RequestArrives(attempt) => self.on_server(attempt, Server::on_request),
            FleetEvent::ServiceCompletes(attempt) => {
                self.on_server(attempt, Server::on_service_completed);
            }
            FleetEvent::QueueTimeout(attempt) => self.on_server(attempt, Server::on_queue_timeout),
            FleetEvent::CancelArrives(attempt) => self.on_server(attempt, Server::on_cancelled),
            FleetEvent::ReplyArrives(attempt) => self.on_reply(attempt),
            FleetEvent::DeadlineExpires(call) => self.on_deadline(call),
            FleetEvent::CallStep(call) => self.advance(call),
            FleetEvent::WorkerChange(at) => {
                let (_, worker, change) = self.scenario.changes[at];
                self.apply_change(worker, change);
            }
            FleetEvent::MembershipUpdate { worker } => {
                let (now, server) = (self.events.now(), &self.servers[worker]);
                let present = server.incarnation();
                for client in &mut self.clients {
                    client.on_membership(now, worker, &self.scenario.workers[worker], present);
                    client.on_address(now, worker, server.address());
                }
            }
            FleetEvent::DrainNotice { worker } => {
                for client in &self.clients {
                    client.on_draining(worker);
                }
            }
        }
    }

    /// Ends the simulation.
    ///
    /// # Panics
    ///
    /// If a call or an attempt has not ended.
    pub(super) fn report(self) -> Report {
        assert_eq!(self.open_calls, 0, "every call ends");
        for client in &self.clients {
            let in_flight = client.view.endpoints().iter().map(|it| it.in_flight());
            assert_eq!(in_flight.sum::<u32>(), 0, "every attempt ends");
        }
        Report {
            calls: self.calls.into_iter().map(|it| it.call).collect(),
            attempts: self.attempts.into_iter().map(|it| it.attempt).collect(),
            deadlines: self.deadlines,
            ended: self.ended,
        }
    }

    fn schedule_arrival(&mut self) {
        let LoadKind::Open(steps) = &self.scenario.load.kind else {
            return;
        };
        let mut now = self.events.now();
        loop {
            let after = steps.partition_point(|(from, _)| *from <= now);
            let per_s = after.checked_sub(1).map_or(0.0, |step| steps[step].1);
            let until = steps.get(after).map_or(self.scenario.duration, |it| it.0);
            // Arrivals have no memory: what is left at the change of the rate is drawn again.
            let gap = self.arrivals.exponential() / per_s;
            let arrives = now + Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX);
            if arrives < until {
                let client = self.arrivals.below(self.scenario.clients);
                self.events
                    .schedule_at(arrives, FleetEvent::StartCall { client });
                return;
            }
            if until >= self.scenario.duration {
                return;
            }
            now = until;
        }
    }

    fn begin_call(&mut self, client: usize) {
        match self.scenario.load.kind {
            LoadKind::Closed { calls, .. } if self.calls.len() >= calls => return,
            LoadKind::Closed { .. } => {}
            LoadKind::Open(_) => {
                if self.events.now() >= self.scenario.duration {
                    return;
                }
                self.schedule_arrival();
            }
        }
        let now = self.events.now();
        let call = self.calls.len();
        let method = self.method(call);
        let deadline = self.deadlines[method];
        let policy = &self.scenario.policy;
        let mut limits = AttemptLimits::new(policy.attempts_max.into(), self.backoff);
        limits.deadline = Some(now + deadline);
        limits.hedging = policy
            .hedge_quantile
            .and_then(|quantile| self.clients[client].hedge_delay(now, method, quantile))
            .map(Hedging::after);
        self.calls.push(OngoingCall {
            state: CallState::new(limits),
            call: Call {
                client,
                method,
                began: now,
                took: Duration::ZERO,
                outcome: CallOutcome::NoWorker,
            },
            is_over: false,
            attempt_ids: Vec::new(),
        });
        self.open_calls += 1;
        self.events
            .schedule_after(deadline, FleetEvent::DeadlineExpires(call));
        self.advance(call);
    }

    /// Takes the next steps of a call, up to the one that has to wait.
    fn advance(&mut self, call: usize) {
        let now = self.events.now();
        while !self.calls[call].is_over {
            match self.calls[call].state.step(now) {
                Step::Begin(choice) => self.begin_attempt(call, choice),
                Step::Wait(until) => {
                    if let Some(until) = until {
                        self.events.schedule_at(until, FleetEvent::CallStep(call));
                    }
                    return;
                }
                Step::Stop(_) if self.calls[call].attempt_ids.is_empty() => {
                    self.end_call(call, CallOutcome::NoWorker);
                }
                Step::Stop(_) => self.end_call(call, CallOutcome::Failed),
            }
        }
    }

    /// The method of a call, the same for each balancer.
    fn method(&self, call: usize) -> usize {
        if self.scenario.methods.is_empty() {
            return 0;
        }
        let mut rng = SimRng::new(self.seed, METHODS + call as u64);
        self.scenario.method(rng.unit())
    }

    /// Picks a worker of this choice and sends it an attempt, as far as the budget allows it.
    fn begin_attempt(&mut self, call: usize, choice: Choice) {
        let now = self.events.now();
        let ongoing = &mut self.calls[call];
        let client = &mut self.clients[ongoing.call.client];
        let picked = match choice {
            Choice::Hedge => client.pick_hedge(now, ongoing.state.excluded()),
            Choice::Any | Choice::Same => client.pick(now, ongoing.state.excluded()),
        };
        let Some((index, probe)) = picked else {
            ongoing.state.on_no_endpoint(now);
            return;
        };
        let id = client.view[index].id();
        let budget = &client.budget;
        let begun = ongoing
            .state
            .begin(now, id, |kind| !kind.uses_budget() || budget.withdraw(now));
        match (begun, probe) {
            (Some(begun), probe) => self.send_attempt(call, begun, index, probe),
            (None, Some(probe)) => client.release_probe(now, index, &probe),
            (None, None) => {}
        }
    }

    fn send_attempt(
        &mut self,
        call: usize,
        (number, reason): (usize, AttemptReason),
        index: usize,
        probe: Option<Probe>,
    ) {
        let now = self.events.now();
        let ongoing = &mut self.calls[call];
        let client = &mut self.clients[ongoing.call.client];
        let endpoint = &client.view[index];
        let worker = endpoint.id() as usize;
        let attempt = self.attempts.len();
        self.attempts.push(InFlightAttempt {
            attempt: Attempt {
                call,
                worker,
                began: now,
                kind: match reason {
                    AttemptReason::First => AttemptKind::First,
                    AttemptReason::Retry { .. } => AttemptKind::Retry,
                    AttemptReason::Hedge => AttemptKind::Hedge,
                },
            },
            address: client.address(worker),
            stage: AttemptStage::InTransit,
            rng_stream: CHANCE + (call as u64) * 256 + number.min(255) as u64,
            service_time: self.scenario.service_time_of(ongoing.call.method),
            reply: None,
            pending_reply: Some(PendingReply {
                view: Arc::clone(&client.view),
                index,
                probe,
                _in_flight: client.begin(now, endpoint, ongoing.call.method),
            }),
        });
        ongoing.attempt_ids.push(attempt);
        self.events.schedule_after(
            self.scenario.network_delay,
            FleetEvent::RequestArrives(attempt),
        );
    }

    fn on_reply(&mut self, attempt: usize) {
        let reply = self.attempts[attempt].reply.expect("a reply was sent");
        if !self.finish_attempt(attempt, reply.kind, Some(reply)) {
            return;
        }
        let Attempt { call, worker, .. } = self.attempts[attempt].attempt;
        if reply.kind == OutcomeKind::Success {
            self.end_call(call, CallOutcome::Answered);
            return;
        }
        let now = self.events.now();
        let ongoing = &mut self.calls[call];
        let budget = &self.clients[ongoing.call.client].budget;
        let has_budget = || budget.level(now) >= 1.0;
        let failure = retries::classify(&reply);
        ongoing
            .state
            .on_failure(now, worker as u64, &failure, has_budget);
        self.advance(call);
    }

    fn on_deadline(&mut self, call: usize) {
        if self.calls[call].is_over {
            return;
        }
        for attempt in self.calls[call].attempt_ids.clone() {
            if self.finish_attempt(attempt, OutcomeKind::Failure, None) {
                self.events.schedule_after(
                    self.scenario.network_delay,
                    FleetEvent::CancelArrives(attempt),
                );
            }
        }
        self.end_call(call, CallOutcome::DeadlineExceeded);
    }

    /// Ends the client's wait for an attempt, and tells the balancer its outcome. `false` if the
    /// client did not wait.
    fn finish_attempt(&mut self, attempt: usize, kind: OutcomeKind, reply: Option<Reply>) -> bool {
        let (now, attempt) = (self.events.now(), &mut self.attempts[attempt]);
        let Some(pending) = attempt.pending_reply.take() else {
            return false;
        };
        let ongoing = &mut self.calls[attempt.attempt.call];
        let client = &mut self.clients[ongoing.call.client];
        let outcome = Outcome::new(kind, now.since(attempt.attempt.began))
            .with_reported_load(reply.and_then(|reply| reply.load))
            .with_retry_after(reply.and_then(|reply| reply.retry_after));
        let probe = pending.probe.as_ref();
        let outcome = (ongoing.call.method, outcome);
        client.on_outcome(now, &pending.view, pending.index, probe, outcome);
        true
    }

    fn end_call(&mut self, call: usize, outcome: CallOutcome) {
        let now = self.events.now();
        let ongoing = &mut self.calls[call];
        debug_assert!(!ongoing.is_over, "a call ends once");
        ongoing.is_over = true;
        ongoing.call.outcome = outcome;
        ongoing.call.took = now.since(ongoing.call.began);
        self.ended = now;
        self.open_calls -= 1;
        let client = ongoing.call.client;
        for attempt in std::mem::take(&mut ongoing.attempt_ids) {
            // The attempt that lost.
            if self.finish_attempt(attempt, OutcomeKind::Cancelled, None) {
                self.events.schedule_after(
                    self.scenario.network_delay,
                    FleetEvent::CancelArrives(attempt),
                );
            }
        }
        if let LoadKind::Closed { .. } = self.scenario.load.kind {
            self.events
                .schedule_at(now, FleetEvent::StartCall { client });
        }
    }

    fn apply_change(&mut self, worker: usize, change: WorkerChange) {
        let now = self.events.now();
        let (server, mut context) = self.server_context(worker);
        match change {
            WorkerChange::Slowdown(pace) => server.set_slowdown(pace),
            WorkerChange::Fail => server.fail(),
            WorkerChange::Reject => server.reject(),
            WorkerChange::Underreport => server.underreport(),
            WorkerChange::Hang => server.hang(),
            WorkerChange::Recover => server.recover(&mut context),
            WorkerChange::Drain => {
                server.drain(now);
                context
                    .events
                    .schedule_after(GOSSIP_DELAY, FleetEvent::DrainNotice { worker });
            }
            WorkerChange::Crash => {
                server.crash(&mut context);
                context
                    .events
                    .schedule_after(DETECTION_DELAY, FleetEvent::MembershipUpdate { worker });
            }
            WorkerChange::Move => {
                server.relocate(&mut context);
                context
                    .events
                    .schedule_after(DETECTION_DELAY, FleetEvent::MembershipUpdate { worker });
            }
            WorkerChange::Start => {
                server.start(now);
                context
                    .events
                    .schedule_after(GOSSIP_DELAY, FleetEvent::MembershipUpdate { worker });
            }
        }
    }

    fn on_server(&mut self, attempt: usize, does: fn(&mut Server, usize, &mut ServerContext<'_>)) {
        let worker = self.attempts[attempt].attempt.worker;
        let (server, mut context) = self.server_context(worker);
        does(server, attempt, &mut context);
    }

    fn server_context(&mut self, worker: usize) -> (&mut Server, ServerContext<'_>) {
        let context = ServerContext {
            events: &mut self.events,
            attempts: &mut self.attempts,
            network_delay: self.scenario.network_delay,
            seed: self.seed,
        };
        (&mut self.servers[worker], context)
    }
}

/// Delay until a change that a worker announces is known.
const GOSSIP_DELAY: Duration = Duration::from_millis(300);

/// Delay until it is known that a worker is dead, or has moved.
const DETECTION_DELAY: Duration = Duration::from_secs(3);

// Streams of random numbers.
const ARRIVALS: u64 = 0;
const BALANCERS: u64 = 1;
const JITTER: u64 = 2;
/// First stream of the methods; there is one for each call.
const METHODS: u64 = 1 << 31;
/// First stream of the service times; there is one for each attempt.
const CHANCE: u64 = 1 << 32;
