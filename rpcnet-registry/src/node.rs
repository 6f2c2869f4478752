//! Nodes: identity, state, tags.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::Tags;

/// Identity of a node: a name that stays, and an epoch that is higher after every restart.
///
/// Displays as the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Unique among the nodes of a cluster, and compared as it is. Nodes of `rpcnet-swim` have
    /// names in lower case without a final dot; a transport dials any name in that form.
    pub name: Arc<str>,
    /// Higher for a later start under the same name; usually the time of the start, in ms.
    pub epoch: u64,
}

impl NodeId {
    /// The identity of the node of this name that started at `epoch`.
    pub fn new(name: impl Into<Arc<str>>, epoch: u64) -> Self {
        Self {
            name: name.into(),
            epoch,
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

/// State of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeState {
    /// The node replies to probes.
    Alive,
    /// The node has missed probes. It takes calls only if no alive node can.
    Suspect,
    /// The node says that it is alive and cannot be reached: it refutes each suspicion and replies
    /// to no probe, or no peer reaches its advertised address. It takes calls only if no alive node
    /// can.
    Unreachable,
    /// The node drains: it finishes its calls and takes no new ones, until it leaves or resumes.
    Draining,
    /// The node has left, by its own announcement.
    Left,
    /// The node is considered dead.
    Failed,
}

impl NodeState {
    /// Whether the node is no longer a member: [`Left`](Self::Left) or [`Failed`](Self::Failed).
    #[must_use]
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Left | Self::Failed)
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Unreachable => "unreachable",
            Self::Draining => "draining",
            Self::Left => "left",
            Self::Failed => "failed",
        })
    }
}

/// Description of a node at one time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// The identity.
    pub id: NodeId,
    /// The address.
    pub addr: SocketAddr,
    /// The tags.
    pub tags: Tags,
    /// The state.
    pub state: NodeState,
    /// The number of suspicions that it had to refute, as a version of what it announces.
    pub incarnation: u32,
    /// The phi with which it became [`Suspect`](NodeState::Suspect), if it is and the source
    /// measures it.
    pub phi: Option<f64>,
    /// Whether it takes long to reply, according to the source. It is alive and takes calls.
    pub is_slow: bool,
    /// The round trip that the source had measured, if it measures them and reports them: a cluster
    /// reports those of nodes that are slow or suspect.
    pub round_trip: Option<Duration>,
    /// Whether it is the local node, the one of this process.
    pub is_local: bool,
}

impl NodeInfo {
    /// An alive node without tags, not the local one.
    #[must_use]
    pub fn new(id: NodeId, addr: SocketAddr) -> Self {
        Self {
            id,
            addr,
            tags: Tags::new(),
            state: NodeState::Alive,
            incarnation: 0,
            phi: None,
            is_slow: false,
            round_trip: None,
            is_local: false,
        }
    }

    /// Sets the tags, in place of those it has.
    #[must_use]
    pub fn with_tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key, value);
        self
    }

    /// Sets the state.
    #[must_use]
    pub const fn with_state(mut self, state: NodeState) -> Self {
        self.state = state;
        self
    }

    /// Sets the incarnation.
    #[must_use]
    pub const fn with_incarnation(mut self, incarnation: u32) -> Self {
        self.incarnation = incarnation;
        self
    }

    /// Sets the phi of its suspicion.
    #[must_use]
    pub const fn with_phi(mut self, phi: Option<f64>) -> Self {
        self.phi = phi;
        self
    }

    /// Sets whether it takes long to reply.
    #[must_use]
    pub const fn with_slow(mut self, is_slow: bool) -> Self {
        self.is_slow = is_slow;
        self
    }

    /// Sets the round trip.
    #[must_use]
    pub const fn with_round_trip(mut self, round_trip: Option<Duration>) -> Self {
        self.round_trip = round_trip;
        self
    }

    /// Sets whether it is the local node.
    #[must_use]
    pub const fn with_local(mut self, is_local: bool) -> Self {
        self.is_local = is_local;
        self
    }

    /// Whether it announces by the tag [`SERVES_TAG`] that it serves no methods.
    #[must_use]
    pub fn serves_nothing(&self) -> bool {
        self.tags.value(SERVES_TAG) == Some(SERVES_NOTHING)
    }

    /// The name to display: its tag `label`, or else its name.
    #[must_use]
    pub fn label(&self) -> &str {
        self.tags.value("label").unwrap_or(&self.id.name)
    }
}

/// Tag by which a node announces that it serves no methods, with the value [`SERVES_NOTHING`]: a
/// gateway, an observer. Such a node is in every [`NodeRegistry`](crate::NodeRegistry), and no
/// worker: a [`WorkerRegistry`](crate::WorkerRegistry) neither lists nor selects it. Without the
/// tag, or with another value, a node is a worker.
///
/// A node made by the builder of rpcnet-client sets and removes it by itself. Other sources of
/// nodes may set it.
pub const SERVES_TAG: &str = "rpcnet.serves";

/// Value of the tag [`SERVES_TAG`] of a node that serves no methods.
pub const SERVES_NOTHING: &str = "none";

/// Tags for balancers that prefer some nodes over others.
impl rpcnet_balance::TagLookup for NodeInfo {
    fn tag(&self, key: &str) -> Option<&str> {
        self.tags.value(key)
    }
}
