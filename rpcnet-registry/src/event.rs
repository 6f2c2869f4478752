//! Cluster events and their subscriptions.

use std::{net::SocketAddr, sync::Arc};

use async_broadcast::{InactiveReceiver, Receiver, RecvError, Sender, TryRecvError};

use crate::{NodeInfo, SourceState};

/// Event of a cluster.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// A node has joined or restarted.
    NodeJoined(Arc<NodeInfo>),
    /// A node has left by its own announcement.
    NodeLeft(Arc<NodeInfo>),
    /// A node is considered dead.
    NodeFailed(Arc<NodeInfo>),
    /// A node has missed probes and is suspect.
    NodeSuspect {
        /// The node.
        node: Arc<NodeInfo>,
        /// The phi of the failure detector: -log10 of the probability that the suspicion is wrong.
        phi: f64,
    },
    /// A node that was suspect or failed is alive.
    NodeRecovered(Arc<NodeInfo>),
    /// A node has changed its tags or its address, or has begun to leave.
    NodeUpdated(Arc<NodeInfo>),
    /// A node takes long to reply. It is alive, and balancers may give it fewer calls.
    NodeSlow(Arc<NodeInfo>),
    /// A node that took long replies in time again.
    NodeResponsive(Arc<NodeInfo>),
    /// A node says that it is alive and cannot be reached: see
    /// [`NodeState::Unreachable`](crate::NodeState::Unreachable).
    NodeUnreachable(Arc<NodeInfo>),
    /// A node that could not be reached replies again.
    NodeReachable(Arc<NodeInfo>),
    /// This node cannot be reached by any peer at its advertised address. It is not ready.
    AddressUnreachable {
        /// The advertised address.
        addr: SocketAddr,
        /// The address that a peer sees instead, if one reported it.
        observed: Option<SocketAddr>,
    },
    /// The advertised address leads to this node.
    AddressReachable {
        /// The advertised address.
        addr: SocketAddr,
    },
    /// Two live nodes of different names advertise the same address.
    AddressConflict {
        /// The address.
        addr: SocketAddr,
        /// The name of the node that started earlier.
        older: String,
        /// The name of the node that started later.
        newer: String,
    },
    /// Part of the cluster has become unreachable all at once.
    PartitionDetected {
        /// The number of reachable nodes, including this one.
        reachable: usize,
        /// The number of expected nodes.
        expected: usize,
        /// Whether this node is in the smaller part, or, if both are equal, in the one without the
        /// node of the smallest name.
        minority: bool,
    },
    /// The parts of the cluster have reconnected.
    PartitionHealed,
    /// This node receives nothing from any other node: it is cut off, or the last one left.
    Isolated {
        /// The number of expected nodes, including this one.
        expected: usize,
    },
    /// This node receives messages of another node again.
    IsolationEnded,
    /// The source has ended, is superseded by a newer node of its name, or is live again. What the
    /// registry knows is out of date unless the source is [live](SourceState::is_live). A source
    /// that is live again starts over: the nodes that it finds are reported as joined, and other
    /// nodes are not reported.
    SourceChanged(SourceState),
    /// Two live nodes have the same name; the newer one keeps it.
    NameConflict {
        /// The name.
        name: Arc<str>,
        /// The address of the older one.
        older: SocketAddr,
        /// The address of the newer one.
        newer: SocketAddr,
    },
    /// A tag that selection uses is invalid and replaced by another value: see
    /// [`WorkerRegistry`](crate::WorkerRegistry) on `weight`. Sent once for each change of the tag,
    /// by the worker registry, whose [`invalid_tags`](crate::WorkerRegistry::invalid_tags) lists
    /// the present ones for later subscribers.
    InvalidTag {
        /// The node that has the tag.
        node: Arc<NodeInfo>,
        /// The key of the tag.
        key: Arc<str>,
        /// The value of the tag.
        value: Arc<str>,
        /// The value that is used instead.
        effective: f32,
    },
    /// The subscriber was too slow and missed this many events. Read the snapshot for the present
    /// state.
    Lagged(u64),
}

impl ClusterEvent {
    /// The node of the event; `None` if it is not about a single node.
    #[must_use]
    pub const fn node(&self) -> Option<&Arc<NodeInfo>> {
        match self {
            Self::NodeJoined(node)
            | Self::NodeLeft(node)
            | Self::NodeFailed(node)
            | Self::NodeSuspect { node, .. }
            | Self::NodeRecovered(node)
            | Self::NodeSlow(node)
            | Self::NodeUnreachable(node)
            | Self::NodeReachable(node)
            | Self::NodeResponsive(node)
            | Self::NodeUpdated(node)
            | Self::InvalidTag { node, .. } => Some(node),
            Self::PartitionDetected { .. }
            | Self::AddressUnreachable { .. }
            | Self::AddressReachable { .. }
            | Self::AddressConflict { .. }
            | Self::PartitionHealed
            | Self::Isolated { .. }
            | Self::IsolationEnded
            | Self::SourceChanged(_)
            | Self::NameConflict { .. }
            | Self::Lagged(_) => None,
        }
    }
}

/// Subscription to cluster events from now on. Bounded: a subscriber that falls behind receives
/// [`ClusterEvent::Lagged`].
#[derive(Debug, Clone)]
pub struct Events {
    receiver: Receiver<ClusterEvent>,
}

impl Events {
    /// Receives the next event; `None` once the registry is dropped and everything before was
    /// delivered.
    ///
    /// The end of the source, such as the shutdown of a node, does not end the subscription: it is
    /// the event [`ClusterEvent::SourceChanged`], and the source may be live again later. A loop
    /// that shall end with the source breaks at that event.
    ///
    /// Cancel safe: dropping the future loses no event.
    pub async fn recv(&mut self) -> Option<ClusterEvent> {
        match self.receiver.recv_direct().await {
            Ok(event) => Some(event),
            Err(RecvError::Overflowed(missed)) => Some(ClusterEvent::Lagged(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event if one is available.
    pub fn try_recv(&mut self) -> Option<ClusterEvent> {
        match self.receiver.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Overflowed(missed)) => Some(ClusterEvent::Lagged(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

/// Sending side of a subscription: keeps the latest events for the subscribers.
#[derive(Debug)]
pub(crate) struct EventBroadcast<T = ClusterEvent> {
    sender: Sender<T>,
    // Keeps the channel open while there is no subscriber.
    idle: InactiveReceiver<T>,
}

impl<T: Clone> EventBroadcast<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let (mut sender, receiver) = async_broadcast::broadcast(capacity);
        sender.set_overflow(true);
        Self {
            sender,
            idle: receiver.deactivate(),
        }
    }

    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.sender.set_capacity(capacity);
    }

    pub(crate) fn send(&self, event: T) {
        // Fails only when there is no subscriber; a full channel drops the oldest event instead.
        let _ = self.sender.try_broadcast(event);
    }

    pub(crate) fn receiver(&self) -> Receiver<T> {
        self.idle.activate_cloned()
    }
}

impl EventBroadcast {
    pub(crate) fn subscribe(&self) -> Events {
        Events {
            receiver: self.receiver(),
        }
    }
}

/// The number of events kept for a slow subscriber.
pub(crate) const EVENT_CAPACITY: usize = 256;

/// Most events that are kept for a slow subscriber: the channel reserves their memory.
pub(crate) const EVENT_CAPACITY_MAX: usize = 65_536;
