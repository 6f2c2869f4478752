//! Cluster configuration: every setting of a node, its unit, its default and its price.

#[cfg(feature = "unstable")]
mod settings;
#[cfg(test)]
mod tests;
mod validation;
#[cfg_attr(not(feature = "tokio"), allow(dead_code))]
mod wall_clock;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

pub(crate) use self::wall_clock::ConfiguredClock;
use crate::id::canonical_name;
use crate::key::KeyRing;
use crate::tags::Tags;
use crate::wire::Envelope;

/// Configuration of a node.
///
/// Start from a preset and change what must differ. All nodes of a cluster should have the same
/// cluster name, keys and intervals. Relations between settings are checked once, when a node is
/// made from it.
///
/// ```
/// use rpcnet_swim::{ClusterConfig, ClusterKey};
///
/// let config = ClusterConfig::lan()
///     .with_name("worker-1")
///     .with_cluster_name("video-farm")
///     .with_bind_addr("0.0.0.0:7946".parse()?)
///     .with_key(ClusterKey::from_bytes([7; 32]))
///     .with_seeds(["seed.internal:7946"]);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    pub(crate) name: Option<String>,
    pub(crate) cluster_name: String,
    pub(crate) bind_addr: SocketAddr,
    pub(crate) advertise_addr: Option<SocketAddr>,
    pub(crate) seeds: Vec<String>,
    pub(crate) tags: Tags,
    pub(crate) keys: Option<KeyRing>,
    pub(crate) insecure: bool,
    pub(crate) probe_interval: Duration,
    /// Half of the probe interval unless it was set.
    probe_timeout: Option<Duration>,
    pub(crate) indirect_probes: usize,
    pub(crate) ring_successors: usize,
    pub(crate) gossip_interval: Duration,
    pub(crate) gossip_fanout: usize,
    pub(crate) retransmit_mult: u32,
    pub(crate) phi_threshold: f64,
    /// A part of the probe interval unless it was set.
    refute_time: Option<Duration>,
    pub(crate) suspicion_max: Duration,
    pub(crate) redial_interval: Duration,
    pub(crate) forget_after: Duration,
    pub(crate) partition_grace: Duration,
    pub(crate) datagram_bytes_max: usize,
    pub(crate) members_max: usize,
    pub(crate) join_timeout: Duration,
    pub(crate) leave_timeout: Duration,
    pub(crate) event_capacity: usize,
    pub(crate) rng_seed: Option<u64>,
    pub(crate) wall_clock: Option<ConfiguredClock>,
}

impl ClusterConfig {
    /// Preset for processes of one machine, and for tests: a lost datagram is rare, an answer takes
    /// microseconds. Probes and gossips twice as often as [`ClusterConfig::lan`], and reports a
    /// partition after 2 s.
    #[must_use]
    pub fn local() -> Self {
        Self::lan()
            .with_probe_interval(Duration::from_millis(500))
            .with_gossip_interval(Duration::from_millis(100))
            .with_partition_grace(Duration::from_secs(2))
    }

    /// Preset for machines of one data centre: a round trip is below some 10 ms.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            name: None,
            cluster_name: "rpcnet".to_owned(),
            bind_addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            advertise_addr: None,
            seeds: Vec::new(),
            tags: Tags::new(),
            keys: None,
            insecure: false,
            probe_interval: Duration::from_secs(1),
            probe_timeout: None,
            indirect_probes: 3,
            ring_successors: 1,
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: 3,
            retransmit_mult: 4,
            phi_threshold: 8.0,
            refute_time: None,
            suspicion_max: Duration::from_secs(20),
            redial_interval: Duration::from_secs(5),
            forget_after: Duration::from_secs(24 * 3600),
            partition_grace: Duration::from_secs(5),
            datagram_bytes_max: DATAGRAM_BYTES_MIN,
            members_max: MEMBERS_MAX,
            join_timeout: Duration::from_secs(10),
            leave_timeout: Duration::from_secs(3),
            event_capacity: 1_024,
            rng_seed: None,
            wall_clock: None,
        }
    }

    /// Preset for machines of several regions: a round trip of 30 to 300 ms, some loss. Probes
    /// every 2 s, gossips every 500 ms, and reports a partition after 15 s.
    #[must_use]
    pub fn wan() -> Self {
        Self::lan()
            .with_probe_interval(Duration::from_secs(2))
            .with_gossip_interval(Duration::from_millis(500))
            .with_partition_grace(Duration::from_secs(15))
    }

    /// This node's name, unique in the cluster: 1 to [`MAX_NAME_BYTES`](crate::MAX_NAME_BYTES) of
    /// `A-Z a-z 0-9 . _ -`. Case and a dot at the end do not matter, as in DNS: `Worker-1` is the
    /// node `worker-1`. Beyond 63 bytes it takes room from the [tags](Self::with_tags). The driver
    /// makes one up if there is none. A restarted node should keep its name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(canonical_name(&name.into()));
        self
    }

    /// The cluster's name, of the same characters as a node's. Datagrams of other clusters are
    /// dropped. Default `rpcnet`.
    #[must_use]
    pub fn with_cluster_name(mut self, name: impl Into<String>) -> Self {
        self.cluster_name = name.into();
        self
    }

    /// Address to bind. Default `127.0.0.1:0`, a port of the system's choice.
    #[must_use]
    pub fn with_bind_addr(mut self, addr: SocketAddr) -> Self {
        self.bind_addr = addr;
        self
    }

    /// Advertised address, set by hand: what peers see does not change it. Port 0 stands for the
    /// port bound. Default: the address bound, or, bound to all interfaces, the one that faces the
    /// seeds; if no ping of a peer arrives there, the one that peers see.
    #[must_use]
    pub fn with_advertise_addr(mut self, addr: SocketAddr) -> Self {
        self.advertise_addr = Some(addr);
        self
    }

    /// Seeds to join through, as `address:port` or `name:port`; names are resolved anew at each
    /// attempt. One seed that answers is enough. All nodes may have the same list: a node's own
    /// address is not dialled, and a node that is one of its seeds begins a cluster of its own if
    /// none of the others lets it in within two probe intervals (at most half of the join timeout).
    /// It goes on dialling them, every ten probe intervals in the end, and merges with those that
    /// answer. White space around a seed is cut off, and an empty one is skipped, so the parts of a
    /// list split at commas will do; a text that can never be a seed is a
    /// [`ConfigError::InvalidSeed`](crate::ConfigError::InvalidSeed) at the start. Default: none,
    /// so that this node starts a cluster.
    #[must_use]
    pub fn with_seeds<S: Into<String>>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        self.seeds = seeds.into_iter().map(Into::into).collect();
        self
    }

    /// Tags that the node announces from the start. Default: none. At most
    /// [`MAX_TAGS_BYTES`](crate::MAX_TAGS_BYTES), and less beside a name of more than 63 bytes.
    #[must_use]
    pub fn with_tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// The key, or the ring of keys, that seals the cluster's gossip.
    #[must_use]
    pub fn with_key(mut self, keys: impl Into<KeyRing>) -> Self {
        self.keys = Some(keys.into());
        self
    }

    /// Gossips in clear, on any interface, and accepts unauthenticated datagrams. Without this, a
    /// node without a key refuses to bind anything but loopback.
    #[must_use]
    pub fn insecure_gossip(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Probe interval (the protocol period of SWIM section 3.1): length of a probe round, and time
    /// between two. Each interval starts one round to each ring successor, and every second
    /// interval one to the next member of a shuffled round robin. Default 1 s. A shorter one finds
    /// failures sooner and costs more datagrams. The defaults of [`probe
    /// timeout`](Self::with_probe_timeout) and [`refute time`](Self::with_refute_time) follow from
    /// it.
    #[must_use]
    pub fn with_probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = interval;
        self
    }

    /// Probe timeout: time until an unanswered ping is repeated, directly and by indirect probes.
    /// Default half of the probe interval; at most 0.7 of it, or the indirect probes have no time.
    #[must_use]
    pub fn with_probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = Some(timeout);
        self
    }

    /// Number of indirect probes: members that are asked to ping a member that did not answer (k in
    /// the SWIM paper). Default 3, at most 16. More of them mean fewer false suspicions under loss,
    /// and more datagrams.
    #[must_use]
    pub fn with_indirect_probes(mut self, helpers: usize) -> Self {
        self.indirect_probes = helpers;
        self
    }

    /// Number of ring successors probed in each interval. Default 1, at most 8: it brings the slow
    /// end of detection from 8 s to 4 s. With 0 there is the round robin alone, in each interval,
    /// as in plain SWIM, at two thirds of the datagrams.
    #[must_use]
    pub fn with_ring_successors(mut self, successors: usize) -> Self {
        self.ring_successors = successors;
        self
    }

    /// Gossip interval: time between two bursts of gossip while there are updates to spread;
    /// without updates there is none. Default 200 ms.
    #[must_use]
    pub fn with_gossip_interval(mut self, interval: Duration) -> Self {
        self.gossip_interval = interval;
        self
    }

    /// Gossip fanout: number of members that a burst goes to. Default 3, at most 16.
    #[must_use]
    pub fn with_gossip_fanout(mut self, fanout: usize) -> Self {
        self.gossip_fanout = fanout;
        self
    }

    /// Retransmit multiplier: each update is passed on this many times `ceil(log10(N + 1))`.
    /// Default 4.
    #[must_use]
    pub fn with_retransmit_mult(mut self, mult: u32) -> Self {
        self.retransmit_mult = mult;
        self
    }

    /// Phi threshold: the sum of the suspectors' phi at which a suspect is declared failed, the
    /// negative decimal logarithm of the chance that it is alive all the same. Default 8.0, one in
    /// a hundred million. One suspector counts for at most 4 while other members could confirm.
    #[must_use]
    pub fn with_phi_threshold(mut self, phi: f64) -> Self {
        self.phi_threshold = phi;
        self
    }

    /// Refute time: least time between suspicion and failure, times `max(1, log10 N)`, which is
    /// what a refutation needs to come through. Default 0.65 of the probe interval.
    #[must_use]
    pub fn with_refute_time(mut self, time: Duration) -> Self {
        self.refute_time = Some(time);
        self
    }

    /// Longest suspicion: after this time a suspector whose own missed probes add up to phi 4
    /// decides alone. Default 20 s.
    #[must_use]
    pub fn with_suspicion_max(mut self, time: Duration) -> Self {
        self.suspicion_max = time;
        self
    }

    /// Redial interval: time until a failed member is dialled again; doubles up to 12 times itself.
    /// Default 5 s.
    #[must_use]
    pub fn with_redial_interval(mut self, interval: Duration) -> Self {
        self.redial_interval = interval;
        self
    }

    /// Time for which a failed or left member is remembered. A failed one is redialled all that
    /// time, so a partition that heals within it merges without seeds. While a partition is
    /// suspected or reported its missing members are remembered for as long as it lasts
    /// ([`Engine::force_leave`](crate::Engine::force_leave) removes those that are gone for good).
    /// Default 24 h, at least 2 min.
    #[must_use]
    pub fn with_forget_after(mut self, time: Duration) -> Self {
        self.forget_after = time;
        self
    }

    /// Partition grace: time that a partition must last to be reported. Default 5 s. With a longer
    /// one, a rolling restart is not mistaken for a partition.
    #[must_use]
    pub fn with_partition_grace(mut self, grace: Duration) -> Self {
        self.partition_grace = grace;
        self
    }

    /// Largest datagram sent, in bytes; 1,232 to 65,000. A received one may have any size.
    ///
    /// Default 1,232, which every path carries that carries IPv6 (RFC 8200 section 5: an MTU of
    /// 1,280 bytes, less 48 of headers), tunnels too. With a larger one only pings and their acks
    /// take more, if there are so many updates, and not to a member whose path has lost such a ping
    /// or whose address the system has refused it for.
    #[must_use]
    pub fn with_datagram_bytes_max(mut self, bytes: usize) -> Self {
        self.datagram_bytes_max = bytes;
        self
    }

    /// Most other members that are tracked, failed and left ones among them. Default 65,536; 2 to
    /// 1,048,576, each some 270 bytes. Beyond that, the member that has been gone longest is
    /// forgotten, and a newcomer that proved to be there takes the place of a member that was never
    /// heard; see [`Event::TableFull`](crate::Event::TableFull).
    #[must_use]
    pub fn with_members_max(mut self, members: usize) -> Self {
        self.members_max = members;
        self
    }

    /// Join timeout: longest time that [`join`](crate::ClusterMembership::join) waits for a seed to
    /// answer; the node goes on trying after it. Default 10 s.
    #[cfg_attr(not(feature = "tokio"), allow(rustdoc::broken_intra_doc_links))]
    #[must_use]
    pub fn with_join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = timeout;
        self
    }

    /// Leave timeout: longest time that a leave waits for members to acknowledge it. Default 3 s.
    /// With 0 the members are told once, and the leave does not wait.
    #[must_use]
    pub fn with_leave_timeout(mut self, timeout: Duration) -> Self {
        self.leave_timeout = timeout;
        self
    }

    /// Event capacity: events kept for each subscriber; one that falls further behind is told how
    /// many it missed. Default 1,024.
    #[must_use]
    pub fn with_event_capacity(mut self, events: usize) -> Self {
        self.event_capacity = events;
        self
    }

    /// Seed of the random choices of the driver's engine, for a run that can be repeated: the order
    /// of probes, the targets of gossip, jitter. The engine's secrets follow from it as well.
    /// Default: random ones, which nodes of production keep, so that they do not choose alike and
    /// their secrets are none of others.
    #[must_use]
    pub fn with_rng_seed(mut self, seed: u64) -> Self {
        self.rng_seed = Some(seed);
        self
    }

    /// Wall clock of the node: the source of its epoch when it starts, and of the bound on the
    /// epochs of others. For tests with a clock of their own, which may be wrong. Default: that of
    /// the system.
    #[must_use]
    pub fn with_wall_clock(
        mut self,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        self.wall_clock = Some(ConfiguredClock::new(clock));
        self
    }

    /// This node's name, if one was set.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The address to bind.
    #[must_use]
    pub fn bind_addr(&self) -> SocketAddr {
        self.bind_addr
    }

    /// Tags that the node announces from the start.
    #[must_use]
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The gossip interval.
    #[must_use]
    pub fn gossip_interval(&self) -> Duration {
        self.gossip_interval
    }

    /// Largest datagram that is sent, in bytes.
    #[must_use]
    pub fn datagram_bytes_max(&self) -> usize {
        self.datagram_bytes_max
    }

    /// The probe timeout that was set, or the one that follows from the probe interval.
    pub(crate) fn effective_probe_timeout(&self) -> Duration {
        self.probe_timeout.unwrap_or(self.probe_interval / 2)
    }

    /// The refute time that was set, or the one that follows from the probe interval.
    pub(crate) fn effective_refute_time(&self) -> Duration {
        self.refute_time
            .unwrap_or_else(|| self.probe_interval.mul_f64(0.65))
    }

    /// A function that tells datagrams that may be gossip of this cluster from others, by what they
    /// say in clear: the version, the cluster and the id of the key. For sockets that choose what
    /// they queue, such as a port that is shared with another protocol. It authenticates nothing;
    /// the engine opens each datagram.
    pub fn recognizer(&self) -> impl Fn(&[u8]) -> bool + Send + Sync + use<> {
        let envelope = Envelope::new(&self.cluster_name, self.keys.as_ref(), 0);
        move |datagram| envelope.recognizes(datagram)
    }
}

/// Size of datagram, in bytes, that every path is assumed to carry: the least MTU of IPv6 (RFC 8200
/// section 5) without the headers of IPv6 and UDP. Every message fits it.
pub(crate) const DATAGRAM_BYTES_MIN: usize = 1_280 - 40 - 8;
/// Most members that are tracked by default.
pub(crate) const MEMBERS_MAX: usize = 65_536;

impl Default for ClusterConfig {
    /// [`ClusterConfig::lan`].
    fn default() -> Self {
        Self::lan()
    }
}
