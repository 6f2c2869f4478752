//! A node and who it is.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::Tags;

/// Which process a node is: a name that stays, and an epoch that is higher every time it starts anew.
///
/// Displays as the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Unique among the nodes of a cluster, and compared as it is. Nodes of `rpcnet-swim` have names in lower case without a
    /// dot at the end; a transport dials any name in that form.
    pub name: Arc<str>,
    /// Higher for a later start under the same name; as a rule the time of the start, in ms.
    pub epoch: u64,
}

impl NodeId {
    /// The node of this name that started at `epoch`.
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

/// What is known of a node's well-being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeState {
    /// It answers.
    Alive,
    /// It has not answered lately. Takes calls only if no alive node can.
    Suspect,
    /// It is alive by its own word and cannot be reached: it refutes each suspicion and answers no probe, or no peer reaches
    /// the address that it advertises. Takes calls only if no alive node can.
    Unreachable,
    /// It has announced that it is about to leave: it finishes what it has and takes nothing new.
    Leaving,
    /// It has left, by its own announcement.
    Left,
    /// It is held for dead, or cannot be reached.
    Failed,
}

impl NodeState {
    /// Whether the node takes part no longer: [`Left`](Self::Left) or [`Failed`](Self::Failed).
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
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        })
    }
}

/// A node as it was known at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Which process it is.
    pub id: NodeId,
    /// Where it is reached.
    pub addr: SocketAddr,
    /// What it says about itself.
    pub tags: Tags,
    /// What is known of its well-being.
    pub state: NodeState,
    /// How often it had to refute a suspicion, as a version of what it says about itself.
    pub incarnation: u32,
    /// The phi with which it became [`Suspect`](NodeState::Suspect), if it is and the source gives one.
    pub phi: Option<f64>,
    /// Whether it takes long to answer, by what the source knows. It is alive and takes calls.
    pub is_slow: bool,
    /// The round trip that the source had measured when this was told, if it measures them and has reason to tell: a cluster
    /// tells it of nodes that are slow or suspect.
    pub round_trip: Option<Duration>,
    /// Whether it is the node that this process is.
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

    /// With these tags in place of those it has.
    #[must_use]
    pub fn with_tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// With one more tag.
    #[must_use]
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key, value);
        self
    }

    /// In another state.
    #[must_use]
    pub const fn with_state(mut self, state: NodeState) -> Self {
        self.state = state;
        self
    }

    /// At another incarnation.
    #[must_use]
    pub const fn with_incarnation(mut self, incarnation: u32) -> Self {
        self.incarnation = incarnation;
        self
    }

    /// With the phi of its suspicion.
    #[must_use]
    pub const fn with_phi(mut self, phi: Option<f64>) -> Self {
        self.phi = phi;
        self
    }

    /// As one that takes long to answer, or not.
    #[must_use]
    pub const fn with_slow(mut self, is_slow: bool) -> Self {
        self.is_slow = is_slow;
        self
    }

    /// With this round trip.
    #[must_use]
    pub const fn with_round_trip(mut self, round_trip: Option<Duration>) -> Self {
        self.round_trip = round_trip;
        self
    }

    /// As the node that this process is, or not.
    #[must_use]
    pub const fn with_local(mut self, is_local: bool) -> Self {
        self.is_local = is_local;
        self
    }

    /// Whether it says, by the tag [`SERVES_TAG`], that it serves no methods.
    #[must_use]
    pub fn serves_nothing(&self) -> bool {
        self.tags.value(SERVES_TAG) == Some(SERVES_NOTHING)
    }

    /// What to call it before people: its tag `label`, or else its name.
    #[must_use]
    pub fn label(&self) -> &str {
        self.tags.value("label").unwrap_or(&self.id.name)
    }
}

/// Tag by which a node says that it serves no methods, with the value [`SERVES_NOTHING`]: a gateway, an observer. It is in
/// every [`NodeRegistry`](crate::NodeRegistry), and no worker: a [`WorkerRegistry`](crate::WorkerRegistry) does not show or
/// select it. Without the tag, or with another value, a node is a worker.
///
/// A node made by the builder of rpcnet-client sets and removes it by itself. Other sources of nodes may set it.
pub const SERVES_TAG: &str = "rpcnet.serves";

/// Value of the tag [`SERVES_TAG`] of a node that serves no methods.
pub const SERVES_NOTHING: &str = "none";

/// For balancers that prefer some nodes over others.
impl rpcnet_balance::TagLookup for NodeInfo {
    fn tag(&self, key: &str) -> Option<&str> {
        self.tags.value(key)
    }
}
