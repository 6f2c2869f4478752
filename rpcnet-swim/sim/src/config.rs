//! Configuration of a run: nodes, links, and the kinds of faults that are injected.

use std::time::Duration;

use fastrand::Rng;
use rpcnet_swim::{ClusterConfig, ClusterKey};

use super::Link;

/// Configuration of a [`run`](super::run). Settings that are left open are drawn from the seed:
/// each kind of fault is there or not (swarm testing), so that runs differ more than if each had a
/// little of everything.
#[derive(Clone, Debug, Default)]
pub struct SimConfig {
    pub(super) nodes: Option<usize>,
    pub(super) fault_duration: Option<Duration>,
    pub(super) config: Option<ClusterConfig>,
    pub(super) link: Option<Link>,
    pub(super) fault_kinds: Option<Vec<FaultKind>>,
    pub(super) check_every: Option<u64>,
}

/// Kind of fault that is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A node stops without a leave; it starts again after a while, or when the faults end.
    Crash,
    /// A node stops and starts again at once: a newer instance of the same name.
    Restart,
    /// A node restarts with a clock that was set back.
    RestartInThePast,
    /// A node of another name starts at the address of one that stops.
    Rename,
    /// A process is stopped for a while.
    Stall,
    /// A node's datagrams are withheld in both directions for a while.
    Block,
    /// One direction of a node's datagrams is withheld for a while.
    HalfBlock,
    /// A process takes long for each datagram for a while.
    Slow,
    /// Many datagrams of a node, or to it, are lost for a while.
    Lossy,
    /// One direction between two nodes is cut for a while.
    OneWayCut,
    /// No datagram of one part of the network reaches the other part for a while.
    OneWayPartition,
    /// The network is divided into two parts for a while.
    Partition,
    /// A node leaves; another instance starts in its place later.
    Leave,
    /// A node changes its tags.
    TagChange,
    /// A node starts or ends draining.
    Drain,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Crash,
        Self::Restart,
        Self::RestartInThePast,
        Self::Rename,
        Self::Stall,
        Self::Block,
        Self::HalfBlock,
        Self::Slow,
        Self::Lossy,
        Self::OneWayCut,
        Self::OneWayPartition,
        Self::Partition,
        Self::Leave,
        Self::TagChange,
        Self::Drain,
    ];

    /// Whether every node still knows which members are on the other side of a divided network.
    pub(super) fn keeps_sides_distinct(self) -> bool {
        matches!(
            self,
            Self::Partition | Self::Crash | Self::Restart | Self::TagChange | Self::Drain
        )
    }

    /// Whether healthy nodes are never declared failed while others have this fault. After a clock
    /// was set back, old records of the former node at an address look newer than those of the node
    /// there now.
    fn is_harmless_to_others(self) -> bool {
        !matches!(
            self,
            Self::Lossy
                | Self::OneWayCut
                | Self::OneWayPartition
                | Self::Partition
                | Self::RestartInThePast
        )
    }
}

impl SimConfig {
    /// A run with every setting drawn from the seed.
    #[must_use]
    pub fn swarm() -> Self {
        Self::default()
    }

    /// Number of nodes at the start. Default 2 to 32.
    #[must_use]
    pub fn with_nodes(mut self, nodes: usize) -> Self {
        self.nodes = Some(nodes);
        self
    }

    /// Time for which faults are injected. Default 20 to 60 s.
    #[must_use]
    pub fn with_fault_duration(mut self, time: Duration) -> Self {
        self.fault_duration = Some(time);
        self
    }

    /// Configuration of the nodes. Default: a preset, sealed or not.
    #[must_use]
    pub fn with_config(mut self, config: ClusterConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// Links while faults are injected. Default: some delay, loss, duplication and reordering, or
    /// none.
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Self {
        self.link = Some(link);
        self
    }

    /// Kinds of faults that are injected. Default: about half of them.
    #[must_use]
    pub fn with_fault_kinds(mut self, kinds: impl IntoIterator<Item = FaultKind>) -> Self {
        self.fault_kinds = Some(kinds.into_iter().collect());
        self
    }

    /// Checks the whole view at every `steps`-th step only. Default: at each step.
    #[must_use]
    pub fn with_check_every(mut self, steps: u64) -> Self {
        self.check_every = Some(steps);
        self
    }

    /// Draws the settings that are open.
    pub(super) fn resolve(self, rng: &mut Rng) -> ResolvedSimConfig {
        let preset = match rng.u8(..4) {
            0 => ClusterConfig::local(),
            1 => ClusterConfig::wan(),
            _ => ClusterConfig::lan(),
        };
        let preset = match rng.bool() {
            true => preset.with_key(ClusterKey::from_bytes([7; 32])),
            false => preset,
        };
        let some = |rng: &mut Rng, most: f64| match rng.bool() {
            true => most * rng.f64() * rng.f64(),
            false => 0.0,
        };
        let link = Link {
            delay: Duration::from_micros(rng.u64(100..10_000)),
            jitter: Duration::from_micros(rng.u64(100..10_000)),
            loss: some(rng, 0.3),
            duplicate: some(rng, 0.3),
            reorder: some(rng, 0.3),
            reorder_delay_max: Duration::from_millis(rng.u64(10..400)),
            mtu: usize::MAX,
        };
        let kinds = FaultKind::ALL.into_iter().filter(|_| rng.bool()).collect();
        let nodes = match rng.u8(..4) {
            0 => rng.usize(2..=5),
            3 => rng.usize(17..=32),
            _ => rng.usize(6..=16),
        };
        let fault_duration = Duration::from_millis(rng.u64(20_000..60_000));
        let rotating = rng.bool();
        // Every second network has a tunnel's path MTU, which the nodes do not know.
        let tunnel = link.reorder_delay_max.as_millis().is_multiple_of(2);
        let (link, preset) = match tunnel {
            true => (
                link.with_mtu(MTU_SMALL),
                preset.with_datagram_bytes_max(1_400),
            ),
            false => (link, preset),
        };
        let link = self.link.unwrap_or(link);
        let kinds: Vec<FaultKind> = self.fault_kinds.unwrap_or(kinds);
        ResolvedSimConfig {
            nodes: self.nodes.unwrap_or(nodes),
            fault_duration: self.fault_duration.unwrap_or(fault_duration),
            config: self.config.unwrap_or(preset),
            no_false_failures: link.loss <= LOW_LOSS
                && kinds.iter().all(|kind| kind.is_harmless_to_others()),
            link,
            fault_kinds: kinds,
            check_every: self.check_every.unwrap_or(1),
            rotating_seeds: rotating,
        }
    }
}

/// A configuration with nothing open.
#[derive(Clone, Debug)]
pub(super) struct ResolvedSimConfig {
    pub(super) nodes: usize,
    pub(super) fault_duration: Duration,
    pub(super) config: ClusterConfig,
    pub(super) link: Link,
    pub(super) fault_kinds: Vec<FaultKind>,
    pub(super) check_every: u64,
    /// Whether the seed name resolves to all nodes, of which each lookup returns two others.
    pub(super) rotating_seeds: bool,
    /// Whether the protocol guarantees that no healthy member is declared failed.
    pub(super) no_false_failures: bool,
}

/// The least path MTU of IPv6 (RFC 8200 section 5), as on many tunnels.
const MTU_SMALL: usize = 1_280;

/// Loss up to which two suspectors with two witnessed misses each do not happen to a member that
/// answers: each miss is three lost pings and as many lost indirect probes.
const LOW_LOSS: f64 = 0.05;
