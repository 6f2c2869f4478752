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
    health::{Action, HealthConfig, HealthStats, Outliers, Probe, Reason},
};

use super::{WorkerRegistry, roster::SharedRoster, worker::Member};
use crate::{
    Node,
    event::{EVENT_CAPACITY, Feed},
};

/// Passive health: marks workers by what calls of this process find out, and tells what it does.
impl WorkerRegistry {
    /// How workers are watched by the outcomes that [`Worker::report`](super::Worker::report) tells. Default
    /// [`HealthConfig::new`]: see [`rpcnet_balance::health`]. All workers are compared with each other, whatever they do.
    #[must_use]
    pub fn with_health(self, config: HealthConfig) -> Self {
        self.shared.begin_anew(|selection| {
            selection.care = Arc::new(selection.care.with_config(config));
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
        self.shared.begin_anew(|selection| {
            selection.care = Arc::new(selection.care.without_suspicion());
        });
        self
    }

    /// What passive health did so far, in numbers.
    #[must_use]
    pub fn health_stats(&self) -> HealthStats {
        self.shared.selection.load().care.outliers.stats()
    }

    /// What passive health does from now on, and why.
    #[must_use]
    pub fn subscribe_health(&self) -> HealthEvents {
        HealthEvents {
            receiver: self.shared.selection.load().care.feed.receiver(),
        }
    }

    /// The time now, as balancers of this registry have it.
    #[must_use]
    pub fn now(&self) -> Time {
        self.shared.selection.load().care.now()
    }

    /// A moment that was read from the clock, as balancers of this registry have it.
    #[must_use]
    pub fn time(&self, at: Instant) -> Time {
        self.shared.selection.load().care.time(at)
    }

    /// There is no connection to the worker whose [endpoint](super::Worker::endpoint) this is: it is marked, if
    /// [health](Self::with_health) says so. For what is found out beside the calls.
    pub fn note_unreachable(&self, endpoint: &Endpoint) {
        self.shared.selection.load().care.note_unreachable(endpoint);
    }

    /// There is a connection to the worker: it is not marked as unreachable any more.
    pub fn note_reachable(&self, endpoint: &Endpoint) {
        self.shared.selection.load().care.note_reachable(endpoint);
    }

    /// The worker says that it takes no new calls, or that it does again.
    pub fn note_draining(&self, endpoint: &Endpoint, draining: bool) {
        let selection = self.shared.selection.load();
        selection.care.note_draining(endpoint, draining);
    }
}

/// Passive health did something.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HealthEvent {
    /// There is no connection to a worker. Calls pass it over until a probe succeeds or the cluster has news of it.
    NodeUnreachable {
        /// The node.
        node: Arc<Node>,
        /// How often in a row.
        failures: u32,
        /// How long until the next probe.
        probe_in: Duration,
    },
    /// There is a connection to the worker again, or news that it is well.
    NodeReachable(Arc<Node>),
    /// A worker fails. Calls pass it over until a probe succeeds.
    NodeEjected {
        /// The node.
        node: Arc<Node>,
        /// What it did.
        reason: Reason,
        /// How often it was ejected of late.
        times: u32,
        /// How long until the next probe.
        probe_in: Duration,
    },
    /// The probe succeeded: calls go to the worker again.
    NodeReinstated(Arc<Node>),
    /// A worker says that it takes no new calls.
    NodeDraining(Arc<Node>),
    /// A worker that drained takes calls again.
    NodeResumed(Arc<Node>),
    /// So few of those who match a filter are well that ejections are not heeded among them.
    PanicBegan {
        /// The filter; empty for all.
        filter: Box<str>,
        /// How many are well.
        healthy: usize,
        /// Of how many.
        of: usize,
    },
    /// Enough of those who match the filter are well again.
    PanicEnded {
        /// The filter; empty for all.
        filter: Box<str>,
        /// How many are well.
        healthy: usize,
        /// Of how many.
        of: usize,
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
pub(super) struct Care {
    began: Instant,
    pub(super) outliers: Outliers,
    /// What calls of each method usually take, whichever worker serves them.
    pub(super) normalizer: Arc<LatencyNormalizer>,
    feed: Arc<Feed<HealthEvent>>,
    /// All that are compared with each other.
    roster: SharedRoster,
    /// They have changed since the detector last counted them.
    has_changed: AtomicBool,
    /// Whether suspect nodes are better not picked.
    pub(super) heeds_suspicion: bool,
}

impl Care {
    pub(super) fn new(roster: SharedRoster) -> Self {
        Self {
            began: Instant::now(),
            outliers: outliers(HealthConfig::new()),
            normalizer: Arc::default(),
            feed: Arc::new(Feed::new(EVENT_CAPACITY)),
            roster,
            has_changed: AtomicBool::new(true),
            heeds_suspicion: true,
        }
    }

    /// One that watches in another way, and tells the same subscribers.
    fn with_config(&self, config: HealthConfig) -> Self {
        Self {
            began: self.began,
            outliers: outliers(config),
            normalizer: Arc::clone(&self.normalizer),
            feed: Arc::clone(&self.feed),
            roster: Arc::clone(&self.roster),
            has_changed: AtomicBool::new(true),
            heeds_suspicion: self.heeds_suspicion,
        }
    }

    fn without_suspicion(&self) -> Self {
        Self {
            heeds_suspicion: false,
            ..self.with_config(*self.outliers.config())
        }
    }

    pub(super) fn now(&self) -> Time {
        Time::from(self.began.elapsed())
    }

    fn time(&self, at: Instant) -> Time {
        Time::from(at.saturating_duration_since(self.began))
    }

    /// The roster has changed. What is compared is counted anew with the next outcome.
    pub(super) fn note_change(&self) {
        self.has_changed.store(true, Ordering::Release);
    }

    #[cold]
    fn recount(&self) {
        if self.has_changed.swap(false, Ordering::AcqRel) {
            self.outliers.note_view(&self.watched());
        }
    }

    /// All that are compared with each other.
    fn watched(&self) -> View {
        let snapshot = self.roster.lock().snapshot();
        let members = snapshot.members.iter();
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
                let action = self.outliers.on_outcome(endpoint, outcome);
                action
                    .into_iter()
                    .for_each(|action| self.tell(endpoint, action));
            }
            Some(probe) => {
                let actions = self.outliers.on_probed(endpoint, probe, outcome);
                actions.for_each(|action| self.tell(endpoint, action));
            }
        }
        if self.outliers.claim_sweep(outcome.now) {
            self.sweep(outcome.now);
        }
    }

    pub(super) fn note_unreachable(&self, endpoint: &Endpoint) {
        let action = self.outliers.note_unreachable(self.now(), endpoint);
        action
            .into_iter()
            .for_each(|action| self.tell(endpoint, action));
    }

    pub(super) fn note_reachable(&self, endpoint: &Endpoint) {
        let action = self.outliers.note_reachable(self.now(), endpoint);
        action
            .into_iter()
            .for_each(|action| self.tell(endpoint, action));
    }

    pub(super) fn hasten_probe(&self, endpoint: &Endpoint) {
        self.outliers.hasten_probe(self.now(), endpoint);
    }

    pub(super) fn note_draining(&self, endpoint: &Endpoint, draining: bool) {
        if let Some(action) = self.outliers.note_draining(endpoint, draining) {
            if !draining {
                endpoint.note_ready(self.now());
            }
            self.tell(endpoint, action);
        }
    }

    #[cold]
    fn sweep(&self, now: Time) {
        for action in self.outliers.sweep(now, &self.watched()) {
            let of = action.endpoint();
            let is_it = |member: &Member| Some(member.endpoint.id()) == of;
            self.tell_of(is_it, action);
        }
    }

    /// Tells of a group what concerns it as a whole.
    #[cold]
    pub(super) fn tell_of_group(&self, action: Action, filter: &str) {
        let filter = filter.into();
        self.feed.send(match action {
            Action::PanicBegan { healthy, of } => HealthEvent::PanicBegan {
                filter,
                healthy,
                of,
            },
            Action::PanicEnded { healthy, of } => HealthEvent::PanicEnded {
                filter,
                healthy,
                of,
            },
            _ => return,
        });
    }

    /// Tells of a worker; not of a former process, which has the id of its successor.
    #[cold]
    fn tell(&self, endpoint: &Endpoint, action: Action) {
        self.tell_of(|member| std::ptr::eq(&*member.endpoint, endpoint), action);
    }

    fn tell_of(&self, is_it: impl Fn(&Member) -> bool, action: Action) {
        let member = self.roster.lock().member_at(is_it).cloned();
        let Some(member) = member.filter(|member| !member.node.state.is_gone()) else {
            return;
        };
        let node = Arc::clone(&member.node);
        self.feed.send(match action {
            Action::Unreachable {
                failures, probe_in, ..
            } => HealthEvent::NodeUnreachable {
                node,
                failures,
                probe_in,
            },
            Action::Reachable { .. } => HealthEvent::NodeReachable(node),
            Action::Ejected {
                reason,
                times,
                probe_in,
                ..
            } => HealthEvent::NodeEjected {
                node,
                reason,
                times,
                probe_in,
            },
            Action::Reinstated { .. } => HealthEvent::NodeReinstated(node),
            Action::Draining { .. } => HealthEvent::NodeDraining(node),
            Action::Resumed { .. } => HealthEvent::NodeResumed(node),
            _ => return,
        });
    }
}

/// Seeded at random: clients shall not come back all at once.
fn outliers(config: HealthConfig) -> Outliers {
    // The standard library's keys for hashing come from the system's random numbers.
    Outliers::seeded(config, RandomState::new().hash_one(0_u64))
}
