//! Passive health: what the calls say about the workers.

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

/// Passive health: marks workers by what calls of this process find out, and tells what it does.
impl WorkerRegistry {
    /// How workers are watched by the outcomes that [`Worker::report`](super::Worker::report) tells. Default
    /// [`HealthConfig::new`]: see [`rpcnet_balance::health`]. All workers are compared with each other, whatever they do.
    #[must_use]
    pub fn with_health(self, config: HealthConfig) -> Self {
        self.selection_state.reset_groups(|selection| {
            selection.health = Arc::new(selection.health.with_config(config));
        });
        self
    }

    /// No worker is marked by the outcome of calls, but for those that say that they drain.
    #[must_use]
    pub fn without_health(self) -> Self {
        self.with_health(HealthConfig::none())
    }

    /// Nodes under suspicion are selected like others. For clusters whose suspicion is mostly wrong; by default they are
    /// selected only when no other worker is left.
    #[must_use]
    pub fn without_suspicion(self) -> Self {
        self.selection_state.reset_groups(|selection| {
            selection.health = Arc::new(selection.health.without_suspicion());
        });
        self
    }

    /// What passive health did so far, in numbers.
    #[must_use]
    pub fn health_stats(&self) -> HealthStats {
        self.selection_state
            .selection
            .load()
            .health
            .detector
            .stats()
    }

    /// What passive health does from now on, and why.
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

    /// The time now, as balancers of this registry have it.
    #[must_use]
    pub fn now(&self) -> Time {
        self.selection_state.selection.load().health.now()
    }

    /// A moment that was read from the clock, as balancers of this registry have it.
    #[must_use]
    pub fn time(&self, at: Instant) -> Time {
        self.selection_state.selection.load().health.time(at)
    }

    /// There is no connection to the worker whose [endpoint](super::Worker::endpoint) this is: it is marked, if
    /// [health](Self::with_health) says so. For what is found out beside the calls.
    pub fn on_unreachable(&self, endpoint: &Endpoint) {
        self.selection_state
            .selection
            .load()
            .health
            .on_unreachable(endpoint);
    }

    /// There is a connection to the worker: it is not marked as unreachable any more.
    pub fn on_reachable(&self, endpoint: &Endpoint) {
        self.selection_state
            .selection
            .load()
            .health
            .on_reachable(endpoint);
    }

    /// The worker says that it takes no new calls, or that it does again.
    pub fn set_draining(&self, endpoint: &Endpoint, draining: bool) {
        let selection = self.selection_state.selection.load();
        selection.health.set_draining(endpoint, draining);
    }
}

/// Passive health did something.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HealthEvent {
    /// There is no connection to a worker. Calls pass it over until a probe succeeds or the cluster has news of it.
    NodeUnreachable {
        /// The node.
        node: Arc<NodeInfo>,
        /// How often in a row.
        failures: u32,
        /// How long until the next probe.
        probe_in: Duration,
    },
    /// There is a connection to the worker again, or news that it is well.
    NodeReachable(Arc<NodeInfo>),
    /// A worker fails. Calls pass it over until a probe succeeds.
    NodeEjected {
        /// The node.
        node: Arc<NodeInfo>,
        /// What it did.
        reason: EjectionReason,
        /// How often it was ejected of late.
        ejection_count: u32,
        /// How long until the next probe.
        probe_in: Duration,
    },
    /// The probe succeeded: calls go to the worker again.
    NodeReinstated(Arc<NodeInfo>),
    /// A worker says that it takes no new calls.
    NodeDraining(Arc<NodeInfo>),
    /// A worker that drained takes calls again.
    NodeResumed(Arc<NodeInfo>),
    /// So few of those who match a filter are well that ejections are not heeded among them.
    PanicBegan {
        /// The filter; empty for all.
        filter: Box<str>,
        /// How many are well.
        healthy: usize,
        /// Of how many.
        total: usize,
    },
    /// Enough of those who match the filter are well again.
    PanicEnded {
        /// The filter; empty for all.
        filter: Box<str>,
        /// How many are well.
        healthy: usize,
        /// Of how many.
        total: usize,
    },
    /// The subscriber was too slow and missed this many events. [`WorkerRegistry::workers`] says where things stand.
    Lagged(u64),
}

/// A subscription to what passive health does. Bounded: who falls behind gets [`HealthEvent::Lagged`].
#[derive(Debug, Clone)]
pub struct HealthEvents {
    receiver: Receiver<HealthEvent>,
}

impl HealthEvents {
    /// The next event; `None` once the registry is gone and everything before was delivered.
    ///
    /// Dropping the future loses no event.
    pub async fn recv(&mut self) -> Option<HealthEvent> {
        match self.receiver.recv_direct().await {
            Ok(event) => Some(event),
            Err(RecvError::Overflowed(missed)) => Some(HealthEvent::Lagged(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event if there is one already.
    pub fn try_recv(&mut self) -> Option<HealthEvent> {
        match self.receiver.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Overflowed(missed)) => Some(HealthEvent::Lagged(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

/// Who watches the workers of a registry, with its clock.
#[derive(Debug)]
pub(super) struct HealthTracker {
    began: Instant,
    pub(super) detector: OutlierDetector,
    /// What calls of each method usually take, whichever worker serves them.
    pub(super) normalizer: Arc<LatencyNormalizer>,
    events: Arc<EventBroadcast<HealthEvent>>,
    /// All that are compared with each other.
    table: SharedWorkerTable,
    /// They have changed since the detector last counted them.
    has_changed: AtomicBool,
    /// Whether suspect nodes are better not picked.
    pub(super) respects_suspicion: bool,
}

impl HealthTracker {
    pub(super) fn new(roster: SharedWorkerTable) -> Self {
        Self {
            began: Instant::now(),
            detector: new_detector(HealthConfig::new()),
            normalizer: Arc::default(),
            events: Arc::new(EventBroadcast::new(EVENT_CAPACITY)),
            table: roster,
            has_changed: AtomicBool::new(true),
            respects_suspicion: true,
        }
    }

    /// One that watches in another way, and tells the same subscribers.
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

    /// The roster has changed. What is compared is counted anew with the next outcome.
    pub(super) fn on_table_changed(&self) {
        self.has_changed.store(true, Ordering::Release);
    }

    #[cold]
    fn recount(&self) {
        if self.has_changed.swap(false, Ordering::AcqRel) {
            self.detector.set_view(&self.compared_endpoints());
        }
    }

    /// All that are compared with each other.
    fn compared_endpoints(&self) -> View {
        let snapshot = self.table.lock().snapshot();
        let members = snapshot.entries.iter();
        let present = members.filter(|one| !one.node.state.is_gone());
        let endpoints = present.map(|one| Arc::clone(&one.endpoint));
        View::new(endpoints, snapshot.generation)
    }

    pub(super) fn on_outcome(&self, endpoint: &Endpoint, outcome: &Outcome, probe: Option<&Probe>) {
        if self.has_changed.load(Ordering::Relaxed) {
            self.recount();
        }
        match probe {
            None => {
                let action = self.detector.on_outcome(endpoint, outcome);
                action
                    .into_iter()
                    .for_each(|action| self.emit(endpoint, action));
            }
            Some(probe) => {
                let actions = self.detector.on_probe_outcome(endpoint, probe, outcome);
                actions.for_each(|action| self.emit(endpoint, action));
            }
        }
        if self.detector.claim_sweep(outcome.now) {
            self.sweep(outcome.now);
        }
    }

    pub(super) fn on_unreachable(&self, endpoint: &Endpoint) {
        let action = self.detector.on_unreachable(self.now(), endpoint);
        action
            .into_iter()
            .for_each(|action| self.emit(endpoint, action));
    }

    pub(super) fn on_reachable(&self, endpoint: &Endpoint) {
        let action = self.detector.on_reachable(self.now(), endpoint);
        action
            .into_iter()
            .for_each(|action| self.emit(endpoint, action));
    }

    pub(super) fn request_probe(&self, endpoint: &Endpoint) {
        self.detector.request_probe(self.now(), endpoint);
    }

    pub(super) fn set_draining(&self, endpoint: &Endpoint, draining: bool) {
        if let Some(action) = self.detector.set_draining(endpoint, draining) {
            if !draining {
                endpoint.set_ready(self.now());
            }
            self.emit(endpoint, action);
        }
    }

    #[cold]
    fn sweep(&self, now: Time) {
        for action in self.detector.sweep(now, &self.compared_endpoints()) {
            let of = action.endpoint();
            let is_it = |member: &WorkerEntry| Some(member.endpoint.id()) == of;
            self.emit_for(is_it, action);
        }
    }

    /// Tells of a group what concerns it as a whole.
    #[cold]
    pub(super) fn emit_for_group(&self, action: HealthChange, filter: &str) {
        let filter = filter.into();
        self.events.send(match action {
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

    /// Tells of a worker; not of a former process, which has the id of its successor.
    #[cold]
    fn emit(&self, endpoint: &Endpoint, action: HealthChange) {
        self.emit_for(|member| std::ptr::eq(&*member.endpoint, endpoint), action);
    }

    fn emit_for(&self, is_it: impl Fn(&WorkerEntry) -> bool, action: HealthChange) {
        let member = self.table.lock().find_selectable(is_it).cloned();
        let Some(member) = member.filter(|member| !member.node.state.is_gone()) else {
            return;
        };
        let node = Arc::clone(&member.node);
        self.events.send(match action {
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

/// Seeded at random: clients shall not come back all at once.
fn new_detector(config: HealthConfig) -> OutlierDetector {
    // The standard library's keys for hashing come from the system's random numbers.
    OutlierDetector::seeded(config, RandomState::new().hash_one(0_u64))
}
