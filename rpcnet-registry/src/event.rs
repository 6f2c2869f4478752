//! What happens in a cluster, and how it is told.

use std::{net::SocketAddr, sync::Arc};

use async_broadcast::{InactiveReceiver, Receiver, RecvError, Sender, TryRecvError};

use crate::{NodeInfo, SourceState};

/// Something has changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// A node is there that was not, or one has started anew.
    NodeJoined(Arc<NodeInfo>),
    /// A node has left by its own announcement.
    NodeLeft(Arc<NodeInfo>),
    /// A node is held for dead.
    NodeFailed(Arc<NodeInfo>),
    /// A node has not answered lately.
    NodeSuspect {
        /// The node.
        node: Arc<NodeInfo>,
        /// How sure the detector is: -log10 of the probability that it is wrong.
        phi: f64,
    },
    /// A node that was suspect or failed is alive after all.
    NodeRecovered(Arc<NodeInfo>),
    /// A node says something else about itself: other tags, another address, that it is about to leave.
    NodeUpdated(Arc<NodeInfo>),
    /// A node takes long to answer. It is alive, and may be worth sparing.
    NodeSlow(Arc<NodeInfo>),
    /// A node that took long answers in time again.
    NodeResponsive(Arc<NodeInfo>),
    /// A node is alive by its own word and cannot be reached: see [`NodeState::Unreachable`](crate::NodeState::Unreachable).
    NodeUnreachable(Arc<NodeInfo>),
    /// A node that could not be reached answers again.
    NodeReachable(Arc<NodeInfo>),
    /// No peer reaches this node at the address that it advertises. It is not ready.
    AddressUnreachable {
        /// What it advertises.
        addr: SocketAddr,
        /// What a peer sees instead, if one told.
        observed: Option<SocketAddr>,
    },
    /// The advertised address leads to this node after all, or again.
    AddressReachable {
        /// What it advertises.
        addr: SocketAddr,
    },
    /// Two live nodes of different names advertise one address.
    AddressConflict {
        /// The address.
        addr: SocketAddr,
        /// Name of the node that started earlier.
        older: String,
        /// Name of the node that started later.
        newer: String,
    },
    /// Part of the cluster cannot be reached any more, all at once.
    PartitionDetected {
        /// How many nodes can be reached, this one included.
        reachable: usize,
        /// How many there should be.
        expected: usize,
        /// Whether this node is in the smaller part, or, of two equal ones, in the one without the
        /// node of the smallest name.
        minority: bool,
    },
    /// The parts have found each other again.
    PartitionHealed,
    /// This node hears no other node any more: it is cut off, or the last one left.
    Isolated {
        /// How many nodes there should be, this one included.
        expected: usize,
    },
    /// This node hears another node again.
    IsolationEnded,
    /// The source has ended, is superseded by a newer node of its name, or is live again. What the registry knows is out of
    /// date unless it is [live](SourceState::is_live). A source that is live again begins anew: the nodes that it finds are told as
    /// joined, and of others nothing is told.
    SourceChanged(SourceState),
    /// Two live nodes have one name; the newer one keeps it.
    NameConflict {
        /// The name.
        name: Arc<str>,
        /// Where the older one is.
        older: SocketAddr,
        /// Where the newer one is.
        newer: SocketAddr,
    },
    /// A tag that selection goes by does not say what it should, and is taken for something else:
    /// see [`WorkerRegistry`](crate::WorkerRegistry) on `weight`. Told once for each change of the
    /// tag, by the registry of workers, whose [`invalid_tags`](crate::WorkerRegistry::invalid_tags)
    /// are those that there are, for subscribers that came later.
    InvalidTag {
        /// The node whose tag it is.
        node: Arc<NodeInfo>,
        /// The key of the tag.
        key: Arc<str>,
        /// The value of the tag.
        value: Arc<str>,
        /// What it is taken for.
        effective: f32,
    },
    /// The subscriber was too slow and missed this many events. Read the snapshot for where things stand.
    Lagged(u64),
}

impl ClusterEvent {
    /// The node it is about, if it is about one.
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

/// A subscription to what happens from now on. Bounded: who falls behind gets [`ClusterEvent::Lagged`].
#[derive(Debug, Clone)]
pub struct Events {
    receiver: Receiver<ClusterEvent>,
}

impl Events {
    /// The next event; `None` once the registry is gone and everything before was delivered.
    ///
    /// Dropping the future loses no event.
    pub async fn recv(&mut self) -> Option<ClusterEvent> {
        match self.receiver.recv_direct().await {
            Ok(event) => Some(event),
            Err(RecvError::Overflowed(missed)) => Some(ClusterEvent::Lagged(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event if there is one already.
    pub fn try_recv(&mut self) -> Option<ClusterEvent> {
        match self.receiver.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Overflowed(missed)) => Some(ClusterEvent::Lagged(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

/// The sending side: keeps the latest events for the subscribers.
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
        // Fails only when there is no subscriber; with overflow on, a full channel drops the oldest
        // instead.
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

/// Events kept for a slow subscriber.
pub(crate) const EVENT_CAPACITY: usize = 256;
