//! Health tracker: outlier detection and latencies of the workers of a registry.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use rpcnet_balance::{
    Endpoint, LatencyNormalizer, Outcome, SuccessBatch, Time, View,
    health::{HealthChange, HealthConfig, OutlierDetector, Probe},
};

use super::{
    health_event::HealthEvent, worker_entry::WorkerEntry, worker_table::SharedWorkerTable,
};
use crate::event::{EVENT_CAPACITY, EventBroadcast};

/// Health tracker of the workers of a registry, with its clock.
#[derive(Debug)]
pub(super) struct HealthTracker {
    clock: fn() -> Instant,
    /// Zero of the clock of the balancers.
    began: Instant,
    /// Seed of the detector, if one was set.
    seed: Option<u64>,
    pub(super) detector: OutlierDetector,
    /// The usual latency of each method over all workers.
    pub(super) normalizer: Arc<LatencyNormalizer>,
    pub(super) events: Arc<EventBroadcast<HealthEvent>>,
    /// The workers that are compared with each other.
    table: SharedWorkerTable,
    /// Whether they have changed since the detector last counted them.
    has_changed: AtomicBool,
    /// Whether suspect nodes are avoided.
    pub(super) respects_suspicion: bool,
}

impl HealthTracker {
    pub(super) fn new(table: SharedWorkerTable) -> Self {
        Self {
            clock: Instant::now,
            began: Instant::now(),
            seed: None,
            detector: new_detector(HealthConfig::new(), None),
            normalizer: Arc::default(),
            events: Arc::new(EventBroadcast::new(EVENT_CAPACITY)),
            table,
            has_changed: AtomicBool::new(true),
            respects_suspicion: true,
        }
    }

    /// A tracker with another config, and the same subscribers.
    pub(super) fn with_config(&self, config: HealthConfig) -> Self {
        Self {
            clock: self.clock,
            began: self.began,
            seed: self.seed,
            detector: new_detector(config, self.seed),
            normalizer: Arc::clone(&self.normalizer),
            events: Arc::clone(&self.events),
            table: Arc::clone(&self.table),
            has_changed: AtomicBool::new(true),
            respects_suspicion: self.respects_suspicion,
        }
    }

    pub(super) fn with_clock(&self, clock: fn() -> Instant) -> Self {
        Self {
            clock,
            began: clock(),
            ..self.with_config(*self.detector.config())
        }
    }

    pub(super) fn with_rng_seed(&self, seed: u64) -> Self {
        let config = *self.detector.config();
        Self {
            seed: Some(seed),
            detector: new_detector(config, Some(seed)),
            ..self.with_config(config)
        }
    }

    pub(super) fn without_suspicion(&self) -> Self {
        Self {
            respects_suspicion: false,
            ..self.with_config(*self.detector.config())
        }
    }

    pub(super) fn now(&self) -> Time {
        self.time((self.clock)())
    }

    /// Zero of the clock.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn time(&self, at: Instant) -> Time {
        Time::from(at.saturating_duration_since(self.began))
    }

    /// Records a change of the worker table. The compared workers are counted again with the next
    /// outcome.
    pub(super) fn on_table_changed(&self) {
        self.has_changed.store(true, Ordering::Release);
    }

    /// Records successes of attempts of which none was a probe.
    pub(super) fn on_successes(&self, endpoint: &Endpoint, batch: &SuccessBatch) {
        self.recount_if_changed();
        if let Some(change) = self.detector.on_successes(endpoint, batch) {
            self.emit(endpoint, change);
        }
    }

    #[inline]
    fn recount_if_changed(&self) {
        if self.has_changed.load(Ordering::Relaxed) {
            self.recount();
        }
    }

    #[cold]
    fn recount(&self) {
        if self.has_changed.swap(false, Ordering::AcqRel) {
            self.detector.set_view(&self.compared_endpoints());
        }
    }

    /// The endpoints that are compared with each other.
    fn compared_endpoints(&self) -> View {
        let snapshot = self.table.lock().snapshot();
        let entries = snapshot.entries.iter();
        let present = entries.filter(|one| !one.node.state.is_gone());
        let endpoints = present.map(|one| Arc::clone(&one.endpoint));
        View::new(endpoints, snapshot.generation)
    }

    #[inline]
    pub(super) fn on_outcome(
        &self,
        now: Time,
        endpoint: &Endpoint,
        outcome: &Outcome,
        probe: Option<&Probe>,
    ) {
        self.recount_if_changed();
        match probe {
            None => {
                let change = self.detector.on_outcome(endpoint, outcome);
                change
                    .into_iter()
                    .for_each(|change| self.emit(endpoint, change));
            }
            Some(probe) => {
                let changes = self.detector.on_probe_outcome(endpoint, probe, outcome);
                changes.for_each(|change| self.emit(endpoint, change));
            }
        }
        if self.detector.claim_sweep(now) {
            self.sweep(now);
        }
    }

    pub(super) fn on_unreachable(&self, endpoint: &Endpoint) {
        let change = self.detector.on_unreachable(self.now(), endpoint);
        change
            .into_iter()
            .for_each(|change| self.emit(endpoint, change));
    }

    pub(super) fn on_disconnected(&self, endpoint: &Endpoint) {
        let change = self.detector.on_disconnected(self.now(), endpoint);
        change
            .into_iter()
            .for_each(|change| self.emit(endpoint, change));
    }

    pub(super) fn on_reachable(&self, endpoint: &Endpoint) {
        let change = self.detector.on_reachable(self.now(), endpoint);
        change
            .into_iter()
            .for_each(|change| self.emit(endpoint, change));
    }

    pub(super) fn request_probe(&self, endpoint: &Endpoint) {
        self.detector.request_probe(self.now(), endpoint);
    }

    pub(super) fn set_draining(&self, endpoint: &Endpoint, draining: bool) {
        if let Some(change) = self.detector.set_draining(endpoint, draining) {
            if !draining {
                endpoint.set_ready(self.now());
            }
            self.emit(endpoint, change);
        }
    }

    #[cold]
    fn sweep(&self, now: Time) {
        for change in self.detector.sweep(now, &self.compared_endpoints()) {
            let of = change.endpoint();
            let is_it = |entry: &WorkerEntry| Some(entry.endpoint.id()) == of;
            self.emit_for(is_it, change);
        }
    }

    /// Emits a change that concerns a group as a whole.
    #[cold]
    pub(super) fn emit_for_group(&self, change: HealthChange, filter: &str) {
        let filter = filter.into();
        self.events.send(match change {
            HealthChange::PanicBegan { healthy, total: of } => HealthEvent::PanicBegan {
                filter,
                healthy,
                total: of,
            },
            HealthChange::PanicEnded { healthy, total: of } => HealthEvent::PanicEnded {
                filter,
                healthy,
                total: of,
            },
            _ => return,
        });
    }

    /// Emits a change of a worker; not of a former process, which has the id of its successor.
    #[cold]
    fn emit(&self, endpoint: &Endpoint, change: HealthChange) {
        self.emit_for(|entry| std::ptr::eq(&*entry.endpoint, endpoint), change);
    }

    fn emit_for(&self, is_it: impl Fn(&WorkerEntry) -> bool, change: HealthChange) {
        let entry = self.table.lock().find_selectable(is_it).cloned();
        let Some(entry) = entry.filter(|entry| !entry.node.state.is_gone()) else {
            return;
        };
        let node = Arc::clone(&entry.node);
        self.events.send(match change {
            HealthChange::Unreachable {
                failures, probe_in, ..
            } => HealthEvent::NodeUnreachable {
                node,
                failures,
                probe_in,
            },
            HealthChange::Reachable { .. } => HealthEvent::NodeReachable(node),
            HealthChange::Ejected {
                reason,
                ejection_count: times,
                probe_in,
                ..
            } => HealthEvent::NodeEjected {
                node,
                reason,
                ejection_count: times,
                probe_in,
            },
            HealthChange::Unejected { .. } => HealthEvent::NodeUnejected(node),
            HealthChange::Draining { .. } => HealthEvent::NodeDraining(node),
            HealthChange::Resumed { .. } => HealthEvent::NodeResumed(node),
            _ => return,
        });
    }
}

/// A detector with this seed, or a random one: clients shall not come back all at once.
fn new_detector(config: HealthConfig, seed: Option<u64>) -> OutlierDetector {
    // The standard library's keys for hashing come from the system's random numbers.
    let random = || RandomState::new().hash_one(0_u64);
    OutlierDetector::seeded(config, seed.unwrap_or_else(random))
}
