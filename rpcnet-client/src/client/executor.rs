//! The attempts of one call.

use std::{future::poll_fn, net::SocketAddr, pin::pin};

use rpcnet_balance::Time;
use rpcnet_registry::{NodeId, Worker};
use rpcnet_transport::{
    CallOptions, ConnectError, Endpoint, RpcClient, RpcError, pool::PooledConnection,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    AttemptReason, ClusterClient, ClusterError, StopReason,
    attempts::{AttemptFailure, Attempts},
    options::CallPlan,
    retry_policy::{RetryDecision, RetryKind, SharedRetryBudget},
};

impl ClusterClient {
    /// Attempts until one succeeds or no other makes sense. The first of them goes where it is told to go.
    pub(super) async fn run_attempts<T, F>(
        &self,
        plan: CallPlan<'_>,
        target: CallTarget<'_>,
        mut course: Attempts,
        mut first: Option<(Worker, PooledConnection)>,
        attempt: impl Fn(RpcClient, CallOptions) -> F,
    ) -> Result<(T, Worker), ClusterError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        // Before anybody is picked, so that no failure falls unheard between the two.
        self.connections.follow(&self.registry);
        let mut now = if course.started_count() == 0 {
            plan.started_at
        } else {
            Instant::now()
        };
        loop {
            let again = course.same_worker_next.take();
            let told = first
                .take()
                .or_else(|| again.and_then(|id| self.pick_same_process(target, &id)));
            let picked =
                told.map_or_else(|| self.pick(target, &course.excluded, plan.key, now), Ok);
            let (worker, connection) = match picked {
                Ok(picked) => picked,
                Err(error) if course.last_failure.is_none() => return Err(error.into()),
                // Everybody was tried, or nobody is left for the moment.
                Err(_) => match self.back_off(&plan, &mut course).await {
                    Ok(()) => {
                        now = Instant::now();
                        continue;
                    }
                    Err(gave_up) => return Err(course.into_error(gave_up)),
                },
            };
            let reason = match self.admit_attempt(&mut course) {
                Ok(reason) => reason,
                Err(gave_up) => return Err(course.into_error(gave_up)),
            };
            let outcome = if let Some(delay) = self.hedge_delay(&plan) {
                // On the heap, so that the calls that need none of it are small.
                let first = (worker, connection, reason);
                Box::pin(self.run_hedged(&plan, target, first, delay, &mut course, &attempt)).await
            } else {
                let number = course.start_next();
                let this = (target.method, number, now);
                let outcome = self.run_attempt(&worker, connection, &plan, this, &attempt);
                match outcome.await {
                    Ok(value) => Some((value, worker)),
                    Err(failure) => {
                        course.record_failure(&worker, reason, failure);
                        None
                    }
                }
            };
            if let Some(done) = outcome {
                self.on_call_succeeded();
                self.note_unreadable(target.method, &course);
                return Ok(done);
            }
            if let Err(gave_up) = self.plan_retry(&plan, &mut course) {
                return Err(course.into_error(gave_up));
            }
            now = Instant::now();
        }
    }

    /// One attempt on one worker, of which the balancer is told.
    pub(super) async fn run_attempt<T, F>(
        &self,
        worker: &Worker,
        connection: PooledConnection,
        plan: &CallPlan<'_>,
        (method, number, started): (&str, usize, Instant),
        attempt: &impl Fn(RpcClient, CallOptions) -> F,
    ) -> Result<T, AttemptFailure>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let end = AttemptDeadline::for_attempt(plan, started);
        let mut used = None;
        let outcome = async {
            let (client, reused) = connect(self.connections.endpoint(), connection, end).await?;
            let client = used.insert(client);
            // A timer may be late; a request that is not sent was certainly not processed.
            let now = if reused { started } else { Instant::now() };
            if end.at.is_some_and(|end| end <= now) {
                return Err(AttemptFailure::deadline_before_sending(end));
            }
            let options = plan.attempt_options(number, end.at);
            let mut call = pin!(attempt(client.clone(), options));
            let mut has_begun = false;
            let reply = poll_fn(|cx| {
                let reply = call.as_mut().poll(cx);
                if reply.is_pending() && !has_begun && client.is_saturated() {
                    self.connections.on_saturated(worker);
                }
                has_begun = true;
                reply
            });
            reply.await.map_err(|error| {
                AttemptFailure::from_call_error(error, plan, end, reused && client.is_closed())
            })
        };
        let mut outcome = outcome.await;
        let ended = Instant::now();
        let took = ended.saturating_duration_since(started);
        if let Err(failure) = &mut outcome {
            failure.took = took;
            failure.addr = used.as_ref().map(dialled_addr).or(failure.addr);
        }
        let ended = self.registry.time(ended.into_std());
        self.report(method, plan, worker, used.as_ref(), &outcome, (took, ended));
        if let (0, Ok(_), Some(observed)) = (number, &outcome, plan.latency_tracker) {
            observed.record(ended, took);
        }
        outcome
    }

    /// An attempt is about to be made: pays for it, counts it, and says why it is made.
    pub(super) fn admit_attempt(&self, course: &mut Attempts) -> Result<AttemptReason, StopReason> {
        let Some(kind) = course.retry_kind.take() else {
            self.counters.calls.add_one();
            return Ok(AttemptReason::First);
        };
        if kind.uses_budget() && !self.withdraw_budget() {
            return Err(StopReason::BudgetExhausted);
        }
        self.counters.retry(kind);
        Ok(AttemptReason::Retry {
            after: std::mem::take(&mut course.backed_off),
        })
    }

    /// Whether the failure of the latest attempt may be followed by another one.
    pub(super) fn plan_retry(
        &self,
        plan: &CallPlan<'_>,
        course: &mut Attempts,
    ) -> Result<(), StopReason> {
        let failure = course.last_failure.as_ref().expect("an attempt has failed");
        if failure.retry_decision == RetryDecision::Stop {
            return Err(failure.stop_reason());
        }
        if course.started_count() >= plan.attempts_max {
            return Err(StopReason::AttemptLimit);
        }
        let kind = RetryKind::after(&failure.error);
        // It is taken when the attempt starts: it may never, for want of time or of a worker.
        if kind.uses_budget() && !self.has_budget() {
            return Err(StopReason::BudgetExhausted);
        }
        course.retry_kind = Some(kind);
        // It answers from memory, or waits for the end of the attempt that was lost; anybody else would begin anew.
        if plan.relies_on_idempotency_cache()
            && failure.is_unanswered()
            && !course.same_worker_retried
        {
            course.same_worker_retried = true;
            course.same_worker_next = course.failed.last().map(|attempt| attempt.node.clone());
        }
        Ok(())
    }

    /// That same process again, if it can be reached.
    fn pick_same_process(
        &self,
        target: CallTarget<'_>,
        id: &NodeId,
    ) -> Option<(Worker, PooledConnection)> {
        let worker = self.registry.select_named(target.filter, &id.name).ok()?;
        let mut worker = Some(worker).filter(|worker| worker.id() == id)?;
        let now = self.registry.time(Instant::now().into_std());
        target.set_latency_kind(&mut worker, now);
        let connection = self.connections.connection(&worker);
        Some((worker, connection))
    }

    pub(super) fn on_call_succeeded(&self) {
        if let Some(budget) = &self.config.budget {
            budget.deposit();
        }
    }

    /// Takes an extra attempt, which starts now, out of the budget.
    pub(super) fn withdraw_budget(&self) -> bool {
        self.ask_budget(SharedRetryBudget::withdraw)
    }

    /// Whether the budget has an extra attempt.
    fn has_budget(&self) -> bool {
        self.ask_budget(SharedRetryBudget::has_token)
    }

    fn ask_budget(&self, ask: impl FnOnce(&SharedRetryBudget) -> bool) -> bool {
        let budget = self.config.budget.as_deref();
        let allowed = budget.is_none_or(ask);
        if !allowed {
            self.counters.budget_refusals.add_one();
        }
        allowed
    }

    /// Waits until one of the workers that were tried may be tried again.
    pub(super) async fn back_off(
        &self,
        plan: &CallPlan<'_>,
        course: &mut Attempts,
    ) -> Result<(), StopReason> {
        let failure = course.last_failure.as_ref().expect("an attempt has failed");
        // Who has been tried and may be again; or nobody was to blame.
        let hope = course.retry_at.iter().any(Option::is_some) || failure.allows_any_worker();
        if !hope || course.backoff_count >= plan.attempts_max {
            return Err(StopReason::NoWorkerLeft);
        }
        let times = u32::try_from(course.backoff_count).unwrap_or(u32::MAX);
        course.backoff_count += 1;
        let now = Instant::now();
        let pause = self.jitter.backoff(self.config.backoff, times);
        let first_free = course.retry_at.iter().flatten().min().copied();
        let end = now.checked_add(pause).max(first_free);
        let too_long = |deadline| end.is_none_or(|end| deadline <= end);
        if plan.deadline.is_some_and(too_long) {
            return Err(StopReason::Deadline);
        }
        let end = end.ok_or(StopReason::Deadline)?;
        let pause = self
            .connections
            .endpoint()
            .in_runtime(async { sleep_until(end).await });
        // A runtime that has ended is an error of the next attempt.
        let _ = pause.await;
        course.backed_off += end.saturating_duration_since(now);
        course.readmit_due(end);
        Ok(())
    }
}

/// What a call is for, and whom it may go to.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallTarget<'a> {
    pub(super) method: &'a str,
    pub(super) filter: Option<&'a str>,
    /// Whether it may find out if a worker that refused the method takes it by now.
    pub(super) probe_mode: ProbeMode,
    pub(super) is_stream: bool,
}

impl CallTarget<'_> {
    /// Tells the worker of a call that begins now what the latency of the call is compared with.
    pub(super) fn set_latency_kind(self, worker: &mut Worker, now: Time) {
        if self.is_stream {
            worker.set_stream(now);
        } else {
            worker.set_method(self.method, now);
        }
    }
}

/// When a call probes a worker that refused its method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeMode {
    Never,
    /// If the worker still refuses, another attempt follows.
    WhenDue,
    /// If the worker still refuses, the call fails.
    WhenOverdue,
}

/// Until when an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptDeadline {
    at: Option<Instant>,
    /// The call has more time than that.
    pub(super) is_attempt_timeout: bool,
}

impl AttemptDeadline {
    pub(super) fn for_call(deadline: Option<Instant>) -> Self {
        Self {
            at: deadline,
            is_attempt_timeout: false,
        }
    }

    fn for_attempt(plan: &CallPlan<'_>, now: Instant) -> Self {
        let of_attempt = plan.attempt_timeout.and_then(|time| now.checked_add(time));
        match (plan.deadline, of_attempt) {
            (deadline, Some(end)) if deadline.is_none_or(|deadline| end < deadline) => Self {
                at: Some(end),
                is_attempt_timeout: true,
            },
            (deadline, _) => Self::for_call(deadline),
        }
    }
}

/// The address that a connection was made to, in canonical form.
pub(super) fn dialled_addr(client: &RpcClient) -> SocketAddr {
    client.peer().addr()
}

/// The client to make a call with, and whether its connection was there before.
async fn connect(
    endpoint: &Endpoint,
    connection: PooledConnection,
    end: AttemptDeadline,
) -> Result<(RpcClient, bool), AttemptFailure> {
    let pending = match connection {
        PooledConnection::Ready(client) => return Ok((client, true)),
        PooledConnection::Pending(pending) => pending,
    };
    let connected = match end.at {
        Some(at) => {
            let waited = endpoint.in_runtime(async { timeout_at(at, pending).await });
            match waited.await {
                Ok(connected) => {
                    connected.map_err(|_| AttemptFailure::deadline_before_sending(end))?
                }
                Err(error) => Err(error),
            }
        }
        None => pending.await,
    };
    match connected {
        Ok(client) => Ok((client, false)),
        // The task that made it went with its runtime.
        Err(_) if endpoint.has_runtime_ended() => Err(AttemptFailure::from_connect_error(
            ConnectError::RuntimeEnded,
        )),
        Err(error) => Err(AttemptFailure::from_connect_error(error)),
    }
}
