//! Several attempts of one call at a time.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use rpcnet_balance::{Outcome, OutcomeKind};
use rpcnet_registry::Worker;
use rpcnet_transport::{CallOptions, Code, RpcClient, RpcError};
use tokio::time::{Instant, sleep};

use super::{
    AttemptReason, ClusterClient,
    course::Course,
    options::Plan,
    pool::Connection,
    retry::Verdict,
    run::{Probes, Target},
};

/// One of the attempts.
struct Racer {
    worker: Arc<Worker>,
    number: usize,
    reason: AttemptReason,
    began: Instant,
    is_running: bool,
}

impl ClusterClient {
    /// How long the first attempt of a call is left alone; `None` if for as long as it takes.
    pub(super) fn hedge_delay(&self, plan: &Plan<'_>) -> Option<Duration> {
        let hedging = plan.hedging.as_ref()?;
        hedging.delay(plan.observed, self.registry.now())
    }

    /// An attempt, with others beside it if it takes long. The first good reply wins, and the others are given up. `None`: all have
    /// failed, or one for good, as the course says.
    pub(super) async fn race<T, F>(
        &self,
        plan: &Plan<'_>,
        target: Target<'_>,
        (worker, connection, reason): (Worker, Connection, AttemptReason),
        delay: Duration,
        course: &mut Course,
        attempt: &impl Fn(RpcClient, CallOptions) -> F,
    ) -> Option<(T, Worker)>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let begin = |racer: &Racer, connection, index| {
            let worker = Arc::clone(&racer.worker);
            let this = (target.method, racer.number, racer.began);
            async move {
                let outcome = self.attempt(&worker, connection, plan, this, attempt);
                (index, outcome.await)
            }
        };
        let mut racers = vec![Racer::new(worker, reason, course)];
        let mut running = FuturesUnordered::new();
        running.push(begin(&racers[0], connection, 0));
        let endpoint = self.pool.endpoint();
        let wait = || endpoint.inside(async move { sleep(delay).await });
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
                            return Some((value, self.finish(plan, racers, index)));
                        }
                        Err(failure) => {
                            may_hedge &= failure.error.code() != Code::Overloaded;
                            let is_over = failure.verdict == Verdict::GiveUp;
                            course.fail(&racers[index].worker, racers[index].reason, failure);
                            if is_over || running.is_empty() {
                                for racer in racers.iter().filter(|racer| racer.is_running) {
                                    course.give_up(&racer.worker, racer.reason, racer.began.elapsed());
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
                    if let Some((worker, connection)) = self.hedge(plan, target, &racers, course) {
                        let racer = Racer::new(worker, AttemptReason::Hedge, course);
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
    fn hedge(
        &self,
        plan: &Plan<'_>,
        target: Target<'_>,
        racers: &[Racer],
        course: &mut Course,
    ) -> Option<(Worker, Connection)> {
        let hedges_max = plan.hedging.as_ref()?.hedges_max();
        if course.hedges >= hedges_max || course.made() >= plan.attempts_max {
            return None;
        }
        let asked = racers.iter().map(|racer| racer.worker.endpoint_id());
        let excluded: Vec<u64> = course.tried.iter().copied().chain(asked).collect();
        let target = Target {
            may_probe: Probes::Never,
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
        if is_busy || !self.withdraw() {
            return None;
        }
        course.hedges += 1;
        self.counters.hedges.add_one();
        Some(picked)
    }

    /// Tells of those that were outrun, and returns the one who has won.
    fn finish(&self, plan: &Plan<'_>, mut racers: Vec<Racer>, winner: usize) -> Worker {
        let winner = racers.swap_remove(winner);
        for racer in racers.iter().filter(|racer| racer.is_running) {
            let took = racer.began.elapsed();
            racer
                .worker
                .report(&Outcome::new(OutcomeKind::Abandoned, took));
            if let (0, Some(observed)) = (racer.number, plan.observed) {
                observed.record(self.registry.now(), took);
            }
        }
        if winner.reason == AttemptReason::Hedge {
            self.counters.hedges_won.add_one();
        }
        Arc::into_inner(winner.worker).expect("the attempts on it have ended")
    }
}

impl Racer {
    fn new(worker: Worker, reason: AttemptReason, course: &mut Course) -> Self {
        Self {
            worker: Arc::new(worker),
            number: course.begin(),
            reason,
            began: Instant::now(),
            is_running: true,
        }
    }
}
