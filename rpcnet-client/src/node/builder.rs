//! Node builder: settings and start of a node.

use std::{fmt, net::SocketAddr, sync::Arc, time::SystemTime};

use rpcnet_balance::{Balancer, health::HealthConfig};
use rpcnet_registry::{
    LoadBalancingStrategy, NodeId, NodeRegistry, SERVES_NOTHING, SERVES_TAG, WorkerRegistry,
};
use rpcnet_swim::{
    ClusterConfig, ClusterMembership, DatagramSocket, JoinError, JoinOutcome, KeyRing,
};
use rpcnet_transport::{BindError, Endpoint, MemoryNetwork, Router, Tls, TransportConfig};
use tokio::time::Instant;

use super::{Node, NodeError, NodeParts, gossip_socket::GossipSocket, schema_tags};
use crate::{ClusterClient, ClusterClientConfig};

/// Builder of a [`Node`], made by [`Node::builder`].
///
/// Only [`tls`](Self::tls) is needed. What is given here wins over the same setting in a config.
#[must_use = "a node is there when it was started"]
#[derive(Default)]
pub struct NodeBuilder {
    bind: Option<String>,
    tls: Option<Tls>,
    seeds: Option<Vec<String>>,
    tags: Vec<(String, String)>,
    router: Router,
    cluster: ClusterConfig,
    /// Changes of the cluster config, which win over it.
    cluster_changes: Vec<Change<ClusterConfig>>,
    transport: TransportConfig,
    strategy: Option<LoadBalancingStrategy>,
    balancer: Option<Arc<dyn Balancer>>,
    worker_changes: Vec<Change<WorkerRegistry>>,
    client_config: Option<Change<ClusterClientConfig>>,
    wrap_gossip: Option<Change<Arc<dyn DatagramSocket>>>,
    require_join: bool,
    start_unready: bool,
    network: Option<MemoryNetwork>,
    rng_seed: Option<u64>,
    /// Clock of the identity, in place of its own.
    certificate_clock: Option<Clock>,
}

impl NodeBuilder {
    /// The address and port to bind, for gossip and calls alike. Port 0 lets the system choose.
    /// Default: what the [cluster config](Self::cluster_config) says, `127.0.0.1:0`.
    pub fn bind(mut self, addr: impl ToString) -> Self {
        self.bind = Some(addr.to_string());
        self
    }

    /// Advertised address, set by hand: what peers see does not change it. Port 0
    /// stands for the port bound. Default: the address bound, or, bound to all interfaces, the one
    /// that faces the seeds; if no peer reaches the node there, the one that peers see. See also
    /// [`Node::set_advertise_addr`].
    pub fn advertise(self, addr: SocketAddr) -> Self {
        self.change_cluster(move |config| config.with_advertise_addr(addr))
    }

    /// The identity of the node. Its name in the cluster is the one in its certificate.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The name of the cluster. Default `rpcnet`.
    pub fn cluster_name(self, name: &str) -> Self {
        let name = name.to_owned();
        self.change_cluster(move |config| config.with_cluster_name(name))
    }

    /// The key, or ring of keys, that seals the cluster's gossip. Without one the node refuses to
    /// bind anything but loopback, unless [`insecure_gossip`](Self::insecure_gossip) is asked for.
    pub fn cluster_key(self, keys: impl Into<KeyRing>) -> Self {
        let keys = keys.into();
        self.change_cluster(move |config| config.with_key(keys))
    }

    /// Gossip in clear, on any interface, and believe every sender. Calls are under TLS all the
    /// same.
    pub fn insecure_gossip(self) -> Self {
        self.change_cluster(ClusterConfig::insecure_gossip)
    }

    /// Where to find the cluster, as `address:port` or `name:port`. Names are resolved anew at each
    /// attempt, and any one that answers is enough. All nodes may have the same list: see
    /// [`ClusterConfig::with_seeds`] for what a node does that is one of its seeds. Default: none,
    /// the node begins a cluster.
    pub fn seeds<S: Into<String>>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        self.seeds = Some(seeds.into_iter().map(Into::into).collect());
        self
    }

    /// Tag of the node, for others to select it by.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Serves these methods, in addition to those given before. Default: none. A node without
    /// methods is known to the cluster and no worker: it says so by the tag [`SERVES_TAG`], so that
    /// no call is sent to it. See also [`Node::serve`], for handlers that need the node.
    ///
    /// The node announces the schema hash of each service with typed methods by a tag
    /// ([`SCHEMA_TAG_PREFIX`](rpcnet_registry::SCHEMA_TAG_PREFIX)), so that callers prefer workers
    /// whose types fit. These tags take half of the room for tags at most, and none that other tags
    /// need; what does not fit is left out with a warning, and callers find out by a call.
    ///
    /// # Panics
    ///
    /// If a method of the same name was given before.
    pub fn serve(mut self, router: Router) -> Self {
        self.router = self.router.merge(router);
        self
    }

    /// Gossip settings to start from. Default [`ClusterConfig::lan`].
    pub fn cluster_config(mut self, config: ClusterConfig) -> Self {
        self.cluster = config;
        self
    }

    /// Settings of connections and calls. Default [`TransportConfig::lan`].
    pub fn transport_config(mut self, config: TransportConfig) -> Self {
        self.transport = config;
        self
    }

    /// Load-balancing strategy: how a worker is picked among those that match. Default
    /// [`LoadBalancingStrategy::PeakEwma`].
    pub fn strategy(mut self, strategy: LoadBalancingStrategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// Custom balancer, in place of a strategy.
    pub fn balancer(mut self, balancer: Arc<dyn Balancer>) -> Self {
        self.balancer = Some(balancer);
        self
    }

    /// Passive health: how the outcomes of calls decide which workers are passed over. Default
    /// [`HealthConfig::new`]; see [`rpcnet_balance::health`] and [`WorkerRegistry::with_health`].
    pub fn health(self, config: HealthConfig) -> Self {
        self.change_workers(move |workers| workers.with_health(config))
    }

    /// Ignores suspicion: calls go to nodes that the cluster suspects of having failed as to
    /// others; see [`WorkerRegistry::without_suspicion`].
    pub fn without_suspicion(self) -> Self {
        self.change_workers(WorkerRegistry::without_suspicion)
    }

    /// The node becomes known to the cluster and takes no calls until [`Node::set_ready`] says so:
    /// for one that has to load something first, or whose handlers are [added](Node::serve) when it
    /// is there. Without this it is ready as soon as it is known: it serves before it gossips.
    pub fn start_unready(mut self) -> Self {
        self.start_unready = true;
        self
    }

    /// Changes the settings of the node's [client](Node::client).
    ///
    /// ```
    /// # use rpcnet_client::Node;
    /// let builder = Node::builder().client_config(|config| config.with_idempotent(["compute"]));
    /// ```
    pub fn client_config(
        mut self,
        change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig + Send + 'static,
    ) -> Self {
        self.client_config = Some(Box::new(change));
        self
    }

    /// Whether the node's own client may select the node itself. Default `false`.
    pub fn select_local(self, select: bool) -> Self {
        self.change_workers(move |workers| workers.with_local(select))
    }

    /// Whether a node that no seed lets in within the join timeout fails to start. Default `false`:
    /// it comes up alone and goes on trying, so that the nodes of a cluster can start in any order.
    /// A node without seeds, or that is one of its own seeds and finds none of the others, is a
    /// cluster of its own in any case: [`JoinOutcome::Alone`]. With seeds that are all empty texts,
    /// as of a variable that is not set, it fails to start.
    ///
    /// It waits for the join timeout also if each seed has refused it, as with another cluster key:
    /// a refusal is a datagram in clear that proves nothing, and a seed may be on the way to the
    /// key of this node. The log says at once who has refused and why, and so does
    /// [`Event::SeedRefused`](rpcnet_swim::Event::SeedRefused). A supervisor that starts a node
    /// again sets a shorter [join timeout](ClusterConfig::with_join_timeout).
    pub fn require_join(mut self, require: bool) -> Self {
        self.require_join = require;
        self
    }

    /// Wraps the socket of gossip, to drop, delay or count datagrams in tests. Calls do not pass
    /// it.
    pub fn wrap_gossip(
        mut self,
        wrap: impl FnOnce(Arc<dyn DatagramSocket>) -> Arc<dyn DatagramSocket> + Send + 'static,
    ) -> Self {
        self.wrap_gossip = Some(Box::new(wrap));
        self
    }

    /// Opens the node on an in-memory network, for tests without sockets: the address of
    /// [`bind`](Self::bind) is one of that network. `TestCluster` (feature `testing`) does this for
    /// its nodes.
    pub fn memory_network(mut self, network: &MemoryNetwork) -> Self {
        self.network = Some(network.clone());
        self
    }

    /// Seed of the random choices of the node, for a run that can be repeated: gossip, balancing,
    /// backoff, health checks. A [custom balancer](Self::balancer) has its own. Default: a random
    /// one.
    pub fn rng_seed(mut self, seed: u64) -> Self {
        self.rng_seed = Some(seed);
        self
    }

    /// Name of the node, once it has an [identity](Self::tls).
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        self.tls.as_ref().map(Tls::node_name)
    }

    /// Wall clocks of the node: that of gossip, and that by which certificates are judged.
    #[cfg(feature = "testing")]
    pub(crate) fn wall_clocks(
        mut self,
        gossip: impl Fn() -> SystemTime + Send + Sync + 'static,
        certificates: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        self.certificate_clock = Some(Box::new(certificates));
        self.change_cluster(|config| config.with_wall_clock(gossip))
    }

    /// Opens the port, serves, starts gossip, and dials the seeds.
    ///
    /// It returns as soon as a seed has let the node in and the node's view of the cluster agrees
    /// with that of another member, so that the node knows all members. If that takes longer than
    /// the [join timeout](ClusterConfig::with_join_timeout), it returns then, with a node that goes
    /// on trying (but see [`require_join`](Self::require_join)): [`Node::joined`] says which.
    /// Without seeds it returns at once.
    ///
    /// # Errors
    ///
    /// [`NodeError`], also outside of a tokio runtime; nothing runs then, and the port is free
    /// again.
    pub async fn start(mut self) -> Result<Node, NodeError> {
        let mut tls = self.tls.take().ok_or(NodeError::NoIdentity)?;
        if let Some(clock) = self.certificate_clock.take() {
            tls = tls.with_wall_clock(clock);
        }
        let cluster = self.gossip_settings(&tls)?;
        let balancer = self.take_balancer()?;
        let transport = carrying_gossip(self.transport.clone(), &cluster);
        let endpoint = self.open(cluster.bind_addr(), transport, tls)?;
        // Before other nodes can hear of this one.
        endpoint.serve(self.router);
        let gossip_interval = cluster.gossip_interval();
        let socket = apply(self.wrap_gossip, gossip_socket(&endpoint, &cluster));
        let membership = ClusterMembership::with_socket(cluster, socket).await?;
        if self.start_unready {
            // Before it joins, so that no member ever knows it otherwise.
            endpoint.advertise_draining(true);
            membership.set_draining(true);
        }
        let nodes = Arc::new(NodeRegistry::new(membership.clone()));
        nodes.start().await;
        // On the clock of the runtime, which a test may have paused.
        let mut workers = WorkerRegistry::with_balancer(membership.clone(), balancer)
            .with_clock(|| Instant::now().into_std());
        if let Some(seed) = self.rng_seed {
            workers = workers.with_rng_seed(seed);
        }
        let workers = Arc::new(apply(self.worker_changes, workers));
        workers.start().await;
        let mut config = ClusterClientConfig::new(endpoint.clone());
        if let Some(seed) = self.rng_seed {
            config = config.with_seed(seed);
        }
        let config = apply(self.client_config, config);
        let client = Arc::new(ClusterClient::new(Arc::clone(&workers), config));
        let joined = join(&membership, self.require_join).await?;
        Ok(Node(Arc::new(NodeParts {
            id: NodeId::from(&membership.local_id()),
            endpoint,
            membership,
            nodes,
            workers,
            client,
            gossip_interval,
            joined,
        })))
    }

    fn open(
        &self,
        addr: SocketAddr,
        transport: TransportConfig,
        tls: Tls,
    ) -> Result<Endpoint, BindError> {
        match &self.network {
            Some(network) => network.bind(addr, transport, tls),
            None => Endpoint::bind(addr, transport, tls),
        }
    }

    fn take_balancer(&mut self) -> Result<Arc<dyn Balancer>, NodeError> {
        match (self.balancer.take(), self.strategy) {
            (Some(_), Some(_)) => Err(NodeError::StrategyAndBalancer),
            (Some(balancer), None) => Ok(balancer),
            (None, strategy) => {
                let strategy = strategy.unwrap_or_default();
                let seeded = self.rng_seed.map(|seed| strategy.seeded_balancer(seed));
                Ok(seeded.unwrap_or_else(|| strategy.balancer()))
            }
        }
    }

    fn change_cluster(
        mut self,
        change: impl FnOnce(ClusterConfig) -> ClusterConfig + Send + 'static,
    ) -> Self {
        self.cluster_changes.push(Box::new(change));
        self
    }

    fn change_workers(
        mut self,
        change: impl FnOnce(WorkerRegistry) -> WorkerRegistry + Send + 'static,
    ) -> Self {
        self.worker_changes.push(Box::new(change));
        self
    }

    /// The gossip settings with everything given here, checked.
    fn gossip_settings(&mut self, tls: &Tls) -> Result<ClusterConfig, NodeError> {
        let mut config = std::mem::take(&mut self.cluster);
        let name = tls.node_name();
        if let Some(configured) = config.name().filter(|configured| *configured != name) {
            return Err(NodeError::NameMismatch {
                configured: configured.to_owned(),
                certified: name.to_owned(),
            });
        }
        config = config.with_name(name);
        if let Some(seed) = self.rng_seed {
            config = config.with_rng_seed(seed);
        }
        if let Some(text) = self.bind.take() {
            let addr = text
                .parse()
                .map_err(|source| NodeError::BindAddress { text, source })?;
            config = config.with_bind_addr(addr);
        }
        config = apply(std::mem::take(&mut self.cluster_changes), config);
        if let Some(seeds) = self.seeds.take() {
            if !seeds.is_empty() && seeds.iter().all(|seed| seed.trim().is_empty()) {
                if self.require_join {
                    return Err(NodeError::EmptySeeds);
                }
                tracing::warn!("all seeds are empty, so the node begins a cluster of its own");
            }
            config = config.with_seeds(seeds);
        }
        if self.router.methods().next().is_none() {
            self.tags
                .insert(0, (SERVES_TAG.into(), SERVES_NOTHING.into()));
        }
        if !self.tags.is_empty() {
            let old = config.tags().iter().map(|(k, v)| (k.into(), v.into()));
            let tags = old.chain(self.tags.drain(..));
            let tags = rpcnet_swim::Tags::from_pairs::<String, String>(tags)?;
            config = config.with_tags(tags);
        }
        let services: Vec<_> = self.router.service_hashes().collect();
        if !services.is_empty() {
            let tags = schema_tags::with_hashes(config.tags(), name, &services);
            config = config.with_tags(tags);
        }
        config.validate()?;
        Ok(config)
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("bind", &self.bind)
            .field("tls", &self.tls)
            .field("seeds", &self.seeds)
            .field("tags", &self.tags)
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

/// Transport settings with room for the datagrams of gossip.
fn carrying_gossip(transport: TransportConfig, cluster: &ClusterConfig) -> TransportConfig {
    let bytes = cluster.datagram_bytes_max();
    if transport.side_datagram_bytes_max() < bytes {
        transport.with_side_datagram_bytes_max(bytes)
    } else {
        transport
    }
}

/// The socket of gossip on the port of the endpoint.
fn gossip_socket(endpoint: &Endpoint, cluster: &ClusterConfig) -> Arc<dyn DatagramSocket> {
    let side_channel = endpoint
        .side_channel()
        .expect("the endpoint has no other user yet")
        .with_recognizer(cluster.recognizer());
    Arc::new(GossipSocket(side_channel))
}

/// Dials the seeds. Without `require_join`, `None` if none lets the node in: it goes on trying.
async fn join(
    membership: &ClusterMembership,
    require_join: bool,
) -> Result<Option<JoinOutcome>, JoinError> {
    match membership.join(Vec::<String>::new()).await {
        Ok(outcome) => {
            if outcome == JoinOutcome::Partial {
                tracing::warn!(
                    "joined, but not all members may be known yet: the join timeout is over"
                );
            }
            Ok(Some(outcome))
        }
        Err(error @ JoinError::NoSeedAnswered { .. }) if !require_join => {
            tracing::warn!(%error, "the node has not joined yet, and goes on trying");
            Ok(None)
        }
        Err(JoinError::Refused { by, reason }) if !require_join => {
            tracing::warn!(%by, %reason, "a seed refused to let this node in; it goes on trying");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A change of a setting, applied once.
type Change<T> = Box<dyn FnOnce(T) -> T + Send>;

type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

fn apply<T>(changes: impl IntoIterator<Item = Change<T>>, value: T) -> T {
    changes
        .into_iter()
        .fold(value, |value, change| change(value))
}
