//! Simulated client: its view of the workers, and its balancer.

use std::{sync::Arc, time::Duration};

use super::{FleetScenario, SimWorker, rejecting_workers::RejectingWorkers};
use crate::{
    Balancer, Endpoint, ExclusionFlags, InFlight, LatencyNormalizer, LatencyQuantiles, Outcome,
    OutcomeKind, PickContext, RetryBudget, Time, View,
    health::{GroupHealth, OutlierDetector, Probe},
};

/// Simulated client: its view of the workers, and its balancer.
#[derive(Debug)]
pub(super) struct Client {
    /// The endpoint of each worker that it knows.
    endpoints: Vec<Option<Arc<Endpoint>>>,
    /// The incarnation of each worker that it knows.
    incarnations: Vec<Option<u32>>,
    /// The number of the address of each worker.
    addresses: Vec<u32>,
    rejecting_workers: Option<RejectingWorkers>,
    pub(super) view: Arc<View>,
    balancer: Arc<dyn Balancer>,
    pub(super) budget: RetryBudget,
    /// The hedge delay of each method.
    hedge_delays: Vec<MethodHedgeDelay>,
    normalizer: Option<LatencyNormalizer>,
    health: OutlierDetector,
    /// The health of the view.
    group_health: GroupHealth,
}

/// Delay of a hedge of one method; computed again only now and then.
#[derive(Debug, Default)]
struct MethodHedgeDelay {
    latencies: LatencyQuantiles,
    after: Option<Duration>,
    refresh_at: Time,
}

impl Client {
    pub(super) fn new(scenario: &FleetScenario, seed: u64, balancer: Arc<dyn Balancer>) -> Self {
        let (workers, policy) = (&scenario.workers, &scenario.policy);
        let methods = scenario.methods.len() + 1;
        let mut client = Self {
            endpoints: vec![None; workers.len()],
            incarnations: vec![None; workers.len()],
            addresses: vec![0; workers.len()],
            rejecting_workers: policy
                .avoids_rejecting_workers
                .then(RejectingWorkers::default),
            view: Arc::new(View::new([], 0)),
            balancer,
            budget: policy.budget(),
            hedge_delays: (0..methods).map(|_| MethodHedgeDelay::default()).collect(),
            normalizer: policy.normalizes_latency.then(LatencyNormalizer::new),
            health: OutlierDetector::seeded(policy.health, seed),
            group_health: GroupHealth::new(),
        };
        for (id, worker) in workers.iter().enumerate() {
            if !worker.absent {
                client.incarnations[id] = Some(0);
                client.endpoints[id] = Some(endpoint(id, worker));
            }
        }
        client.rebuild();
        client
    }

    /// Applies an update of the membership: the incarnation of a worker, or that it is gone.
    pub(super) fn on_membership(
        &mut self,
        now: Time,
        id: usize,
        worker: &SimWorker,
        present: Option<u32>,
    ) {
        if present == self.incarnations[id] {
            return;
        }
        // A worker that comes back is another process: nothing is known about it.
        self.incarnations[id] = present;
        if let Some(rejections) = &mut self.rejecting_workers {
            rejections.forget(id as u64);
        }
        self.endpoints[id] = present.map(|_| endpoint(id, worker));
        if let Some(endpoint) = &self.endpoints[id] {
            endpoint.set_ready(now);
        }
        self.rebuild();
    }

    /// Applies an update of the membership: the address of a worker. One that has moved is the same
    /// process, and can be reached again.
    pub(super) fn on_address(&mut self, now: Time, id: usize, address: u32) {
        if std::mem::replace(&mut self.addresses[id], address) != address
            && let Some(endpoint) = &self.endpoints[id]
        {
            self.health.on_reachable(now, endpoint);
        }
    }

    /// The address at which the client calls a worker.
    pub(super) fn address(&self, id: usize) -> u32 {
        self.addresses[id]
    }

    /// Picks the worker of the next attempt: one whose probe is due, one without flags, or one of
    /// the rest; none that is excluded because it was tried.
    pub(super) fn pick(&mut self, now: Time, tried: &[u64]) -> Option<(usize, Option<Probe>)> {
        let claimed = self.rejecting_workers.as_mut();
        let claimed = claimed.and_then(|it| it.claim_probe(now, tried));
        if let Some(id) = claimed
            && let Some(index) = self.view.endpoints().iter().position(|it| it.id() == id)
        {
            return Some((index, None));
        }
        let unfit = self
            .rejecting_workers
            .as_ref()
            .map_or(&[][..], RejectingWorkers::ids);
        let state = self.group_health.check(&self.health, &self.view, now);
        let cx = PickContext::new()
            .with_now(now)
            .with_respected_flags(state.respected_flags);
        let fit = cx.with_incompatible(unfit);
        let untried = fit.with_excluded(tried);
        if state.is_probe_due
            && let Some((index, probe)) = self.health.probe(&self.view, &untried)
        {
            return Some((index, Some(probe)));
        }
        let any = cx.with_excluded(tried);
        let choices = [
            untried,
            untried.with_respected_flags(ExclusionFlags::DRAINING),
            any,
            any.with_respected_flags(ExclusionFlags::NONE),
        ];
        // Another attempt goes to no worker that rejects the request.
        let choices = &choices[..if tried.is_empty() { 4 } else { 2 }];
        let picked = choices
            .iter()
            .find_map(|cx| self.balancer.pick(&self.view, cx));
        picked.map(|index| (index, None))
    }

    /// Releases a probe that is not made.
    pub(super) fn release_probe(&self, now: Time, index: usize, probe: &Probe) {
        self.health.release_probe(&self.view[index], probe, now);
    }

    /// Picks the worker of a hedge: a good one or none.
    pub(super) fn pick_hedge(&self, now: Time, tried: &[u64]) -> Option<(usize, Option<Probe>)> {
        let unfit = self
            .rejecting_workers
            .as_ref()
            .map_or(&[][..], RejectingWorkers::ids);
        let cx = PickContext::new().with_now(now).with_excluded(tried);
        let picked = self.balancer.pick(&self.view, &cx.with_incompatible(unfit));
        picked.map(|index| (index, None))
    }

    /// Counts an attempt that begins now.
    pub(super) fn begin(&self, now: Time, endpoint: &Arc<Endpoint>, method: usize) -> InFlight {
        let mut call = endpoint.begin_at(now);
        if let Some(normalizer) = &self.normalizer {
            call.set_scale(now, normalizer.scale(method as u64));
        }
        call
    }

    /// Records the outcome, now, of an attempt of a method that was made to `index` of `view`.
    pub(super) fn on_outcome(
        &mut self,
        now: Time,
        view: &View,
        index: usize,
        probe: Option<&Probe>,
        (method, outcome): (usize, Outcome),
    ) {
        let outcome = outcome.with_now(now);
        let normalized = self.normalizer.as_ref();
        let normalized = normalized.map(|it| it.record(method as u64, outcome));
        let outcome = &normalized.unwrap_or(outcome);
        let endpoint = &view[index];
        if let Some(rejections) = &mut self.rejecting_workers {
            rejections.on_outcome(now, endpoint.id(), outcome.kind);
        }
        if let Some(load) = outcome.reported_load {
            endpoint.set_reported_load_at(load, now);
            if load.draining {
                self.health.set_draining(endpoint, true);
            }
        }
        match probe {
            Some(probe) => {
                self.health.on_probe_outcome(endpoint, probe, outcome);
            }
            None => {
                self.health.on_outcome(endpoint, outcome);
            }
        }
        if self.health.claim_sweep(now) {
            self.health.sweep(now, &self.view);
        }
        self.balancer.on_outcome(view, index, outcome);
        if outcome.kind == OutcomeKind::Success {
            self.budget.deposit();
            self.hedge_delays[method]
                .latencies
                .record(now, outcome.latency);
        }
    }

    pub(super) fn on_draining(&self, id: usize) {
        if let Some(endpoint) = &self.endpoints[id] {
            self.health.set_draining(endpoint, true);
        }
    }

    /// The delay of a hedge.
    pub(super) fn hedge_delay(
        &mut self,
        now: Time,
        method: usize,
        quantile: f64,
    ) -> Option<Duration> {
        let hedge = &mut self.hedge_delays[method];
        if now >= hedge.refresh_at {
            hedge.refresh_at = now + HEDGE_REFRESH_INTERVAL;
            let enough = hedge.latencies.len(now) >= HEDGE_SAMPLES_MIN;
            let after = enough.then(|| hedge.latencies.quantile(now, quantile));
            hedge.after = after.flatten().map(|it| it.max(HEDGE_DELAY_MIN));
        }
        hedge.after
    }

    fn rebuild(&mut self) {
        let endpoints = self.endpoints.iter().flatten().cloned();
        self.view = Arc::new(View::new(endpoints, self.view.generation() + 1));
        self.health.set_view(&self.view);
        self.group_health = GroupHealth::new();
        if let Some(balancer) = self.balancer.rebuild(&self.view) {
            self.balancer = balancer;
        }
    }
}

fn endpoint(id: usize, worker: &SimWorker) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(id as u64).with_weight(worker.weight))
}

const HEDGE_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
const HEDGE_SAMPLES_MIN: u64 = 100;
const HEDGE_DELAY_MIN: Duration = Duration::from_millis(1);
