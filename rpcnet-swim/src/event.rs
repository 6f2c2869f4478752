//! What the engine tells of the cluster.

use std::net::SocketAddr;

use crate::error::JoinRefusal;
use crate::id::NodeId;
use crate::tags::Tags;

/// A member as others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Name and epoch.
    pub id: NodeId,
    /// Where it is reached, for gossip and for calls.
    pub addr: SocketAddr,
    /// Raised by the member itself, to refute a suspicion or to change its tags.
    pub incarnation: u32,
    /// What this node believes of it.
    pub state: MemberState,
    /// It has announced that it takes no new work, or it is leaving.
    pub draining: bool,
    /// It answers, and takes long: this node finds so, or the member says so itself. See
    /// [`HealthState::Slow`](crate::HealthState::Slow).
    pub slow: bool,
    /// What it says of itself.
    pub tags: Tags,
}

/// What a node believes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// It answers, or nobody says otherwise.
    Alive,
    /// Somebody had no answer from it; it may still refute.
    Suspect,
    /// Declared failed: unreachable, and dialled again until it is forgotten.
    Failed,
    /// It said that it leaves.
    Left,
}

impl MemberState {
    /// Alive or suspect: counted as part of the cluster.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// A change of the cluster, in the order in which this node learnt of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A new member, or a new life of a known name.
    NodeJoined(Member),
    /// A member left by its own word.
    NodeLeft(Member),
    /// A member was declared failed.
    NodeFailed(Member),
    /// A member is under suspicion.
    NodeSuspect {
        /// The suspect.
        member: Member,
        /// The evidence so far, summed over those who suspect it, as phi.
        phi: f64,
    },
    /// A suspected or failed member proved to be alive.
    NodeRecovered(Member),
    /// A member changed its tags, its address or whether it drains; this node itself too.
    NodeUpdated(Member),
    /// A member takes long to answer; this node itself too. It may be worth sparing. What a node
    /// finds of another is told there alone; what a member finds of itself, everywhere.
    NodeSlow(Member),
    /// A member that took long answers in time again.
    NodeResponsive(Member),
    /// Too much of the cluster became unreachable at once, for longer than the grace period. Told
    /// again when this side gains or loses the majority meanwhile, for as long.
    PartitionDetected {
        /// Members on this side, this node included.
        reachable: usize,
        /// Members there were, this node included.
        expected: usize,
        /// Whether this side has no majority.
        minority: bool,
    },
    /// The partition is over.
    PartitionHealed,
    /// Nobody has been heard for three probe intervals: it must be this node that is cut off, so
    /// it holds nobody failed for it. The last one of three or more that crash at once cannot tell
    /// the difference and stays isolated. With a single other member there is no telling either:
    /// that one is found failed, and [`Event::PartitionDetected`] speaks of one of two.
    Isolated {
        /// Members there were, this node included.
        expected: usize,
    },
    /// This node hears a member again.
    IsolationEnded,
    /// Two live nodes have this name; the one that started later keeps it. In the older one, if
    /// it is in, this is the last event: it is gone, and others do not hear of it as left.
    NameConflict {
        /// The name.
        name: String,
        /// Where the older one is.
        older: SocketAddr,
        /// Where the newer one is.
        newer: SocketAddr,
    },
    /// This node tracks as many members as it may
    /// ([`with_members_max`](crate::ClusterConfig::with_members_max)). Told once in 30 probe
    /// intervals at most, with what happened since it was told last.
    TableFull {
        /// Members tracked, failed and left ones too.
        members: usize,
        /// Members forgotten to make room: who was gone longest, else one that was never heard,
        /// which is told as failed too.
        evicted: u64,
        /// Newcomers that were not taken in.
        refused: u64,
    },
    /// A node that was asked to let this one in refused. Told while this node is in no cluster,
    /// and again when who or why changes.
    JoinRefused {
        /// Who refused.
        by: SocketAddr,
        /// Why.
        reason: JoinRefusal,
    },
    /// This node has left; it takes part no more.
    Left {
        /// How many members acknowledged it.
        acknowledged: usize,
    },
    /// The subscriber fell behind and missed this many events.
    Lagged(u64),
}

/// Whether this node sees the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionStatus {
    /// It does.
    Healthy,
    /// Too many are gone; not yet for the length of the grace period.
    Suspected,
    /// Too many have been gone for too long.
    Partitioned {
        /// Members on this side, this node included.
        reachable: usize,
        /// Members there were, this node included.
        expected: usize,
        /// Whether this side has no majority: not more than half.
        minority: bool,
    },
    /// It hears nobody: it is this node that is cut off. It reaches one, itself.
    Isolated {
        /// Members there were, this node included.
        expected: usize,
    },
}
