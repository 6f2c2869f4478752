//! What kinds of trouble a run has.

use std::time::Duration;

use fastrand::Rng;

use crate::config::ClusterConfig;
use crate::key::ClusterKey;
use crate::sim::Link;

/// How a run goes. What is left open is drawn from the seed: each kind of trouble is there or
/// not, so that runs differ more than if each had a little of everything.
#[derive(Clone, Debug, Default)]
pub struct SimConfig {
    pub(super) nodes: Option<usize>,
    pub(super) fault_duration: Option<Duration>,
    pub(super) config: Option<ClusterConfig>,
    pub(super) link: Option<Link>,
    pub(super) fault_kinds: Option<Vec<FaultKind>>,
    pub(super) check_every: Option<u64>,
}

/// One kind of trouble that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A node stops without a word; it starts again after a while, or when the calm comes.
    Crash,
    /// A node stops and starts again at once: a newer life of the same name.
    Restart,
    /// The same with a clock that was set back.
    RestartInThePast,
    /// A node of another name starts at the address of one that stops.
    Rename,
    /// A process is stopped for a while.
    Stall,
    /// A node's messages are withheld for a while.
    Block,
    /// One direction of a node's messages is withheld for a while.
    HalfBlock,
    /// A process takes its time for each message for a while.
    Slow,
    /// Much of what a node sends, or of what is sent to it, is lost for a while.
    Lossy,
    /// One direction between two nodes is cut for a while.
    OneWayCut,
    /// Nothing of one part of the network reaches the other part for a while.
    OneWayPartition,
    /// The network falls into two parts for a while.
    Partition,
    /// A node leaves; another one starts in its place later.
    Leave,
    /// A node changes its tags.
    TagChange,
    /// A node starts or stops to drain.
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

    /// Whether it makes nobody unaware of who is on the other side of a divided network.
    pub(super) fn keeps_sides_distinct(self) -> bool {
        matches!(
            self,
            Self::Partition | Self::Crash | Self::Restart | Self::TagChange | Self::Drain
        )
    }

    /// Whether nodes that are well can tell so while others have this trouble. After a clock was
    /// set back, old news of who lived at an address before look newer than who lives there now.
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
    /// Everything open.
    pub fn swarm() -> Self {
        Self::default()
    }

    /// With this many nodes at the start. Default 2 to 32.
    pub fn with_nodes(mut self, nodes: usize) -> Self {
        self.nodes = Some(nodes);
        self
    }

    /// With trouble for this long. Default 20 to 60 s.
    pub fn with_fault_duration(mut self, time: Duration) -> Self {
        self.fault_duration = Some(time);
        self
    }

    /// With nodes of this configuration. Default: a preset, sealed or not.
    pub fn with_config(mut self, config: ClusterConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// With links like this during the trouble. Default: some delay, loss, duplication and
    /// reordering, or none.
    pub fn with_link(mut self, link: Link) -> Self {
        self.link = Some(link);
        self
    }

    /// With these kinds of trouble. Default: about half of them.
    pub fn with_fault_kinds(mut self, kinds: impl IntoIterator<Item = FaultKind>) -> Self {
        self.fault_kinds = Some(kinds.into_iter().collect());
        self
    }

    /// Looks at every `steps`-th view only. Default: all.
    pub fn with_check_every(mut self, steps: u64) -> Self {
        self.check_every = Some(steps);
        self
    }

    /// Fixes what is open.
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
        let trouble = Duration::from_millis(rng.u64(20_000..60_000));
        let rotating = rng.bool();
        // Every second network has a tunnel's path MTU, of which the nodes know nothing.
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
            fault_duration: self.fault_duration.unwrap_or(trouble),
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

/// A plan with nothing open.
#[derive(Clone, Debug)]
pub(super) struct ResolvedSimConfig {
    pub(super) nodes: usize,
    pub(super) fault_duration: Duration,
    pub(super) config: ClusterConfig,
    pub(super) link: Link,
    pub(super) fault_kinds: Vec<FaultKind>,
    pub(super) check_every: u64,
    /// The name of the seeds stands for all nodes, and each look-up brings two others of them.
    pub(super) rotating_seeds: bool,
    /// The protocol promises that nobody who is well is held failed.
    pub(super) no_false_failures: bool,
}

/// The least path MTU of IPv6 (RFC 8200 section 5), as on many tunnels.
const MTU_SMALL: usize = 1_280;

/// Up to this loss, two suspectors with two witnessed misses each do not happen to a member that
/// answers: each miss is three lost pings and as many lost detours.
const LOW_LOSS: f64 = 0.05;
