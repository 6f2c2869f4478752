//! What the engine tells of the cluster.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cluster_mismatch::ClusterMismatch;
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
    /// and for ten probe intervals none of theirs arrived; or a loopback address was set by hand,
    /// and a node on another host answers. This node is not ready to take calls.
    AddressUnreachable {
        /// What is advertised.
        addr: SocketAddr,
        /// What some peer sees instead, if any told.
        observed: Option<SocketAddr>,
    },
    /// The advertised address leads to this node after all, or again, or no member is left that could
    /// tell.
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
        /// Whether this side has no majority: less than half, or half without the member of the
        /// smallest name, as [`SplitBrainPolicy::keep_majority`](crate::SplitBrainPolicy::keep_majority) counts.
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
    /// This node is no longer isolated: it hears a member again, too few are left to tell, or a newer
    /// node has its name.
    IsolationEnded,
    /// Two live nodes have this name; the one that started later keeps it. Told by the newer one,
    /// by the older one, which is then [superseded](Event::Superseded), and by others that hear
    /// both.
    NameConflict {
        /// The name.
        name: String,
        /// Where the older one is.
        older: SocketAddr,
        /// Where the newer one is.
        newer: SocketAddr,
    },
    /// A datagram came that this node cannot open, of a node of another cluster. Told once a minute
    /// (60 probe intervals) for each address and reason, and twice in a probe interval in all; the
    /// counters have all of them. Nothing proves who sent it.
    DatagramRefused {
        /// Where it came from.
        from: SocketAddr,
        /// Why it was refused.
        reason: ClusterMismatch,
    },
    /// A seed says that it cannot open the datagrams of this node. Told once for each seed and
    /// reason, and twice in a probe interval in all. Nothing proves it; it changes nothing. Who
    /// subscribes later hears of it from `ClusterMembership::join`, whose error has it
    /// (`SeedFailure::Refused`).
    SeedRefused {
        /// The seed's address.
        seed: SocketAddr,
        /// Why it refuses them.
        reason: ClusterMismatch,
    },
    /// A newer node has this node's name, as that one itself proved: this node takes part no more,
    /// and its view stands still. As a rule two processes were given one certificate or one name.
    /// This node goes on looking whether the newer one is there.
    Superseded {
        /// Name and epoch of the newer one.
        by: NodeId,
        /// Where it is.
        addr: SocketAddr,
    },
    /// The newer node of this name has left, failed, is forgotten or does not answer: this node
    /// joins again, and tells of the members anew.
    SupersessionEnded {
        /// Name and epoch of the node that was newer.
        by: NodeId,
        /// Where it was.
        addr: SocketAddr,
    },
    /// The wall clocks of this node and of another are more than a day apart, so one of them
    /// refuses the other's epoch: as long as that is so, they are no members of one cluster.
    /// Told once in a minute at most (60 probe intervals); [`Stats`](crate::Stats) counts.
    ClockSkew {
        /// Where the other one is.
        addr: SocketAddr,
        /// How far ahead of the clock that refuses it the refused epoch is.
        ahead: Duration,
        /// Whether it is this node's epoch that the other one refuses, rather than the other's
        /// that this one does. Whose clock is wrong is not known by that.
        is_own: bool,
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

/// What part a node takes in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MembershipState {
    /// No seed has let it in yet.
    Joining,
    /// It is a member, or a cluster of its own.
    Active,
    /// A newer node has its name; it is no member as long as that one is there.
    Superseded {
        /// Name and epoch of the newer one.
        by: NodeId,
        /// Where it is.
        addr: SocketAddr,
    },
    /// It is leaving or has left.
    Left,
    /// Whatever drove it ended without a leave: its runtime is gone, or its socket panicked.
    Stopped,
}

impl MembershipState {
    /// Whether the node takes part in the cluster, or is about to.
    pub fn is_participating(&self) -> bool {
        matches!(self, Self::Joining | Self::Active)
    }
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
        /// Whether this side has no majority: less than half, or half without the member of the
        /// smallest name.
        minority: bool,
    },
    /// It hears nobody: it is this node that is cut off. It reaches one, itself.
    Isolated {
        /// Members there were, this node included.
        expected: usize,
    },
}
