//! A client: who it thinks is there, and how it chooses.

use std::{sync::Arc, time::Duration};

use super::{Policy, Worker};
use crate::{Balancer, Endpoint, LatencyQuantiles, Marks, PickContext, RetryBudget, Time, View};

/// A client: who it thinks is there, and how it chooses.
#[derive(Debug)]
pub(super) struct Client {
    /// Of each worker that it knows of.
    endpoints: Vec<Option<Arc<Endpoint>>>,
    /// As who.
    known: Vec<Option<u32>>,
    pub(super) view: Arc<View>,
    pub(super) balancer: Arc<dyn Balancer>,
    pub(super) budget: RetryBudget,
    latencies: LatencyQuantiles,
    hedge_after: Option<Duration>,
    hedge_known_until: Time,
    /// Of each worker, how often in a row it could not be reached.
    unreachable: Vec<u32>,
}

impl Client {
    pub(super) fn new(workers: &[Worker], policy: &Policy, balancer: Arc<dyn Balancer>) -> Self {
        let mut client = Self {
            endpoints: vec![None; workers.len()],
            known: vec![None; workers.len()],
            view: Arc::new(View::new([], 0)),
            balancer,
            budget: policy.budget(),
            latencies: LatencyQuantiles::new(),
            hedge_after: None,
            hedge_known_until: Time::ZERO,
            unreachable: vec![0; workers.len()],
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
        self.endpoints[id] = present.map(|_| endpoint(id, worker));
        if let Some(endpoint) = &self.endpoints[id] {
            endpoint.note_ready(now);
        }
        self.unreachable[id] = 0;
        self.rebuild();
    }

    pub(super) fn endpoint(&self, id: usize) -> Option<&Arc<Endpoint>> {
        self.endpoints[id].as_ref()
    }

    /// Where the next attempt goes: to one that was not tried and that nothing speaks against, else to what is left.
    pub(super) fn pick(&self, now: Time, tried: &[u64]) -> Option<usize> {
        let cx = PickContext::new().with_now(now);
        let untried = cx.with_excluded(tried);
        let choices = [
            untried,
            untried.with_heeded(Marks::DRAINING),
            cx,
            cx.with_heeded(Marks::NONE),
        ];
        let mut choices = choices.iter();
        choices.find_map(|cx| self.balancer.pick(&self.view, cx))
    }

    /// The same for a second attempt that is not worth much: nowhere but to a good one.
    pub(super) fn pick_hedge(&self, now: Time, tried: &[u64]) -> Option<usize> {
        let cx = PickContext::new().with_now(now).with_excluded(tried);
        self.balancer.pick(&self.view, &cx)
    }

    pub(super) fn on_success(&mut self, now: Time, latency: Duration, id: usize) {
        self.budget.deposit();
        self.latencies.record(now, latency);
        self.unreachable[id] = 0;
    }

    /// One could not be reached. It is marked, and the mark stays for so long.
    pub(super) fn on_unreachable(&mut self, id: usize) -> Option<Duration> {
        let endpoint = self.endpoints[id].as_ref()?;
        let before = endpoint.mark(Marks::UNREACHABLE);
        if before.contains(Marks::UNREACHABLE) {
            return None;
        }
        self.unreachable[id] += 1;
        let doublings = self.unreachable[id].min(8) - 1;
        Some((BACKOFF * (1 << doublings)).min(BACKOFF_MAX))
    }

    /// When a second attempt is worth it; looked up now and then only.
    pub(super) fn hedge_after(&mut self, now: Time, quantile: f64) -> Option<Duration> {
        if now >= self.hedge_known_until {
            self.hedge_known_until = now + HEDGE_KNOWN_FOR;
            let enough = self.latencies.len(now) >= HEDGE_SAMPLES;
            let after = enough.then(|| self.latencies.quantile(now, quantile));
            self.hedge_after = after.flatten().map(|it| it.max(HEDGE_MIN));
        }
        self.hedge_after
    }

    fn rebuild(&mut self) {
        let endpoints = self.endpoints.iter().flatten().cloned();
        self.view = Arc::new(View::new(endpoints, self.view.generation() + 1));
        if let Some(balancer) = self.balancer.rebuild(&self.view) {
            self.balancer = balancer;
        }
    }
}

fn endpoint(id: usize, worker: &Worker) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(id as u64).with_weight(worker.weight))
}

/// For how long one that could not be reached is left alone first; twice as long each time.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

const HEDGE_KNOWN_FOR: Duration = Duration::from_millis(100);
const HEDGE_SAMPLES: u64 = 100;
const HEDGE_MIN: Duration = Duration::from_millis(1);
