//! Passive health checks of workers, by the outcomes of calls.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_broadcast::{Receiver, RecvError, TryRecvError};
use rpcnet_balance::{
    Endpoint, LatencyNormalizer, Outcome, Time, View,
    health::{EjectionReason, HealthChange, HealthConfig, HealthStats, OutlierDetector, Probe},
};

use super::{WorkerRegistry, worker::WorkerEntry, worker_table::SharedWorkerTable};
use crate::{
    NodeInfo,
    event::{EVENT_CAPACITY, EventBroadcast},
};

/// Passive health checks.
impl WorkerRegistry {
    /// Sets how workers are checked by the outcomes that [`Worker::report`](super::Worker::report)
    /// records. Default [`HealthConfig::new`]: see [`rpcnet_balance::health`]. All workers are
    /// compared with each other, whatever they serve.
    #[must_use]
    pub fn with_health(self, config: HealthConfig) -> Self {
        self.selection_state.reset_groups(|selection| {
            selection.health = Arc::new(selection.health.with_config(config));
        });
        self
    }

    /// Switches passive health checks off: only workers that say that they drain are flagged.
    #[must_use]
    pub fn without_health(self) -> Self {
        self.with_health(HealthConfig::none())
    }

    /// Ignores suspicion: suspect nodes are selected like others. For clusters whose suspicion is
    /// mostly wrong; by default they are selected only when no other worker is left.
    #[must_use]
    pub fn without_suspicion(self) -> Self {
        self.selection_state.reset_groups(|selection| {
            selection.health = Arc::new(selection.health.without_suspicion());
        });
        self
    }

    /// Counters of passive health checks.
    #[must_use]
    pub fn health_stats(&self) -> HealthStats {
        self.selection_state
            .selection
            .load()
            .health
            .detector
            .stats()
    }

    /// Subscribes to health events from now on.
    #[must_use]
    pub fn subscribe_health(&self) -> HealthEvents {
        HealthEvents {
            receiver: self
                .selection_state
                .selection
                .load()
                .health
                .events
                .receiver(),
        }
    }

    /// The present time on the clock of the registry's balancers.
    #[must_use]
    pub fn now(&self) -> Time {
        self.selection_state.selection.load().health.now()
    }

    /// A time of the system clock on the clock of the registry's balancers.
    #[must_use]
    pub fn time(&self, at: Instant) -> Time {
        self.selection_state.selection.load().health.time(at)
    }

    /// Records that a connection to the worker of this [endpoint](super::Worker::endpoint) failed:
    /// it is flagged, if [health](Self::with_health) is on. For failures that are found outside of
    /// calls.
    pub fn on_unreachable(&self, endpoint: &Endpoint) {
        self.selection_state
            .selection
            .load()
            .health
            .on_unreachable(endpoint);
    }

    /// Records that the worker can be reached: it is no longer flagged as unreachable.
    pub fn on_reachable(&self, endpoint: &Endpoint) {
        self.selection_state
            .selection
            .load()
            .health
            .on_reachable(endpoint);
    }

    /// Sets whether the worker drains.
    pub fn set_draining(&self, endpoint: &Endpoint, draining: bool) {
        let selection = self.selection_state.selection.load();
        selection.health.set_draining(endpoint, draining);
    }
}

/// Event of passive health checks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HealthEvent {
    /// A connection to a worker failed. Calls avoid it until a probe succeeds or the cluster
    /// reports that it is alive.
    NodeUnreachable {
        /// The node.
        node: Arc<NodeInfo>,
        /// The number of consecutive failures.
        failures: u32,
        /// The time until the next probe.
        probe_in: Duration,
    },
    /// The worker can be reached again, or the cluster reports that it is alive.
    NodeReachable(Arc<NodeInfo>),
    /// A worker is ejected as an outlier. Calls avoid it until a probe succeeds.
    NodeEjected {
        /// The node.
        node: Arc<NodeInfo>,
        /// Why it was ejected.
        reason: EjectionReason,
        /// How often it was ejected recently.
        ejection_count: u32,
        /// The time until the next probe.
        probe_in: Duration,
    },
    /// The probe succeeded: calls go to the worker again.
    NodeReinstated(Arc<NodeInfo>),
    /// A worker drains: it takes no new calls.
    NodeDraining(Arc<NodeInfo>),
    /// A worker takes calls again after a drain.
    NodeResumed(Arc<NodeInfo>),
    /// Panic mode began: so few workers that match a filter are healthy that ejections are ignored
    /// among them.
    PanicBegan {
        /// The filter; empty for all.
        filter: Box<str>,
        /// The number of healthy workers.
        healthy: usize,
        /// The number of workers that count.
        total: usize,
    },
    /// Panic mode ended: enough workers that match the filter are healthy again.
    PanicEnded {
        /// The filter; empty for all.
        filter: Box<str>,
        /// The number of healthy workers.
        healthy: usize,
        /// The number of workers that count.
        total: usize,
    },
    /// The subscriber was too slow and missed this many events. [`WorkerRegistry::workers`] has the
    /// present state.
    Lagged(u64),
}

/// Subscription to health events. Bounded: a subscriber that falls behind receives
/// [`HealthEvent::Lagged`].
#[derive(Debug, Clone)]
pub struct HealthEvents {
    receiver: Receiver<HealthEvent>,
}

impl HealthEvents {
    /// Receives the next event; `None` once the registry is dropped and everything before was
    /// delivered.
    ///
    /// Cancel safe: dropping the future loses no event.
    pub async fn recv(&mut self) -> Option<HealthEvent> {
        match self.receiver.recv_direct().await {
            Ok(event) => Some(event),
            Err(RecvError::Overflowed(missed)) => Some(HealthEvent::Lagged(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event if one is available.
    pub fn try_recv(&mut self) -> Option<HealthEvent> {
        match self.receiver.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Overflowed(missed)) => Some(HealthEvent::Lagged(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

/// Health tracker of the workers of a registry, with its clock.
#[derive(Debug)]
pub(super) struct HealthTracker {
    began: Instant,
    pub(super) detector: OutlierDetector,
    /// The usual latency of each method over all workers.
    pub(super) normalizer: Arc<LatencyNormalizer>,
    events: Arc<EventBroadcast<HealthEvent>>,
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
            began: Instant::now(),
            detector: new_detector(HealthConfig::new()),
            normalizer: Arc::default(),
            events: Arc::new(EventBroadcast::new(EVENT_CAPACITY)),
            table,
            has_changed: AtomicBool::new(true),
            respects_suspicion: true,
        }
    }

    /// A tracker with another config, and the same subscribers.
    fn with_config(&self, config: HealthConfig) -> Self {
        Self {
            began: self.began,
            detector: new_detector(config),
            normalizer: Arc::clone(&self.normalizer),
            events: Arc::clone(&self.events),
            table: Arc::clone(&self.table),
            has_changed: AtomicBool::new(true),
            respects_suspicion: self.respects_suspicion,
        }
    }

    fn without_suspicion(&self) -> Self {
        Self {
            respects_suspicion: false,
            ..self.with_config(*self.detector.config())
        }
    }

    pub(super) fn now(&self) -> Time {
        Time::from(self.began.elapsed())
    }

    fn time(&self, at: Instant) -> Time {
        Time::from(at.saturating_duration_since(self.began))
    }

    /// Records a change of the worker table. The compared workers are counted again with the next
    /// outcome.
    pub(super) fn on_table_changed(&self) {
        self.has_changed.store(true, Ordering::Release);
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

    pub(super) fn on_outcome(&self, endpoint: &Endpoint, outcome: &Outcome, probe: Option<&Probe>) {
        if self.has_changed.load(Ordering::Relaxed) {
            self.recount();
        }
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
        if self.detector.claim_sweep(outcome.now) {
            self.sweep(outcome.now);
        }
    }

    pub(super) fn on_unreachable(&self, endpoint: &Endpoint) {
        let change = self.detector.on_unreachable(self.now(), endpoint);
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
            HealthChange::Reinstated { .. } => HealthEvent::NodeReinstated(node),
            HealthChange::Draining { .. } => HealthEvent::NodeDraining(node),
            HealthChange::Resumed { .. } => HealthEvent::NodeResumed(node),
            _ => return,
        });
    }
}

/// A detector with a random seed: clients shall not come back all at once.
fn new_detector(config: HealthConfig) -> OutlierDetector {
    // The standard library's keys for hashing come from the system's random numbers.
    OutlierDetector::seeded(config, RandomState::new().hash_one(0_u64))
}
