//! What the engine tells of the cluster.

use std::net::SocketAddr;

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
    /// It is alive by its own word and cannot be reached: see [`Event::NodeUnreachable`].
    pub unreachable: bool,
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
    /// A live member cannot be reached, though it says that it is alive: it refuted several times
    /// and answered none of this node's probes, or it finds itself that no ping arrives at its
    /// address. Told once, not with each suspicion and refutation that follow; calls to it are
    /// better sent elsewhere.
    NodeUnreachable(Member),
    /// A live member that could not be reached answers probes again.
    NodeReachable(Member),
    /// No peer reaches this node at the address that it advertises: its own pings are answered,
    /// and for ten probe intervals none of theirs arrived. It is not ready to take calls.
    AddressUnreachable {
        /// What is advertised.
        addr: SocketAddr,
        /// What some peer sees instead, if any told.
        observed: Option<SocketAddr>,
    },
    /// The advertised address leads to this node after all, or again.
    AddressReachable {
        /// What is advertised.
        addr: SocketAddr,
    },
    /// Two live nodes of different names advertise one address, of which one alone can be probed
    /// and called there: others do not let the second one in, or hold the first one failed for it.
    /// In the one that lost the address it means that it is not ready, until it advertises another
    /// one or the other node is gone: see [`AddressStatus::Conflict`].
    AddressConflict {
        /// The address.
        addr: SocketAddr,
        /// Name of the node that started earlier.
        older: String,
        /// Name of the node that started later.
        newer: String,
    },
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
    /// This node has left; it takes part no more.
    Left {
        /// How many members acknowledged it.
        acknowledged: usize,
    },
    /// The subscriber fell behind and missed this many events.
    Lagged(u64),
}

/// Whether the address that a node advertises leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressStatus {
    /// No peer has tried it yet.
    Unconfirmed,
    /// Pings of peers arrived there.
    Reachable,
    /// Peers answer this node, and their pings do not arrive: [`Event::AddressUnreachable`].
    Unreachable,
    /// Another node has it: [`Event::AddressConflict`].
    Conflict,
}

impl AddressStatus {
    /// Whether peers cannot use the address: the node is not ready.
    pub fn is_problem(self) -> bool {
        matches!(self, Self::Unreachable | Self::Conflict)
    }
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
