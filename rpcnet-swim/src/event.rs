//! Events, members and states: what the engine reports about the cluster.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cluster_mismatch::ClusterMismatch;
use crate::error::JoinRefusal;
use crate::id::NodeId;
use crate::tags::Tags;

/// A member of the cluster, as one node sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// Name and epoch.
    pub id: NodeId,
    /// Address for gossip and for calls.
    pub addr: SocketAddr,
    /// Incarnation number (SWIM section 4.2): raised by the member alone, to refute a suspicion or
    /// to change its tags.
    pub incarnation: u32,
    /// State in this node's view.
    pub state: MemberState,
    /// Whether the member drains: it has announced that it takes no new work, or it is leaving.
    pub draining: bool,
    /// Whether the member is slow: it answers, and takes long, as this node finds or as the member
    /// says itself. See [`HealthState::Slow`](crate::HealthState::Slow).
    pub slow: bool,
    /// Whether the member is alive by its own word and cannot be reached: see
    /// [`Event::NodeUnreachable`].
    pub unreachable: bool,
    /// Tags that the member announces.
    pub tags: Tags,
}

impl Member {
    /// A live member without tags, as it is when it has just started.
    #[must_use]
    pub fn new(id: NodeId, addr: SocketAddr) -> Self {
        Self {
            id,
            addr,
            incarnation: 0,
            state: MemberState::Alive,
            draining: false,
            slow: false,
            unreachable: false,
            tags: Tags::new(),
        }
    }
}

/// State of a member in the view of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberState {
    /// The member answers, or no suspicion of it is known.
    Alive,
    /// At least one member had no answer from it; it may still refute.
    Suspect,
    /// The member was declared failed. It is redialled until it is forgotten.
    Failed,
    /// The member announced that it leaves.
    Left,
}

impl MemberState {
    /// Whether the state is alive or suspect, so that the member counts as part of the cluster.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// A change of the cluster, reported in the order in which this node learnt of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A member joined: a new one, or a new instance of a known name.
    NodeJoined(Member),
    /// A member left by its own announcement.
    NodeLeft(Member),
    /// A member was declared failed.
    NodeFailed(Member),
    /// A member is under suspicion.
    NodeSuspect {
        /// The suspected member.
        member: Member,
        /// Evidence so far, summed over all suspectors, as phi.
        phi: f64,
    },
    /// A suspected or failed member proved to be alive.
    NodeRecovered(Member),
    /// A member changed its tags, its address or whether it drains; this node itself too.
    NodeUpdated(Member),
    /// A member takes long to answer; reported of this node itself too. A balancer may spare it.
    /// What a node finds of another member is reported there alone; what a member finds of itself
    /// is reported everywhere.
    NodeSlow(Member),
    /// A slow member answers in time again.
    NodeResponsive(Member),
    /// A live member cannot be reached, though it says that it is alive: it refuted several times
    /// and answered none of this node's probes, or it finds itself that no ping arrives at its
    /// address. Reported once, not with each suspicion and refutation that follow. Calls are better
    /// sent to other members.
    NodeUnreachable(Member),
    /// A live member that could not be reached answers probes again.
    NodeReachable(Member),
    /// No peer reaches this node at the address that it advertises: its own pings are answered, and
    /// for ten probe intervals none of the peers' arrived; or a loopback address was set by hand,
    /// and a node on another host answers. This node is not ready to take calls.
    AddressUnreachable {
        /// The advertised address.
        addr: SocketAddr,
        /// The source address that a peer sees instead, if one reported it.
        observed: Option<SocketAddr>,
    },
    /// The advertised address leads to this node after all, or again, or no member is left that
    /// could tell.
    AddressReachable {
        /// The advertised address.
        addr: SocketAddr,
    },
    /// Two live nodes of different names advertise one address, so that only one of them can be
    /// probed and called there: others do not admit the second one, or declare the first one failed
    /// because of it. In the node that lost the address it means that it is not ready until it
    /// advertises another one or the other node is gone: see [`AddressStatus::Conflict`].
    AddressConflict {
        /// The address.
        addr: SocketAddr,
        /// Name of the node that started earlier.
        older: String,
        /// Name of the node that started later.
        newer: String,
    },
    /// Too many members became unreachable at once, for longer than the grace period. Reported
    /// again when this side gains or loses the majority while the partition lasts.
    PartitionDetected {
        /// Members on this side, this node included.
        reachable: usize,
        /// Members before, this node included.
        expected: usize,
        /// Whether this side has no majority: less than half, or half without the member of the
        /// smallest name, as
        /// [`SplitBrainPolicy::keep_majority`](crate::SplitBrainPolicy::keep_majority) counts.
        minority: bool,
    },
    /// The partition is over.
    PartitionHealed,
    /// No member has been heard for three probe intervals: it must be this node that is cut off, so
    /// it declares no member failed for that. The last survivor of three or more that crash at once
    /// cannot tell the difference and stays isolated. With a single other member a node cannot tell
    /// either: that member is found failed, and [`Event::PartitionDetected`] reports one of two.
    Isolated {
        /// Members before, this node included.
        expected: usize,
    },
    /// This node is no longer isolated: it hears a member again, too few are left to tell, or a
    /// newer node has its name.
    IsolationEnded,
    /// Two live nodes have this name; the one that started later keeps it. Reported by the newer
    /// node, by the older one, which is then [superseded](Event::Superseded), and by others that
    /// hear both.
    NameConflict {
        /// The name.
        name: String,
        /// Address of the older node.
        older: SocketAddr,
        /// Address of the newer node.
        newer: SocketAddr,
    },
    /// A datagram arrived that this node cannot open, from a node of another cluster. Reported once
    /// a minute (60 probe intervals) for each address and reason, and at most twice in a probe
    /// interval; the counters have all of them. The sender is not authenticated.
    DatagramRefused {
        /// Source address of the datagram.
        from: SocketAddr,
        /// How the sender's cluster differs.
        reason: ClusterMismatch,
    },
    /// A seed says that it cannot open the datagrams of this node. Reported once for each seed and
    /// reason, and at most twice in a probe interval. The notice is not authenticated and changes
    /// nothing. A later subscriber finds it in the error of `ClusterMembership::join`
    /// (`SeedFailure::Refused`).
    SeedRefused {
        /// The seed's address.
        seed: SocketAddr,
        /// How this node's cluster differs from the seed's.
        reason: ClusterMismatch,
    },
    /// A newer node has this node's name, as the newer one itself proved: this node no longer takes
    /// part, and its view stands still. Usually two processes were given one certificate or one
    /// name. This node keeps checking whether the newer one is still there.
    Superseded {
        /// Name and epoch of the newer one.
        by: NodeId,
        /// Its address.
        addr: SocketAddr,
    },
    /// The newer node of this name has left, failed, is forgotten or does not answer: this node
    /// joins again, and reports all members again.
    SupersessionEnded {
        /// Name and epoch of the node that was newer.
        by: NodeId,
        /// Its last address.
        addr: SocketAddr,
    },
    /// The wall clocks of this node and of another one are more than a day apart, so one of them
    /// refuses the other's epoch: while that lasts, they are not members of one cluster. Reported
    /// once a minute at most (60 probe intervals); [`Stats`](crate::Stats) counts.
    ClockSkew {
        /// Address of the other node.
        addr: SocketAddr,
        /// How far ahead of the clock that refuses it the refused epoch is.
        ahead: Duration,
        /// Whether the other node refuses this node's epoch, rather than this node the other's.
        /// Which of the two clocks is wrong is not known by that.
        is_own: bool,
    },
    /// The member table is full ([`with_members_max`](crate::ClusterConfig::with_members_max)).
    /// Reported once in 30 probe intervals at most, with what happened since the last report.
    TableFull {
        /// Members tracked, failed and left ones too.
        members: usize,
        /// Members forgotten to make room: the one that has been gone longest, else one that was
        /// never heard, which is reported as failed too.
        evicted: u64,
        /// Newcomers that were not admitted.
        refused: u64,
    },
    /// A node that was asked to admit this one refused. Reported while this node is in no cluster,
    /// and again when the refusing node or the reason changes.
    JoinRefused {
        /// Address of the node that refused.
        by: SocketAddr,
        /// Its reason.
        reason: JoinRefusal,
    },
    /// This node has left and no longer takes part.
    Left {
        /// How many members acknowledged it.
        acknowledged: usize,
    },
    /// The subscriber fell behind and missed this many events.
    Lagged(u64),
}

/// Lifecycle of a node as a member of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MembershipState {
    /// No seed has let the node in yet.
    Joining,
    /// The node is a member, or a cluster of its own.
    Active,
    /// A newer node has this node's name; this node is no member as long as the newer one is there.
    Superseded {
        /// Name and epoch of the newer one.
        by: NodeId,
        /// Its address.
        addr: SocketAddr,
    },
    /// The node is leaving or has left.
    Left,
    /// The driver ended without a leave: its runtime is gone, or its socket panicked.
    Stopped,
}

impl MembershipState {
    /// Whether the node takes part in the cluster, or is about to.
    #[must_use]
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
    /// Pings of peers arrive there.
    Reachable,
    /// Peers answer this node, and their pings do not arrive: [`Event::AddressUnreachable`].
    Unreachable,
    /// Another node advertises it too: [`Event::AddressConflict`].
    Conflict,
}

impl AddressStatus {
    /// Whether peers cannot use the address: the node is not ready.
    #[must_use]
    pub fn is_problem(self) -> bool {
        matches!(self, Self::Unreachable | Self::Conflict)
    }
}

/// Whether a node sees the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionStatus {
    /// All expected members are reachable.
    Healthy,
    /// Too many members are gone, for less than the grace period so far.
    Suspected,
    /// Too many members have been gone for longer than the grace period.
    Partitioned {
        /// Members on this side, this node included.
        reachable: usize,
        /// Members before, this node included.
        expected: usize,
        /// Whether this side has no majority: less than half, or half without the member of the
        /// smallest name.
        minority: bool,
    },
    /// The node hears no other member: it is the node itself that is cut off.
    Isolated {
        /// Members before, this node included.
        expected: usize,
    },
}
