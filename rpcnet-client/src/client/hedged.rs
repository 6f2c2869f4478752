//! Hedged attempts: several attempts of one call at a time, of which the first good reply wins.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use rpcnet_balance::{Outcome, OutcomeKind};
use rpcnet_registry::Worker;
use rpcnet_transport::{Code, pool::PooledConnection};
use tokio::time::{Instant, sleep};

use super::{
    AttemptReason,
    attempts::Attempts,
    call_plan::CallPlan,
    executor::{AttemptStart, Executor},
    operation::Operation,
    retry_decision::RetryDecision,
    workers::CallTarget,
};

/// One of the attempts.
struct HedgedAttempt {
    worker: Arc<Worker>,
    number: usize,
    reason: AttemptReason,
    started_at: Instant,
    is_running: bool,
}

impl Executor {
    /// Time from the first attempt to its first hedge; `None` if there is no hedge.
    pub(super) fn hedge_delay(&self, plan: &CallPlan<'_>) -> Option<Duration> {
        let hedging = plan.hedging.as_ref()?;
        hedging.delay(plan.hedge_latencies, self.workers.registry.now())
    }

    /// An attempt, with others beside it if it takes long. The first good reply wins, and the
    /// others are cancelled. `None` if all have failed, or one for good, as `attempts` says.
    pub(super) async fn run_hedged<O: Operation>(
        &self,
        plan: &CallPlan<'_>,
        target: CallTarget<'_, '_>,
        (worker, connection, reason): (Worker, PooledConnection, AttemptReason),
        delay: Duration,
        attempts: &mut Attempts,
        operation: &O,
    ) -> Option<(O::Reply, Worker)> {
        let start = |attempt: &HedgedAttempt, connection, index| {
            let (worker, number) = (Arc::clone(&attempt.worker), attempt.number);
            let started_at = attempt.started_at;
            async move {
                let start = AttemptStart {
                    worker: &worker,
                    number,
                    started_at,
                };
                let outcome = self.run_attempt(plan, target, &start, connection, operation);
                (index, outcome.await)
            }
        };
        let mut hedged = vec![HedgedAttempt::new(worker, reason, attempts)];
        let mut running = FuturesUnordered::new();
        running.push(start(&hedged[0], connection, 0));
        let endpoint = self.workers.connections.endpoint();
        let wait = || endpoint.in_runtime(async move { sleep(delay).await });
        let mut hedge_timer = pin!(wait());
        let mut may_hedge = true;
        loop {
            tokio::select! {
                biased;
                Some((index, outcome)) = running.next() => {
                    hedged[index].is_running = false;
                    match outcome {
                        Ok(reply) => {
                            // The others are cancelled, at their workers too.
                            drop(running);
                            return Some((reply, self.conclude_hedged(plan, hedged, index)));
                        }
                        Err(failure) => {
                            may_hedge &= failure.error.code() != Code::Overloaded;
                            let is_final = failure.retry_decision == RetryDecision::Stop;
                            let failed = &hedged[index];
                            let now = self.workers.now();
                            attempts.record_failure(
                                &failed.worker,
                                failed.reason,
                                failure,
                                plan,
                                now,
                            );
                            if is_final || running.is_empty() {
                                for one in hedged.iter().filter(|one| one.is_running) {
                                    let took = one.started_at.elapsed();
                                    attempts.record_cancelled(&one.worker, one.reason, took);
                                }
                                return None;
                            }
                        }
                    }
                }
                waited = &mut hedge_timer, if may_hedge => {
                    if waited.is_err() {
                        // The runtime of the endpoint has ended, as the attempts will find.
                        may_hedge = false;
                        continue;
                    }
                    let picked = self.pick_hedge(plan, target, &hedged, attempts);
                    if let Some((worker, connection)) = picked {
                        let hedge = HedgedAttempt::new(worker, AttemptReason::Hedge, attempts);
                        running.push(start(&hedge, connection, hedged.len()));
                        hedged.push(hedge);
                        hedge_timer.set(wait());
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
        target: CallTarget<'_, '_>,
        hedged: &[HedgedAttempt],
        attempts: &mut Attempts,
    ) -> Option<(Worker, PooledConnection)> {
        let hedges_max = plan.hedging.as_ref()?.hedges_max();
        if attempts.hedges >= hedges_max || attempts.state.started() >= plan.attempts_max {
            return None;
        }
        let asked = hedged.iter().map(|one| one.worker.endpoint_id());
        let excluded: Vec<u64> = attempts
            .state
            .excluded()
            .iter()
            .copied()
            .chain(asked)
            .collect();
        let picked = self
            .workers
            .pick_without_method_probe(plan, target, &excluded)
            .ok()?;
        let is_busy = picked
            .0
            .endpoint()
            .reported_load()
            .is_some_and(|load| load.busy);
        if is_busy || !self.retries.withdraw() {
            return None;
        }
        attempts.hedges += 1;
        self.retries.counters.hedges.add_one();
        Some(picked)
    }

    /// Reports the attempts that were outrun, and returns the worker of the one that has won.
    fn conclude_hedged(
        &self,
        plan: &CallPlan<'_>,
        mut hedged: Vec<HedgedAttempt>,
        winner: usize,
    ) -> Worker {
        let winner = hedged.swap_remove(winner);
        for one in hedged.iter().filter(|one| one.is_running) {
            let took = one.started_at.elapsed();
            one.worker
                .report(&Outcome::new(OutcomeKind::Cancelled, took));
            if let (0, Some(latencies)) = (one.number, plan.hedge_latencies) {
                latencies.record(self.workers.registry.now(), took);
            }
        }
        if winner.reason == AttemptReason::Hedge {
            self.retries.counters.hedges_won.add_one();
        }
        Arc::into_inner(winner.worker).expect("the attempts on it have ended")
    }
}

impl HedgedAttempt {
    fn new(worker: Worker, reason: AttemptReason, attempts: &mut Attempts) -> Self {
        Self {
            worker: Arc::new(worker),
            number: attempts.state.start_attempt(),
            reason,
            started_at: Instant::now(),
            is_running: true,
        }
    }
}
