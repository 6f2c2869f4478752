//! Call executor: the attempts of one call, from the choice of a worker to the outcome.

use std::{net::SocketAddr, pin::pin, sync::Arc};

use futures::{StreamExt, stream::FuturesUnordered};
use rpcnet_balance::{
    Outcome, OutcomeKind, Time,
    retry::{AttemptLimits, AttemptReason, CallState, Choice, RetryControl, Step},
};
use rpcnet_registry::Worker;
use rpcnet_transport::{
    RpcClient,
    pool::{PendingConnection, PooledConnection, run_call},
};
use tokio::time::{Instant, sleep};

use super::{
    ClusterError,
    attempts::{AttemptFailure, AttemptStart, Attempts, StartedAttempt},
    call_plan::{AttemptDeadline, ClusterCall},
    operation::Operation,
    outcome::EndedAttempt,
    workers::Workers,
};

/// Makes the attempts of calls.
pub(super) struct Executor {
    pub(super) workers: Workers,
    pub(super) retries: RetryControl,
    /// Zero of the times of the retry budget.
    pub(super) budget_created_at: Instant,
}

impl Executor {
    /// The attempts of a call before the first one.
    pub(super) fn no_attempts<'a>(&'a self, call: &ClusterCall<'a>) -> Attempts<'a> {
        let deadline = call.plan.deadline;
        Attempts::new(CallState::new(AttemptLimits {
            deadline: deadline.map(|end| self.workers.time(end)),
            hedging: call.plan.policy.hedging,
            latencies: call.plan.hedge_latencies,
            ..AttemptLimits::new(call.plan.policy.attempts_max, self.retries.backoff())
        }))
    }

    /// The attempts of a call whose fast path has failed, unless it ends with that.
    #[cold]
    pub(super) fn first_failed<'a>(
        &'a self,
        call: &ClusterCall<'a>,
        worker: Worker,
        failure: AttemptFailure,
    ) -> Result<Attempts<'a>, ClusterError> {
        let mut attempts = self.no_attempts(call);
        let started_at = call.plan.started_at;
        let now = self.workers.time(started_at);
        // It was counted when it began.
        attempts.begin(worker, (started_at, now), |_| true);
        self.record_failure(call, &mut attempts, 0, failure);
        match attempts.state.step(now) {
            Step::Stop(reason) => Err(attempts.into_error(reason)),
            _ => Ok(attempts),
        }
    }

    fn record_failure(
        &self,
        call: &ClusterCall<'_>,
        attempts: &mut Attempts<'_>,
        number: usize,
        failure: AttemptFailure,
    ) {
        let now = self.workers.time(Instant::now());
        let has_budget = || self.retries.has_budget(self.budget_time());
        attempts.record_failure(number, failure, (call, now), has_budget);
    }

    fn budget_time(&self) -> Time {
        Time::from(self.budget_created_at.elapsed())
    }

    /// Makes the attempts that are left, the first of them on the worker that was picked for it.
    pub(super) async fn run_attempts<O: Operation>(
        &self,
        call: &ClusterCall<'_>,
        mut attempts: Attempts<'_>,
        mut first: Option<(Worker, PooledConnection)>,
        operation: &O,
    ) -> Result<(O::Reply, Worker), ClusterError> {
        let endpoint = self.workers.connections.endpoint();
        let mut in_flight = FuturesUnordered::new();
        let mut now = match &first {
            Some(_) => call.plan.started_at,
            None => Instant::now(),
        };
        loop {
            let time = self.workers.time(now);
            let until = match attempts.state.step(time) {
                Step::Begin(choice) => {
                    let picked = first.take();
                    match picked.or_else(|| self.pick(call, choice, &attempts, time)) {
                        Some((worker, connection)) => {
                            let budget_time = || self.budget_time();
                            let admit = |kind| self.retries.admit(kind, budget_time);
                            if let Some(begun) = attempts.begin(worker, (now, time), admit) {
                                in_flight
                                    .push(self.run_attempt(call, begun, connection, operation));
                            }
                        }
                        None => attempts.state.on_no_endpoint(time),
                    }
                    continue;
                }
                Step::Wait(until) => until,
                Step::Stop(reason) => {
                    drop(in_flight);
                    self.report_outrun(call, &attempts);
                    return Err(attempts.into_error(reason));
                }
            };
            let wait = until.map(|until| until.since(time));
            let timer = async { sleep(wait.unwrap_or_default()).await };
            tokio::select! {
                biased;
                Some((number, outcome)) = in_flight.next() => match outcome {
                    Ok(reply) => {
                        // The others are cancelled, at their workers too.
                        drop(in_flight);
                        let worker = self.succeed(call, attempts, number);
                        return Ok((reply, worker));
                    }
                    Err(failure) => self.record_failure(call, &mut attempts, number, failure),
                },
                waited = endpoint.in_runtime(timer), if wait.is_some() => {
                    if waited.is_err() {
                        // The runtime of the endpoint has ended, as the attempts will find.
                        attempts.state.on_no_timer();
                    }
                }
            }
            now = Instant::now();
        }
    }

    /// A worker for the next attempt, and the connection to it.
    fn pick(
        &self,
        call: &ClusterCall<'_>,
        choice: Choice,
        attempts: &Attempts<'_>,
        now: Time,
    ) -> Option<(Worker, PooledConnection)> {
        let (workers, excluded) = (&self.workers, attempts.state.excluded());
        match choice {
            Choice::Any => workers.pick(call, excluded, now).ok(),
            Choice::Hedge => workers.pick_hedge(call, excluded, now),
            Choice::Same => workers.pick_same_process(call, attempts.last_failed_node()?, now),
        }
    }

    /// A call ends while these attempts are in flight: reports that they took longer.
    fn report_outrun(&self, call: &ClusterCall<'_>, attempts: &Attempts<'_>) {
        for outrun in attempts.in_flight() {
            let took = outrun.started_at.elapsed();
            let outcome = Outcome::new(OutcomeKind::Cancelled, took);
            outrun.worker.report(&outcome);
            if let (0, Some(latencies)) = (outrun.number, call.plan.hedge_latencies) {
                latencies.record(self.workers.registry.now(), took);
            }
        }
    }

    /// A call has succeeded with this attempt: reports the others, and returns the worker.
    fn succeed(&self, call: &ClusterCall<'_>, mut attempts: Attempts<'_>, number: usize) -> Worker {
        let winner = attempts.end(number);
        self.report_outrun(call, &attempts);
        if winner.reason == AttemptReason::Hedge {
            self.retries.counters().on_hedge_won();
        }
        self.retries.on_call_succeeded();
        self.workers
            .record_unreadable(call.method, &attempts.unreadable_workers);
        Arc::into_inner(winner.worker).expect("the attempt on it has ended")
    }

    /// One attempt on one worker, whose outcome is reported: its number, and the outcome.
    async fn run_attempt<O: Operation>(
        &self,
        call: &ClusterCall<'_>,
        attempt: StartedAttempt,
        connection: PooledConnection,
        operation: &O,
    ) -> (usize, Result<O::Reply, AttemptFailure>) {
        let (plan, start) = (&call.plan, attempt.start());
        let deadline = AttemptDeadline::for_attempt(plan, start.started_at);
        let mut used = None;
        let reply = async {
            let (client, is_reused) = match connection {
                PooledConnection::Ready(client) => (client, true),
                PooledConnection::Pending(pending) => (connect(pending, deadline).await?, false),
            };
            let client = &*used.insert(client);
            // A timer may be late; a request that is not sent was certainly not processed.
            let now = if is_reused {
                start.started_at
            } else {
                Instant::now()
            };
            if deadline.at.is_some_and(|end| end <= now) {
                return Err(AttemptFailure::deadline_before_sending(deadline));
            }
            let options = plan.attempt_options(start.number, deadline.at);
            let attempt = pin!(operation.attempt(client, options));
            let on_saturated = || self.workers.connections.on_saturated(start.worker);
            let reply = run_call(client, attempt, on_saturated).await;
            reply.map_err(|error| {
                let connection_died = is_reused && client.is_closed();
                AttemptFailure::from_call_error(error, plan, deadline, connection_died)
            })
        };
        let outcome = reply.await;
        let outcome = self.conclude(call, &start, used.as_ref(), outcome);
        (start.number, outcome)
    }

    /// An attempt has ended: reports the outcome to the balancer, and records how long it took.
    #[inline]
    pub(super) fn conclude<T>(
        &self,
        call: &ClusterCall<'_>,
        start: &AttemptStart<'_>,
        client: Option<&RpcClient>,
        mut outcome: Result<T, AttemptFailure>,
    ) -> Result<T, AttemptFailure> {
        let ended_at = Instant::now();
        let ended = EndedAttempt {
            call,
            worker: start.worker,
            client,
            took: ended_at.saturating_duration_since(start.started_at),
            at: self.workers.time(ended_at),
        };
        match (&mut outcome, client) {
            (Err(failure), _) => {
                failure.took = ended.took;
                failure.addr = client.map(connected_addr).or(failure.addr);
                self.workers.report_failure(&ended, failure);
            }
            // The reply of a stream comes later; it was opened with types that fit.
            (Ok(_), _) if call.plan.is_stream => self.workers.learn_compatible(&ended),
            (Ok(_), Some(client)) => self.workers.report_success(&ended, client),
            (Ok(_), None) => {}
        }
        if let (0, Ok(_), Some(latencies)) = (start.number, &outcome, call.plan.hedge_latencies) {
            latencies.record(ended.at, ended.took);
        }
        outcome
    }
}

/// The address that a connection was made to, in canonical form.
fn connected_addr(client: &RpcClient) -> SocketAddr {
    client.peer().addr()
}

/// Waits for the connection of an attempt.
async fn connect(
    pending: PendingConnection,
    deadline: AttemptDeadline,
) -> Result<RpcClient, AttemptFailure> {
    match pending.until(deadline.at.map(Instant::into_std)).await {
        Some(connected) => connected.map_err(AttemptFailure::from_connect_error),
        None => Err(AttemptFailure::deadline_before_sending(deadline)),
    }
}
