//! Call executor: the attempts of one call, from the choice of a worker to the outcome.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
};

use rpcnet_balance::retry::StopReason;
use rpcnet_registry::Worker;
use rpcnet_transport::{Endpoint, RpcClient, RpcError, pool::PooledConnection};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    AttemptReason, ClusterError,
    attempts::{AttemptFailure, Attempts},
    call_plan::{AttemptDeadline, CallPlan},
    operation::Operation,
    retry_control::RetryControl,
    retry_decision::{RetryDecision, retry_kind},
    workers::{CallTarget, Workers},
};

/// Makes the attempts of calls.
pub(super) struct Executor {
    pub(super) workers: Workers,
    pub(super) retries: RetryControl,
}

/// One attempt that starts: on which worker, over which connection, when.
pub(super) struct AttemptStart<'a> {
    pub(super) worker: &'a Worker,
    pub(super) number: usize,
    pub(super) started_at: Instant,
}

impl Executor {
    /// Makes attempts until one succeeds or no other makes sense.
    ///
    /// The quick path is the first attempt of a call that waits for no connection, has no timeout
    /// of its attempts, no hedges and no idempotency key: its future is all that it needs. What the
    /// other calls need, and those whose first attempt fails, is on the heap.
    #[allow(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice, which costs each call time"
    )]
    pub(super) fn execute<'s, O: Operation>(
        &'s self,
        plan: impl FnOnce() -> CallPlan<'s>,
        target: CallTarget<'_, '_>,
        operation: O,
    ) -> impl Future<Output = Result<(O::Reply, Worker), ClusterError>> {
        async move {
            // Before a worker is picked, so that no failure between the two is missed.
            self.workers.follow();
            let plan = plan();
            let picked = self.workers.pick(&plan, target, &[], plan.started_at)?;
            let (worker, client) = match picked {
                (worker, PooledConnection::Ready(client)) if plan.fits_quick_path() => {
                    (worker, client)
                }
                picked => {
                    let attempts = Attempts::default();
                    let rest = self.run_attempts(&plan, target, attempts, Some(picked), &operation);
                    return Box::pin(rest).await;
                }
            };
            self.retries.counters.calls.add_one();
            let options = plan.attempt_options(0, plan.deadline);
            let reply = {
                let call = pin!(operation.attempt(&client, options));
                self.send(&worker, &client, call).await
            };
            let start = AttemptStart {
                worker: &worker,
                number: 0,
                started_at: plan.started_at,
            };
            let outcome = reply.map_err(|error| {
                let deadline = AttemptDeadline::for_call(plan.deadline);
                AttemptFailure::from_call_error(error, &plan, deadline, client.is_closed())
            });
            match self.conclude(&plan, target, &start, Some(&client), outcome) {
                Ok(reply) => {
                    self.retries.on_call_succeeded();
                    Ok((reply, worker))
                }
                Err(failure) => {
                    let attempts = self.first_failed(&plan, worker, failure)?;
                    drop(client);
                    Box::pin(self.run_attempts(&plan, target, attempts, None, &operation)).await
                }
            }
        }
    }

    /// Plans the retry after the quick path has failed.
    #[cold]
    fn first_failed(
        &self,
        plan: &CallPlan<'_>,
        worker: Worker,
        failure: AttemptFailure,
    ) -> Result<Attempts, ClusterError> {
        let mut attempts = Attempts::default();
        attempts.state.start_attempt();
        let now = self.workers.now();
        attempts.record_failure(&worker, AttemptReason::First, failure, plan, now);
        match self.plan_retry(plan, &mut attempts) {
            Ok(()) => Ok(attempts),
            Err(stop_reason) => Err(attempts.into_error(stop_reason)),
        }
    }

    /// Makes the attempts that are left, the first of them on the worker that was picked for it.
    async fn run_attempts<O: Operation>(
        &self,
        plan: &CallPlan<'_>,
        target: CallTarget<'_, '_>,
        mut attempts: Attempts,
        mut first: Option<(Worker, PooledConnection)>,
        operation: &O,
    ) -> Result<(O::Reply, Worker), ClusterError> {
        let mut now = plan.started_at;
        if attempts.state.started() > 0 {
            now = Instant::now();
        }
        loop {
            let same_worker = attempts.same_worker_next.take();
            let given = first.take().or_else(|| {
                let id = same_worker?;
                self.workers.pick_same_process(plan, target, &id)
            });
            let picked = given.map_or_else(
                || {
                    let excluded = attempts.state.excluded();
                    self.workers.pick(plan, target, excluded, now)
                },
                Ok,
            );
            let (worker, connection) = match picked {
                Ok(picked) => picked,
                Err(error) if attempts.last_failure.is_none() => return Err(error.into()),
                // Every worker was tried, or none is left for the moment.
                Err(_) => match self.back_off(plan, &mut attempts).await {
                    Ok(()) => {
                        now = Instant::now();
                        continue;
                    }
                    Err(stop_reason) => return Err(attempts.into_error(stop_reason)),
                },
            };
            let reason = match self.admit_attempt(&mut attempts) {
                Ok(reason) => reason,
                Err(stop_reason) => return Err(attempts.into_error(stop_reason)),
            };
            let outcome = if let Some(delay) = self.hedge_delay(plan) {
                // On the heap, so that calls without hedges are small.
                let first = (worker, connection, reason);
                Box::pin(self.run_hedged(plan, target, first, delay, &mut attempts, operation))
                    .await
            } else {
                let start = AttemptStart {
                    worker: &worker,
                    number: attempts.state.start_attempt(),
                    started_at: now,
                };
                let outcome = self
                    .run_attempt(plan, target, &start, connection, operation)
                    .await;
                match outcome {
                    Ok(reply) => Some((reply, worker)),
                    Err(failure) => {
                        let now = self.workers.now();
                        attempts.record_failure(&worker, reason, failure, plan, now);
                        None
                    }
                }
            };
            if let Some(done) = outcome {
                self.retries.on_call_succeeded();
                self.workers
                    .note_unreadable(target.method, &attempts.unreadable_workers);
                return Ok(done);
            }
            if let Err(stop_reason) = self.plan_retry(plan, &mut attempts) {
                return Err(attempts.into_error(stop_reason));
            }
            now = Instant::now();
        }
    }

    /// One attempt on one worker, whose outcome is reported.
    pub(super) async fn run_attempt<O: Operation>(
        &self,
        plan: &CallPlan<'_>,
        target: CallTarget<'_, '_>,
        start: &AttemptStart<'_>,
        connection: PooledConnection,
        operation: &O,
    ) -> Result<O::Reply, AttemptFailure> {
        let deadline = AttemptDeadline::for_attempt(plan, start.started_at);
        let mut used = None;
        let attempt = async {
            let endpoint = self.workers.connections.endpoint();
            let (client, is_reused) = connect(endpoint, connection, deadline).await?;
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
            let call = pin!(operation.attempt(client, options));
            let reply = self.send(start.worker, client, call).await;
            reply.map_err(|error| {
                let connection_died = is_reused && client.is_closed();
                AttemptFailure::from_call_error(error, plan, deadline, connection_died)
            })
        };
        let outcome = attempt.await;
        self.conclude(plan, target, start, used.as_ref(), outcome)
    }

    /// Runs a call on a connection. If it has to wait for a place there, the pool may make another
    /// connection.
    fn send<'a, T>(
        &'a self,
        worker: &'a Worker,
        client: &'a RpcClient,
        mut call: Pin<&'a mut impl Future<Output = Result<T, RpcError>>>,
    ) -> impl Future<Output = Result<T, RpcError>> {
        let mut is_first_poll = true;
        poll_fn(move |cx| {
            let reply = call.as_mut().poll(cx);
            if is_first_poll && reply.is_pending() && client.is_saturated() {
                self.workers.connections.on_saturated(worker);
            }
            is_first_poll = false;
            reply
        })
    }

    /// An attempt has ended: reports the outcome to the balancer, and notes how long it took.
    #[inline]
    fn conclude<T>(
        &self,
        plan: &CallPlan<'_>,
        target: CallTarget<'_, '_>,
        start: &AttemptStart<'_>,
        client: Option<&RpcClient>,
        mut outcome: Result<T, AttemptFailure>,
    ) -> Result<T, AttemptFailure> {
        let ended_at = Instant::now();
        let took = ended_at.saturating_duration_since(start.started_at);
        let ended = self.workers.registry.time(ended_at.into_std());
        match (&mut outcome, client) {
            (Err(failure), client) => {
                failure.took = took;
                failure.addr = client.map(connected_addr).or(failure.addr);
                self.workers.report_failure(
                    target.method,
                    plan,
                    start.worker,
                    client,
                    failure,
                    ended,
                );
            }
            // The answer of a stream comes later.
            (Ok(_), _) if plan.is_stream => {}
            (Ok(_), Some(client)) => {
                let outcome = (took, ended);
                self.workers
                    .report_success(target.method, start.worker, client, outcome);
            }
            (Ok(_), None) => {}
        }
        if let (0, Ok(_), Some(latencies)) = (start.number, &outcome, plan.hedge_latencies) {
            latencies.record(ended, took);
        }
        outcome
    }

    /// An attempt is about to start: takes its token out of the budget, counts it, and says why it
    /// is made.
    fn admit_attempt(&self, attempts: &mut Attempts) -> Result<AttemptReason, StopReason> {
        let Some((kind, after)) = attempts.state.take_planned() else {
            self.retries.counters.calls.add_one();
            return Ok(AttemptReason::First);
        };
        if self.retries.admit_retry(kind) {
            Ok(AttemptReason::Retry { after })
        } else {
            Err(StopReason::BudgetExhausted)
        }
    }

    /// Plans a retry after the failure of the latest attempt.
    fn plan_retry(&self, plan: &CallPlan<'_>, attempts: &mut Attempts) -> Result<(), StopReason> {
        let failure = attempts
            .last_failure
            .as_ref()
            .expect("an attempt has failed");
        match failure.retry_decision {
            RetryDecision::Stop => return Err(failure.stop_reason()),
            RetryDecision::OtherWorker if plan.has_single_target => {
                return Err(StopReason::NoEndpointLeft);
            }
            RetryDecision::OtherWorker | RetryDecision::AnyWorker => {}
        }
        let kind = retry_kind(&failure.error);
        let has_budget = || self.retries.has_budget();
        attempts
            .state
            .plan_retry(kind, plan.attempts_max, has_budget)?;
        // It answers from its cache, or waits for the end of the attempt that was lost; another
        // worker would run the call anew.
        let may_remember = plan.relies_on_idempotency_cache() && failure.is_unanswered();
        if may_remember && !attempts.same_worker_retried {
            attempts.same_worker_retried = true;
            attempts.same_worker_next = attempts.last_failed_node();
        }
        Ok(())
    }

    /// Waits until one of the workers that were tried may be tried again.
    async fn back_off(
        &self,
        plan: &CallPlan<'_>,
        attempts: &mut Attempts,
    ) -> Result<(), StopReason> {
        let registry = &self.workers.registry;
        let failure = attempts.last_failure.as_ref();
        let may_retry_any = failure.is_some_and(AttemptFailure::allows_any_worker);
        let now = Instant::now();
        let wait = attempts.state.back_off(
            registry.time(now.into_std()),
            plan.deadline.map(|end| registry.time(end.into_std())),
            plan.attempts_max,
            may_retry_any,
            &self.retries.backoff,
        )?;
        let endpoint = self.workers.connections.endpoint();
        // If the runtime has ended, the next attempt finds out.
        let _ = endpoint.in_runtime(async { sleep(wait).await }).await;
        Ok(())
    }
}

/// The address that a connection was made to, in canonical form.
fn connected_addr(client: &RpcClient) -> SocketAddr {
    client.peer().addr()
}

/// The connection for an attempt, and whether it was there before.
async fn connect(
    endpoint: &Endpoint,
    connection: PooledConnection,
    deadline: AttemptDeadline,
) -> Result<(RpcClient, bool), AttemptFailure> {
    let pending = match connection {
        PooledConnection::Ready(client) => return Ok((client, true)),
        PooledConnection::Pending(pending) => pending,
    };
    let connected = match deadline.at {
        Some(at) => {
            let waited = endpoint.in_runtime(async { timeout_at(at, pending).await });
            match waited.await {
                Ok(connected) => {
                    connected.map_err(|_| AttemptFailure::deadline_before_sending(deadline))?
                }
                Err(error) => Err(error),
            }
        }
        None => pending.await,
    };
    match connected {
        Ok(client) => Ok((client, false)),
        Err(error) => Err(AttemptFailure::from_connect_error(error)),
    }
}
