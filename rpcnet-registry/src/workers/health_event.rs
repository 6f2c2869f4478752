//! Events of passive health checks.

use std::{sync::Arc, time::Duration};

use async_broadcast::{Receiver, RecvError, TryRecvError};
use rpcnet_balance::health::EjectionReason;

use crate::NodeInfo;

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
        /// The reason of the ejection.
        reason: EjectionReason,
        /// The number of recent ejections, including this one.
        ejection_count: u32,
        /// The time until the next probe.
        probe_in: Duration,
    },
    /// The ejection of a worker ended, as the probe succeeded: calls go to it again.
    NodeUnejected(Arc<NodeInfo>),
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
    /// The subscriber was too slow and missed this many events.
    /// [`WorkerRegistry::workers`](super::WorkerRegistry::workers) has the present state.
    Lagged(u64),
}

/// Subscription to health events. Bounded: a subscriber that falls behind receives
/// [`HealthEvent::Lagged`].
#[derive(Debug, Clone)]
pub struct HealthEvents {
    pub(super) receiver: Receiver<HealthEvent>,
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
