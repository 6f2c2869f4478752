//! The attempts of one call.

use std::{future::poll_fn, net::SocketAddr, pin::pin};

use rpcnet_balance::Time;
use rpcnet_registry::{NodeId, Worker};
use rpcnet_transport::{CallOptions, ConnectError, Endpoint, RpcClient, RpcError};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    AttemptReason, ClusterClient, ClusterError, GaveUp,
    course::{Course, Failure},
    options::Plan,
    pool::Connection,
    retry::{Budget, RetryKind, Verdict},
};

impl ClusterClient {
    /// Attempts until one succeeds or no other makes sense. The first of them goes where it is told to go.
    pub(super) async fn run<T, F>(
        &self,
        plan: Plan<'_>,
        target: Target<'_>,
        mut course: Course,
        mut first: Option<(Worker, Connection)>,
        attempt: impl Fn(RpcClient, CallOptions) -> F,
    ) -> Result<(T, Worker), ClusterError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        // Before anybody is picked, so that no failure falls unheard between the two.
        self.pool.follow(&self.registry);
        let mut now = if course.made() == 0 {
            plan.made
        } else {
            Instant::now()
        };
        loop {
            let again = course.back_to.take();
            let told = first
                .take()
                .or_else(|| again.and_then(|id| self.pick_again(target, &id)));
            let picked = told.map_or_else(|| self.pick(target, &course.tried, plan.key, now), Ok);
            let (worker, connection) = match picked {
                Ok(picked) => picked,
                Err(error) if course.last.is_none() => return Err(error.into()),
                // Everybody was tried, or nobody is left for the moment.
                Err(_) => match self.pause(&plan, &mut course).await {
                    Ok(()) => {
                        now = Instant::now();
                        continue;
                    }
                    Err(gave_up) => return Err(course.end(gave_up)),
                },
            };
            let reason = match self.next_attempt(&mut course) {
                Ok(reason) => reason,
                Err(gave_up) => return Err(course.end(gave_up)),
            };
            let outcome = if let Some(delay) = self.hedge_delay(&plan) {
                // On the heap, so that the calls that need none of it are small.
                let first = (worker, connection, reason);
                Box::pin(self.race(&plan, target, first, delay, &mut course, &attempt)).await
            } else {
                let number = course.begin();
                let this = (target.method, number, now);
                let outcome = self.attempt(&worker, connection, &plan, this, &attempt);
                match outcome.await {
                    Ok(value) => Some((value, worker)),
                    Err(failure) => {
                        course.fail(&worker, reason, failure);
                        None
                    }
                }
            };
            if let Some(done) = outcome {
                self.succeeded();
                self.note_unreadable(target.method, &course);
                return Ok(done);
            }
            if let Err(gave_up) = self.may_retry(&plan, &mut course) {
                return Err(course.end(gave_up));
            }
            now = Instant::now();
        }
    }

    /// One attempt on one worker, of which the balancer is told.
    pub(super) async fn attempt<T, F>(
        &self,
        worker: &Worker,
        connection: Connection,
        plan: &Plan<'_>,
        (method, number, started): (&str, usize, Instant),
        attempt: &impl Fn(RpcClient, CallOptions) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let end = Until::of(plan, started);
        let mut used = None;
        let outcome = async {
            let (client, reused) = connect(self.pool.endpoint(), connection, end).await?;
            let client = used.insert(client);
            // A timer may be late; a request that is not sent was certainly not processed.
            let now = if reused { started } else { Instant::now() };
            if end.at.is_some_and(|end| end <= now) {
                return Err(Failure::out_of_time(end));
            }
            let options = plan.call_options(number, end.at);
            let mut call = pin!(attempt(client.clone(), options));
            let mut has_begun = false;
            let reply = poll_fn(|cx| {
                let reply = call.as_mut().poll(cx);
                if reply.is_pending() && !has_begun && client.is_saturated() {
                    self.pool.watch(worker);
                }
                has_begun = true;
                reply
            });
            reply
                .await
                .map_err(|error| Failure::of_call(error, plan, end, reused && client.is_closed()))
        };
        let mut outcome = outcome.await;
        let ended = Instant::now();
        let took = ended.saturating_duration_since(started);
        if let Err(failure) = &mut outcome {
            failure.took = took;
            failure.addr = used.as_ref().map(dialled).or(failure.addr);
        }
        let ended = self.registry.time(ended.into_std());
        self.report(method, plan, worker, used.as_ref(), &outcome, (took, ended));
        if let (0, Ok(_), Some(observed)) = (number, &outcome, plan.observed) {
            observed.record(ended, took);
        }
        outcome
    }

    /// An attempt is about to be made: pays for it, counts it, and says why it is made.
    pub(super) fn next_attempt(&self, course: &mut Course) -> Result<AttemptReason, GaveUp> {
        let Some(kind) = course.retry.take() else {
            self.counters.calls.add_one();
            return Ok(AttemptReason::First);
        };
        if kind.costs() && !self.withdraw() {
            return Err(GaveUp::Budget);
        }
        self.counters.retry(kind);
        Ok(AttemptReason::Retry {
            after: std::mem::take(&mut course.paused),
        })
    }

    /// Whether the failure of the latest attempt may be followed by another one.
    pub(super) fn may_retry(&self, plan: &Plan<'_>, course: &mut Course) -> Result<(), GaveUp> {
        let failure = course.last.as_ref().expect("an attempt has failed");
        if failure.verdict == Verdict::GiveUp {
            return Err(failure.final_reason());
        }
        if course.made() >= plan.attempts_max {
            return Err(GaveUp::AttemptsMax);
        }
        let kind = RetryKind::after(&failure.error);
        // It is taken when the attempt starts: it may never, for want of time or of a worker.
        if kind.costs() && !self.has_budget() {
            return Err(GaveUp::Budget);
        }
        course.retry = Some(kind);
        // It answers from memory, or waits for the end of the attempt that was lost; anybody else would begin anew.
        if plan.is_remembered() && failure.is_unanswered() && !course.went_back {
            course.went_back = true;
            course.back_to = course.failed.last().map(|attempt| attempt.node.clone());
        }
        Ok(())
    }

    /// That same process again, if it can be reached.
    fn pick_again(&self, target: Target<'_>, id: &NodeId) -> Option<(Worker, Connection)> {
        let worker = self.registry.select_named(target.filter, &id.name).ok()?;
        let mut worker = Some(worker).filter(|worker| worker.id() == id)?;
        let now = self.registry.time(Instant::now().into_std());
        target.note_kind(&mut worker, now);
        let connection = self.pool.connection(&worker);
        Some((worker, connection))
    }

    pub(super) fn succeeded(&self) {
        if let Some(budget) = &self.config.budget {
            budget.deposit();
        }
    }

    /// Takes an extra attempt, which starts now, out of the budget.
    pub(super) fn withdraw(&self) -> bool {
        self.ask_budget(Budget::withdraw)
    }

    /// Whether the budget has an extra attempt.
    fn has_budget(&self) -> bool {
        self.ask_budget(Budget::has_any)
    }

    fn ask_budget(&self, ask: impl FnOnce(&Budget) -> bool) -> bool {
        let budget = self.config.budget.as_deref();
        let allowed = budget.is_none_or(ask);
        if !allowed {
            self.counters.budget_refusals.add_one();
        }
        allowed
    }

    /// Waits until one of the workers that were tried may be tried again.
    pub(super) async fn pause(&self, plan: &Plan<'_>, course: &mut Course) -> Result<(), GaveUp> {
        let failure = course.last.as_ref().expect("an attempt has failed");
        // Who has been tried and may be again; or nobody was to blame.
        let hope = course.free_at.iter().any(Option::is_some) || failure.is_for_any();
        if !hope || course.pauses >= plan.attempts_max {
            return Err(GaveUp::NobodyLeft);
        }
        let times = u32::try_from(course.pauses).unwrap_or(u32::MAX);
        course.pauses += 1;
        let now = Instant::now();
        let pause = self.jitter.pause(self.config.backoff, times);
        let first_free = course.free_at.iter().flatten().min().copied();
        let end = now.checked_add(pause).max(first_free);
        let too_long = |deadline| end.is_none_or(|end| deadline <= end);
        if plan.deadline.is_some_and(too_long) {
            return Err(GaveUp::Deadline);
        }
        let end = end.ok_or(GaveUp::Deadline)?;
        let pause = self
            .pool
            .endpoint()
            .inside(async { sleep_until(end).await });
        // A runtime that has ended is an error of the next attempt.
        let _ = pause.await;
        course.paused += end.saturating_duration_since(now);
        course.start_over(end);
        Ok(())
    }
}

/// What a call is for, and whom it may go to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) method: &'a str,
    pub(super) filter: Option<&'a str>,
    /// Whether it may find out if a worker that refused the method takes it by now.
    pub(super) may_probe: Probes,
    pub(super) is_stream: bool,
}

impl Target<'_> {
    /// Tells the worker of a call that begins now what the latency of the call is compared with.
    pub(super) fn note_kind(self, worker: &mut Worker, now: Time) {
        if self.is_stream {
            worker.note_stream(now);
        } else {
            worker.note_method(self.method, now);
        }
    }
}

/// When a call probes a worker that refused its method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probes {
    Never,
    /// If the worker still refuses, another attempt follows.
    AsSoonAsDue,
    /// If the worker still refuses, the call fails.
    WhenLongDue,
}

/// Until when an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    at: Option<Instant>,
    /// The call has more time than that.
    pub(super) is_of_attempt: bool,
}

impl Until {
    pub(super) fn of_call(deadline: Option<Instant>) -> Self {
        Self {
            at: deadline,
            is_of_attempt: false,
        }
    }

    fn of(plan: &Plan<'_>, now: Instant) -> Self {
        let of_attempt = plan.attempt_timeout.and_then(|time| now.checked_add(time));
        match (plan.deadline, of_attempt) {
            (deadline, Some(end)) if deadline.is_none_or(|deadline| end < deadline) => Self {
                at: Some(end),
                is_of_attempt: true,
            },
            (deadline, _) => Self::of_call(deadline),
        }
    }
}

/// The address that a connection was made to, in canonical form.
pub(super) fn dialled(client: &RpcClient) -> SocketAddr {
    client.peer().addr()
}

/// The client to make a call with, and whether its connection was there before.
async fn connect(
    endpoint: &Endpoint,
    connection: Connection,
    end: Until,
) -> Result<(RpcClient, bool), Failure> {
    let pending = match connection {
        Connection::Ready(client) => return Ok((client, true)),
        Connection::Pending(pending) => pending,
    };
    let connected = match end.at {
        Some(at) => {
            let waited = endpoint.inside(async { timeout_at(at, pending).await });
            match waited.await {
                Ok(connected) => connected.map_err(|_| Failure::out_of_time(end))?,
                Err(error) => Err(error),
            }
        }
        None => pending.await,
    };
    match connected {
        Ok(client) => Ok((client, false)),
        // The task that made it went with its runtime.
        Err(_) if endpoint.has_runtime_ended() => {
            Err(Failure::of_connect(ConnectError::RuntimeEnded))
        }
        Err(error) => Err(Failure::of_connect(error)),
    }
}
