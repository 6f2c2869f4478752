//! Several attempts of one call at a time.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use rpcnet_balance::{Outcome, OutcomeKind};
use rpcnet_registry::Worker;
use rpcnet_transport::{CallOptions, Code, RpcClient, RpcError, pool::PooledConnection};
use tokio::time::{Instant, sleep};

use super::{
    AttemptReason, ClusterClient,
    attempts::Attempts,
    executor::{CallTarget, ProbeMode},
    options::CallPlan,
    retry_policy::RetryDecision,
};

/// One of the attempts.
struct HedgedAttempt {
    worker: Arc<Worker>,
    number: usize,
    reason: AttemptReason,
    started_at: Instant,
    is_running: bool,
}

impl ClusterClient {
    /// How long the first attempt of a call is left alone; `None` if for as long as it takes.
    pub(super) fn hedge_delay(&self, plan: &CallPlan<'_>) -> Option<Duration> {
        let hedging = plan.hedging.as_ref()?;
        hedging.delay(plan.latency_tracker, self.registry.now())
    }

    /// An attempt, with others beside it if it takes long. The first good reply wins, and the others are given up. `None`: all have
    /// failed, or one for good, as the course says.
    pub(super) async fn run_hedged<T, F>(
        &self,
        plan: &CallPlan<'_>,
        target: CallTarget<'_>,
        (worker, connection, reason): (Worker, PooledConnection, AttemptReason),
        delay: Duration,
        course: &mut Attempts,
        attempt: &impl Fn(RpcClient, CallOptions) -> F,
    ) -> Option<(T, Worker)>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let begin = |racer: &HedgedAttempt, connection, index| {
            let worker = Arc::clone(&racer.worker);
            let this = (target.method, racer.number, racer.started_at);
            async move {
                let outcome = self.run_attempt(&worker, connection, plan, this, attempt);
                (index, outcome.await)
            }
        };
        let mut racers = vec![HedgedAttempt::new(worker, reason, course)];
        let mut running = FuturesUnordered::new();
        running.push(begin(&racers[0], connection, 0));
        let endpoint = self.connections.endpoint();
        let wait = || endpoint.in_runtime(async move { sleep(delay).await });
        let mut patience = pin!(wait());
        let mut may_hedge = true;
        loop {
            tokio::select! {
                biased;
                Some((index, outcome)) = running.next() => {
                    racers[index].is_running = false;
                    match outcome {
                        Ok(value) => {
                            // The others are cancelled, at their workers too.
                            drop(running);
                            return Some((value, self.conclude_hedged(plan, racers, index)));
                        }
                        Err(failure) => {
                            may_hedge &= failure.error.code() != Code::Overloaded;
                            let is_over = failure.retry_decision == RetryDecision::Stop;
                            course.record_failure(&racers[index].worker, racers[index].reason, failure);
                            if is_over || running.is_empty() {
                                for racer in racers.iter().filter(|racer| racer.is_running) {
                                    course.record_cancelled(&racer.worker, racer.reason, racer.started_at.elapsed());
                                }
                                return None;
                            }
                        }
                    }
                }
                waited = &mut patience, if may_hedge => {
                    if waited.is_err() {
                        // The runtime of the endpoint has ended, as the attempts will find.
                        may_hedge = false;
                        continue;
                    }
                    if let Some((worker, connection)) = self.pick_hedge(plan, target, &racers, course) {
                        let racer = HedgedAttempt::new(worker, AttemptReason::Hedge, course);
                        running.push(begin(&racer, connection, racers.len()));
                        racers.push(racer);
                        patience.set(wait());
                    } else {
                        may_hedge = false;
                    }
                }
            }
        }
    }

    /// Another worker for a call that takes long, if there may be one more attempt.
    fn pick_hedge(
        &self,
        plan: &CallPlan<'_>,
        target: CallTarget<'_>,
        racers: &[HedgedAttempt],
        course: &mut Attempts,
    ) -> Option<(Worker, PooledConnection)> {
        let hedges_max = plan.hedging.as_ref()?.hedges_max();
        if course.hedges >= hedges_max || course.started_count() >= plan.attempts_max {
            return None;
        }
        let asked = racers.iter().map(|racer| racer.worker.endpoint_id());
        let excluded: Vec<u64> = course.excluded.iter().copied().chain(asked).collect();
        let target = CallTarget {
            probe_mode: ProbeMode::Never,
            ..target
        };
        let picked = self
            .pick(target, &excluded, plan.key, Instant::now())
            .ok()?;
        let is_busy = picked
            .0
            .endpoint()
            .reported_load()
            .is_some_and(|load| load.busy);
        if is_busy || !self.withdraw_budget() {
            return None;
        }
        course.hedges += 1;
        self.counters.hedges.add_one();
        Some(picked)
    }

    /// Tells of those that were outrun, and returns the one who has won.
    fn conclude_hedged(
        &self,
        plan: &CallPlan<'_>,
        mut racers: Vec<HedgedAttempt>,
        winner: usize,
    ) -> Worker {
        let winner = racers.swap_remove(winner);
        for racer in racers.iter().filter(|racer| racer.is_running) {
            let took = racer.started_at.elapsed();
            racer
                .worker
                .report(&Outcome::new(OutcomeKind::Cancelled, took));
            if let (0, Some(observed)) = (racer.number, plan.latency_tracker) {
                observed.record(self.registry.now(), took);
            }
        }
        if winner.reason == AttemptReason::Hedge {
            self.counters.hedges_won.add_one();
        }
        Arc::into_inner(winner.worker).expect("the attempts on it have ended")
    }
}

impl HedgedAttempt {
    fn new(worker: Worker, reason: AttemptReason, course: &mut Attempts) -> Self {
        Self {
            worker: Arc::new(worker),
            number: course.start_next(),
            reason,
            started_at: Instant::now(),
            is_running: true,
        }
    }
}
