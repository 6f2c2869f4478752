//! The attempts of one call.

use std::{future::poll_fn, pin::pin, time::Duration};

use rpcnet_registry::{NodeId, Worker};
use rpcnet_transport::{CallOptions, Code, ConnectError, Processed, RpcClient, RpcError};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Attempt, AttemptReason, ClusterClient, ClusterError, GaveUp,
    options::Plan,
    pool::Connection,
    retry::{RetryKind, Verdict, verdict},
};

impl ClusterClient {
    /// Attempts until one succeeds or no other makes sense.
    pub(super) async fn run<T, F>(
        &self,
        plan: Plan<'_>,
        filter: Option<&str>,
        attempt: impl Fn(RpcClient, CallOptions) -> F,
    ) -> Result<(T, Worker), ClusterError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        // Before anybody is picked, so that no failure falls unheard between the two.
        self.pool.follow(&self.registry);
        let mut course = Course::default();
        // The clock is read as seldom as may be: it costs as much as a pick.
        let mut now = plan.made;
        loop {
            let again = course.back_to.take();
            let again = again.and_then(|id| self.pick_again(filter, &id));
            let picked = again.map_or_else(|| self.pick(filter, &course.tried, plan.key, now), Ok);
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
            let reason = self.next_attempt(&mut course);
            let outcome = if let Some(delay) = self.hedge_delay(&plan) {
                // On the heap, so that the calls that need none of it are small.
                let first = (worker, connection, reason);
                Box::pin(self.race(&plan, filter, first, delay, &mut course, &attempt)).await
            } else {
                let number = course.begin();
                let outcome = self.attempt(&worker, connection, &plan, (number, now), &attempt);
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
        (number, started): (usize, Instant),
        attempt: &impl Fn(RpcClient, CallOptions) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let end = Until::of(plan, started);
        let mut used = None;
        let outcome = async {
            let (client, reused) = connect(connection, end).await?;
            let client = used.insert(client);
            // A timer may be late; a request that is not sent was certainly not processed.
            let now = if reused { started } else { Instant::now() };
            if end.at.is_some_and(|end| end <= now) {
                return Err(Failure::out_of_time(end));
            }
            let mut options = CallOptions::new()
                .with_attempt(u8::try_from(number).unwrap_or(u8::MAX))
                .with_idempotent(plan.idempotent)
                // The plan has it, of the place where the call was made.
                .without_inheritance();
            if let Some(priority) = plan.priority {
                options = options.with_priority(priority);
            }
            if let Some(key) = plan.idempotency_key {
                options = options.with_idempotency_key(key);
            }
            options = match end.at {
                Some(end) => options.with_deadline(end.into_std()),
                None => options.without_deadline(),
            };
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
        }
        let ended = self.registry.time(ended.into_std());
        self.report(worker, used.as_ref(), &outcome, (took, ended));
        if let (0, Ok(_), Some(observed)) = (number, &outcome, plan.observed) {
            observed.record(ended, took);
        }
        outcome
    }

    /// An attempt is about to be made: counts it, and says why it is made.
    pub(super) fn next_attempt(&self, course: &mut Course) -> AttemptReason {
        match course.retry.take() {
            None => {
                self.counters.calls.add_one();
                AttemptReason::First
            }
            Some(kind) => {
                self.counters.retry(kind);
                AttemptReason::Retry {
                    after: std::mem::take(&mut course.paused),
                }
            }
        }
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
        if kind.costs() && !self.withdraw() {
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
    fn pick_again(&self, filter: Option<&str>, id: &NodeId) -> Option<(Worker, Connection)> {
        let all = self.registry.select_all(filter).ok()?;
        let worker = all.into_iter().find(|worker| worker.id() == id)?;
        let connection = self.pool.connection(&worker);
        Some((worker, connection))
    }

    pub(super) fn succeeded(&self) {
        if let Some(budget) = &self.config.budget {
            budget.deposit();
        }
    }

    /// Takes an extra attempt out of the budget.
    pub(super) fn withdraw(&self) -> bool {
        let budget = self.config.budget.as_ref();
        let allowed = budget.is_none_or(|budget| budget.withdraw());
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
        sleep_until(end).await;
        course.paused += end.saturating_duration_since(now);
        course.start_over(end);
        Ok(())
    }
}

/// Until when an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    at: Option<Instant>,
    /// The call has more time than that.
    is_of_attempt: bool,
}

impl Until {
    fn of(plan: &Plan<'_>, now: Instant) -> Self {
        let of_attempt = plan.attempt_timeout.and_then(|time| now.checked_add(time));
        match (plan.deadline, of_attempt) {
            (deadline, Some(end)) if deadline.is_none_or(|deadline| end < deadline) => Self {
                at: Some(end),
                is_of_attempt: true,
            },
            (deadline, _) => Self {
                at: deadline,
                is_of_attempt: false,
            },
        }
    }
}

/// The client to make a call with, and whether its connection was there before.
async fn connect(connection: Connection, end: Until) -> Result<(RpcClient, bool), Failure> {
    let pending = match connection {
        Connection::Ready(client) => return Ok((client, true)),
        Connection::Pending(pending) => pending,
    };
    let connected = match end.at {
        Some(at) => timeout_at(at, pending)
            .await
            .map_err(|_| Failure::out_of_time(end))?,
        None => pending.await,
    };
    match connected {
        Ok(client) => Ok((client, false)),
        Err(error) => Err(Failure::of_connect(error)),
    }
}

/// What came of the attempts of a call so far.
#[derive(Default)]
pub(super) struct Course {
    /// How many were begun.
    made: usize,
    pub(super) hedges: usize,
    failed: Vec<Attempt>,
    pub(super) last: Option<Failure>,
    /// The ids of those who were tried, who are not to be asked again until somebody else was.
    pub(super) tried: Vec<u64>,
    /// From when on each of them may be asked again; `None` if it will not do it soon.
    free_at: Vec<Option<Instant>>,
    /// Why the next attempt is made, once one has failed.
    retry: Option<RetryKind>,
    /// Whom it goes to all the same, once: the one that may have done it and would remember.
    back_to: Option<NodeId>,
    went_back: bool,
    /// How often it was waited, and for how long before the next attempt.
    pauses: usize,
    paused: Duration,
}

impl Course {
    /// The number of an attempt that begins now.
    pub(super) fn begin(&mut self) -> usize {
        self.made += 1;
        self.made - 1
    }

    pub(super) fn made(&self) -> usize {
        self.made
    }

    pub(super) fn fail(&mut self, worker: &Worker, reason: AttemptReason, failure: Failure) {
        self.failed.push(Attempt {
            node: worker.id().clone(),
            addr: worker.addr,
            reason,
            took: failure.took,
            error: failure.error.clone(),
        });
        // On a connection that had died unnoticed, nothing is known about the worker itself.
        if !failure.stale_connection {
            let now = Instant::now();
            let wait = failure.error.retry_after().unwrap_or_default();
            let free_at = now.checked_add(wait).filter(|_| failure.is_for_any());
            self.tried.push(worker.endpoint_id());
            self.free_at.push(free_at);
        }
        self.last = Some(failure);
    }

    /// An attempt that runs is cancelled, because the call has failed otherwise.
    pub(super) fn give_up(&mut self, worker: &Worker, reason: AttemptReason, took: Duration) {
        let message = "another attempt has ended the call";
        self.failed.push(Attempt {
            node: worker.id().clone(),
            addr: worker.addr,
            reason,
            took,
            error: RpcError::new(Code::Cancelled, Processed::Maybe, message),
        });
    }

    /// Those who may be asked again by now have another turn.
    fn start_over(&mut self, now: Instant) {
        let mut free = self.free_at.iter();
        let is_free = |at: &Option<Instant>| at.is_some_and(|at| at <= now);
        self.tried.retain(|_| !free.next().is_some_and(is_free));
        self.free_at.retain(|at| !is_free(at));
    }

    /// The outcome of a call that ends with its last failure.
    pub(super) fn end(self, gave_up: GaveUp) -> ClusterError {
        let attempts = self.failed;
        let failure = self.last.expect("a call ends after an attempt");
        let Failure { error, connect, .. } = failure;
        let is_late = error.code() == Code::DeadlineExceeded && error.processed() != Processed::Yes;
        if let Some(error) = connect {
            ClusterError::Connect {
                error,
                attempts,
                gave_up,
            }
        } else if is_late && gave_up == GaveUp::Deadline {
            ClusterError::DeadlineExceeded { attempts }
        } else {
            ClusterError::Rpc {
                error,
                attempts,
                gave_up,
            }
        }
    }
}

/// Why an attempt failed, and what follows.
pub(super) struct Failure {
    pub(super) error: RpcError,
    pub(super) verdict: Verdict,
    connect: Option<ConnectError>,
    took: Duration,
    /// The request was never sent, because the connection it was to use had died before.
    stale_connection: bool,
}

impl Failure {
    fn new(error: RpcError, verdict: Verdict) -> Self {
        Self {
            error,
            verdict,
            connect: None,
            took: Duration::ZERO,
            stale_connection: false,
        }
    }

    fn of_connect(error: ConnectError) -> Self {
        let verdict = match error {
            // Ours is closed: no worker can be reached.
            ConnectError::EndpointClosed => Verdict::GiveUp,
            _ => Verdict::AnyWorker,
        };
        Self {
            connect: Some(error.clone()),
            ..Self::new(error.into(), verdict)
        }
    }

    fn of_call(error: RpcError, plan: &Plan<'_>, end: Until, connection_died: bool) -> Self {
        let took_too_long = error.code() == Code::DeadlineExceeded
            && error.processed() != Processed::Yes
            && !error.forbids_retry();
        // The call has time left, and may be repeated, or its attempts would have as much time as itself.
        let verdict = if took_too_long && end.is_of_attempt {
            Verdict::AnyWorker
        } else {
            verdict(&error, plan.repeatable)
        };
        Self {
            stale_connection: connection_died
                && error.code() == Code::Unavailable
                && error.processed() == Processed::No,
            ..Self::new(error, verdict)
        }
    }

    fn out_of_time(end: Until) -> Self {
        let verdict = if end.is_of_attempt {
            Verdict::AnyWorker
        } else {
            Verdict::GiveUp
        };
        let message = "the request was not sent in time";
        let error = RpcError::new(Code::DeadlineExceeded, Processed::No, message);
        Self::new(error, verdict)
    }

    fn is_for_any(&self) -> bool {
        self.verdict == Verdict::AnyWorker
    }

    /// Whether it may have been processed, and the answer was lost or did not come in time.
    fn is_unanswered(&self) -> bool {
        self.error.processed() == Processed::Maybe
            && matches!(
                self.error.code(),
                Code::Unavailable | Code::DeadlineExceeded
            )
    }

    /// Why a call ends that this one ends.
    fn final_reason(&self) -> GaveUp {
        if self.error.forbids_retry() {
            GaveUp::Forbidden
        } else if self.error.code() == Code::DeadlineExceeded
            && self.error.processed() != Processed::Yes
        {
            GaveUp::Deadline
        } else {
            GaveUp::Final
        }
    }
}
