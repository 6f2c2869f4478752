//! A client: who it thinks is there, and how it chooses.

use std::{sync::Arc, time::Duration};

use super::{Plan, Worker, refusals::Refusals};
use crate::{
    Balancer, Endpoint, InFlight, LatencyNormalizer, LatencyQuantiles, Marks, Outcome, OutcomeKind,
    PickContext, RetryBudget, Time, View,
    health::{Gate, Outliers, Probe},
};

/// A client: who it thinks is there, and how it chooses.
#[derive(Debug)]
pub(super) struct Client {
    /// Of each worker that it knows of.
    endpoints: Vec<Option<Arc<Endpoint>>>,
    /// As who.
    known: Vec<Option<u32>>,
    /// Number of the address of each.
    addresses: Vec<u32>,
    refusals: Option<Refusals>,
    pub(super) view: Arc<View>,
    balancer: Arc<dyn Balancer>,
    pub(super) budget: RetryBudget,
    /// Of each method.
    hedges: Vec<HedgeDelay>,
    normalizer: Option<LatencyNormalizer>,
    health: Outliers,
    /// Of the view.
    gate: Gate,
}

/// When a second attempt of a method is worth it; looked up now and then only.
#[derive(Debug, Default)]
struct HedgeDelay {
    latencies: LatencyQuantiles,
    after: Option<Duration>,
    known_until: Time,
}

impl Client {
    pub(super) fn new(plan: &Plan, seed: u64, balancer: Arc<dyn Balancer>) -> Self {
        let (workers, policy) = (&plan.workers, &plan.policy);
        let methods = plan.methods.len() + 1;
        let mut client = Self {
            endpoints: vec![None; workers.len()],
            known: vec![None; workers.len()],
            addresses: vec![0; workers.len()],
            refusals: policy.passes_over.then(Refusals::default),
            view: Arc::new(View::new([], 0)),
            balancer,
            budget: policy.budget(),
            hedges: (0..methods).map(|_| HedgeDelay::default()).collect(),
            normalizer: policy.normalizes.then(LatencyNormalizer::new),
            health: Outliers::seeded(policy.health, seed),
            gate: Gate::new(),
        };
        for (id, worker) in workers.iter().enumerate() {
            if !worker.absent {
                client.known[id] = Some(0);
                client.endpoints[id] = Some(endpoint(id, worker));
            }
        }
        client.rebuild();
        client
    }

    /// The membership says as who a worker is there, or that it is not.
    pub(super) fn on_membership(
        &mut self,
        now: Time,
        id: usize,
        worker: &Worker,
        present: Option<u32>,
    ) {
        if present == self.known[id] {
            return;
        }
        // One that comes back is another: nothing is known of it.
        self.known[id] = present;
        if let Some(refusals) = &mut self.refusals {
            refusals.forget(id as u64);
        }
        self.endpoints[id] = present.map(|_| endpoint(id, worker));
        if let Some(endpoint) = &self.endpoints[id] {
            endpoint.note_ready(now);
        }
        self.rebuild();
    }

    /// The membership says where a worker is. One that has moved is the same, and can be reached again.
    pub(super) fn on_address(&mut self, now: Time, id: usize, address: u32) {
        if std::mem::replace(&mut self.addresses[id], address) != address
            && let Some(endpoint) = &self.endpoints[id]
        {
            self.health.note_reachable(now, endpoint);
        }
    }

    /// Where it calls a worker.
    pub(super) fn address(&self, id: usize) -> u32 {
        self.addresses[id]
    }

    /// Where the next attempt goes: to one whose turn for a probe has come, to one that was not tried and that nothing
    /// speaks against, or to what is left.
    pub(super) fn pick(&mut self, now: Time, tried: &[u64]) -> Option<(usize, Option<Probe>)> {
        let claimed = self.refusals.as_mut();
        let claimed = claimed.and_then(|it| it.claim_probe(now, tried));
        if let Some(id) = claimed
            && let Some(index) = self.view.endpoints().iter().position(|it| it.id() == id)
        {
            return Some((index, None));
        }
        let unfit = self.refusals.as_ref().map_or(&[][..], Refusals::ids);
        let verdict = self.gate.check(&self.health, &self.view, now);
        let cx = PickContext::new().with_now(now).with_heeded(verdict.heeded);
        let fit = cx.with_unfit(unfit);
        let untried = fit.with_excluded(tried);
        if verdict.is_probe_due
            && let Some((index, probe)) = self.health.probe(&self.view, &untried)
        {
            return Some((index, Some(probe)));
        }
        let choices = [
            untried,
            untried.with_heeded(Marks::DRAINING),
            fit,
            cx,
            cx.with_heeded(Marks::NONE),
        ];
        let mut choices = choices.iter();
        let picked = choices.find_map(|cx| self.balancer.pick(&self.view, cx));
        picked.map(|index| (index, None))
    }

    /// The same for a second attempt that is not worth much: nowhere but to a good one.
    pub(super) fn pick_hedge(&self, now: Time, tried: &[u64]) -> Option<(usize, Option<Probe>)> {
        let unfit = self.refusals.as_ref().map_or(&[][..], Refusals::ids);
        let cx = PickContext::new().with_now(now).with_excluded(tried);
        let picked = self.balancer.pick(&self.view, &cx.with_unfit(unfit));
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

    /// An attempt of a method has ended that was made to `index` of `view`.
    pub(super) fn on_outcome(
        &mut self,
        view: &View,
        index: usize,
        probe: Option<&Probe>,
        (method, outcome): (usize, Outcome),
    ) {
        let normalized = self.normalizer.as_ref();
        let normalized = normalized.map(|it| it.note_outcome(method as u64, outcome));
        let outcome = &normalized.unwrap_or(outcome);
        let (endpoint, now) = (&view[index], outcome.now);
        if let Some(refusals) = &mut self.refusals {
            refusals.on_outcome(now, endpoint.id(), outcome.kind);
        }
        if let Some(load) = outcome.reported_load {
            endpoint.note_reported_load_at(load, now);
            if load.draining {
                self.health.note_draining(endpoint, true);
            }
        }
        match probe {
            Some(probe) => {
                self.health.on_probed(endpoint, probe, outcome);
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
            self.hedges[method].latencies.record(now, outcome.latency);
        }
    }

    pub(super) fn on_draining(&self, id: usize) {
        if let Some(endpoint) = &self.endpoints[id] {
            self.health.note_draining(endpoint, true);
        }
    }

    /// When a second attempt is worth it.
    pub(super) fn hedge_after(
        &mut self,
        now: Time,
        method: usize,
        quantile: f64,
    ) -> Option<Duration> {
        let hedge = &mut self.hedges[method];
        if now >= hedge.known_until {
            hedge.known_until = now + HEDGE_KNOWN_FOR;
            let enough = hedge.latencies.len(now) >= HEDGE_SAMPLES;
            let after = enough.then(|| hedge.latencies.quantile(now, quantile));
            hedge.after = after.flatten().map(|it| it.max(HEDGE_MIN));
        }
        hedge.after
    }

    fn rebuild(&mut self) {
        let endpoints = self.endpoints.iter().flatten().cloned();
        self.view = Arc::new(View::new(endpoints, self.view.generation() + 1));
        self.health.note_view(&self.view);
        self.gate = Gate::new();
        if let Some(balancer) = self.balancer.rebuild(&self.view) {
            self.balancer = balancer;
        }
    }
}

fn endpoint(id: usize, worker: &Worker) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(id as u64).with_weight(worker.weight))
}

const HEDGE_KNOWN_FOR: Duration = Duration::from_millis(100);
const HEDGE_SAMPLES: u64 = 100;
const HEDGE_MIN: Duration = Duration::from_millis(1);
