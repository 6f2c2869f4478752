//! Test node: one process of a test cluster, with its faults.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::{clock::NodeClock, cluster::ClusterShared, seed};
use crate::{
    ClusterClient, ClusterConfig, ClusterKey, Node, NodeBuilder, NodeError, NodeState,
    registry::NodeInfo,
};

/// Node of a [`TestCluster`](super::TestCluster): the process that may be killed, stopped and
/// restarted, while a [`Node`] is one life of it. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct TestNode(pub(super) Arc<NodeShared>);

/// How a node is built, at each start again.
pub(super) type Build = Arc<dyn Fn(NodeBuilder) -> NodeBuilder + Send + Sync>;

pub(super) struct NodeShared {
    name: String,
    addr: SocketAddr,
    cluster: Weak<ClusterShared>,
    clock: NodeClock,
    process: Mutex<Process>,
}

struct Process {
    build: Build,
    node: Option<Node>,
    is_stopped: bool,
    starts: u64,
    /// Name in the certificate of the last life: another one only if the builder says so.
    node_name: String,
}

impl TestNode {
    /// Name of the process, and of the node unless its builder has another
    /// [identity](NodeBuilder::tls).
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Address of the node, the same after restarts.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// The node as it runs now. After a restart it is another one.
    ///
    /// # Panics
    ///
    /// If it does not run.
    #[must_use]
    #[track_caller]
    pub fn node(&self) -> Node {
        let node = self.0.process.lock().node.clone();
        node.unwrap_or_else(|| panic!("{} does not run", self.name()))
    }

    /// Client of the node as it runs now.
    ///
    /// # Panics
    ///
    /// If the node does not run.
    #[must_use]
    #[track_caller]
    pub fn client(&self) -> Arc<ClusterClient> {
        Arc::clone(self.node().client())
    }

    /// Whether the node runs: it was started and not killed since. A stopped node runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.process.lock().node.is_some()
    }

    /// Number of nodes that this one sees alive, itself included; 0 if it does not run.
    #[must_use]
    pub fn alive(&self) -> usize {
        let node = self.0.process.lock().node.clone();
        node.map_or(0, |node| node.nodes().snapshot().alive().count())
    }

    /// State of another node as this one sees it; `None` if it does not know it, or does not run.
    #[must_use]
    pub fn sees(&self, other: &Self) -> Option<NodeState> {
        let node = self.0.process.lock().node.clone()?;
        let name = other.0.node_name();
        let state = node.nodes().snapshot().node(&name)?.state;
        Some(state)
    }

    /// Kills the node, as `kill -9` does its process: no other node is told, its calls and its
    /// memory are gone, its port is closed. Tasks that the test spawned itself go on.
    pub fn kill(&self) {
        self.0.log("killed");
        self.0.abort();
    }

    /// Stops the node, as `kill -STOP` and a hung host do: from now on no datagram of it is sent
    /// and none is delivered, also of those on the way to it. It keeps its state, and, unlike a
    /// stopped process, its timers go on: it finds the others gone, as in a partition of its own.
    pub fn stop(&self) {
        self.0.log("stopped");
        self.0.process.lock().is_stopped = true;
        self.0.cluster().network.isolate(self.addr());
    }

    /// Ends a [stop](Self::stop): datagrams flow again. What was lost stays lost.
    pub fn resume(&self) {
        self.0.log("resumed");
        self.0.set_resumed();
    }

    /// Restarts the node with a new memory: kills it if it runs, and starts it with the same name,
    /// address and builder. A process does not start within a millisecond of its last start, so
    /// this takes at least one.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn restart(&self) {
        self.0.log("restarts");
        self.0.abort();
        self.start_or_panic().await;
    }

    /// Like [`restart`](Self::restart), for a node that may fail to start.
    ///
    /// # Errors
    ///
    /// As of [`NodeBuilder::start`]; the node does not run then.
    pub async fn try_restart(&self) -> Result<(), NodeError> {
        self.0.log("restarts");
        self.0.abort();
        self.try_start().await
    }

    /// Upgrades the node, as a rolling upgrade does: [shuts it down](Node::shutdown) gracefully, at
    /// most for ten seconds, and starts it with another builder, which it keeps for later
    /// restarts. The name and the address stay.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn upgrade(
        &self,
        build: impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static,
    ) {
        self.0.log("upgrades");
        self.0.process.lock().build = Arc::new(build);
        let running = self.0.process.lock().node.take();
        if let Some(node) = running {
            node.shutdown(UPGRADE_SHUTDOWN).await;
        }
        self.start_or_panic().await;
    }

    /// Sets the wall clock of the node ahead by this much, from now on and for later starts.
    /// [`Duration::ZERO`] sets it right. The wall clock is what epochs and the validity of
    /// certificates go by; timers do not.
    ///
    /// # Panics
    ///
    /// If it is more than 200 million years.
    pub fn skew_ahead(&self, by: Duration) {
        self.0.log(&format!("clock is {by:?} ahead"));
        self.0.clock.set_ahead_ms(millis(by));
    }

    /// Sets the wall clock of the node behind by this much: see [`skew_ahead`](Self::skew_ahead).
    ///
    /// # Panics
    ///
    /// If it is more than 200 million years.
    pub fn skew_behind(&self, by: Duration) {
        self.0.log(&format!("clock is {by:?} behind"));
        self.0.clock.set_ahead_ms(-millis(by));
    }

    pub(super) async fn start_or_panic(&self) {
        if let Err(error) = self.try_start().await {
            panic!("{} does not start: {error}", self.name());
        }
    }

    /// Starts a life of the node.
    pub(super) async fn try_start(&self) -> Result<(), NodeError> {
        self.0.set_resumed();
        // So that its epoch, a time in milliseconds, is another one than that of its last life.
        sleep(Duration::from_millis(1)).await;
        let started = self.0.builder().start().await;
        let node = match started {
            Ok(node) => node,
            Err(error) => {
                self.0.log(&format!("did not start: {error}"));
                return Err(error);
            }
        };
        self.0.log("started");
        self.0.follow(&node);
        let mut process = self.0.process.lock();
        node.name().clone_into(&mut process.node_name);
        process.node = Some(node);
        Ok(())
    }
}

impl NodeShared {
    pub(super) fn new(
        name: &str,
        addr: SocketAddr,
        cluster: &Arc<ClusterShared>,
        build: Build,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            addr,
            cluster: Arc::downgrade(cluster),
            clock: NodeClock::new(cluster.clock),
            process: Mutex::new(Process {
                build,
                node: None,
                is_stopped: false,
                starts: 0,
                node_name: name.to_owned(),
            }),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn node_name(&self) -> String {
        self.process.lock().node_name.clone()
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn cluster(&self) -> Arc<ClusterShared> {
        let cluster = self.cluster.upgrade();
        cluster.expect("the test cluster was dropped, and its nodes with it")
    }

    fn log(&self, what: &str) {
        self.cluster().log.add(&format!("{} {what}", self.name));
    }

    /// Whether the node runs and is not stopped.
    pub(super) fn is_up(&self) -> bool {
        let process = self.process.lock();
        process.node.is_some() && !process.is_stopped
    }

    /// Ends the node at once, if it runs.
    pub(super) fn abort(&self) {
        let node = self.process.lock().node.take();
        if let Some(node) = node {
            node.abort();
        }
    }

    fn set_resumed(&self) {
        self.process.lock().is_stopped = false;
        self.cluster().network.reconnect(self.addr);
    }

    /// Builder of the next life of the node.
    fn builder(&self) -> NodeBuilder {
        let cluster = self.cluster();
        let (build, start) = {
            let mut process = self.process.lock();
            process.starts += 1;
            (Arc::clone(&process.build), process.starts)
        };
        let key = seed::derive(cluster.seed, &[0]).to_le_bytes();
        let key = std::array::from_fn(|index| key[index % key.len()]);
        let number = u64::from(match self.addr {
            SocketAddr::V4(addr) => addr.ip().to_bits(),
            SocketAddr::V6(_) => 0,
        });
        let tls = cluster.ca.issue(&self.name);
        let tls = tls.unwrap_or_else(|error| panic!("{:?} is no node name: {error}", self.name));
        let (gossip, certificates) = (self.clock.clone(), self.clock.clone());
        let builder = Node::builder()
            .tls(tls)
            .cluster_key(ClusterKey::from_bytes(key))
            .cluster_config(ClusterConfig::lan())
            .seeds(self.seeds(&cluster))
            .rng_seed(seed::derive(cluster.seed, &[number, start]))
            .wall_clocks(move || gossip.gossip(), move || certificates.certificates());
        // Last: the faults go by the address.
        build(builder)
            .memory_network(&cluster.network)
            .bind(self.addr)
    }

    /// Addresses of the first nodes of the cluster, other than this one.
    fn seeds(&self, cluster: &ClusterShared) -> Vec<String> {
        let nodes = cluster.nodes.lock();
        let others = nodes.iter().filter(|node| node.addr != self.addr);
        others
            .take(SEEDS_MAX)
            .map(|node| node.addr.to_string())
            .collect()
    }

    /// Logs what the node sees from now on.
    fn follow(&self, node: &Node) {
        let (name, cluster) = (self.name.clone(), Weak::clone(&self.cluster));
        let mut events = node.nodes().subscribe();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let Some(cluster) = cluster.upgrade() else {
                    return;
                };
                cluster.log.add_event(&name, &event);
            }
        });
    }

    /// Whether the node sees these nodes alive, and all others that it knows gone.
    pub(super) fn sees_exactly(&self, others: &[&Self]) -> bool {
        let Some(node) = self.process.lock().node.clone() else {
            return false;
        };
        let names: Vec<String> = others.iter().map(|other| other.node_name()).collect();
        let snapshot = node.nodes().snapshot();
        let is_one = |info: &NodeInfo| names.iter().any(|name| **name == *info.id.name);
        let gone_or_one = |info: &Arc<NodeInfo>| info.state.is_gone() || is_one(info);
        snapshot.alive().count() == others.len() && snapshot.iter().all(gone_or_one)
    }

    /// View of the node, for people.
    pub(super) fn view(&self) -> String {
        let (node, is_stopped) = {
            let process = self.process.lock();
            (process.node.clone(), process.is_stopped)
        };
        let Some(node) = node else {
            return "does not run".to_owned();
        };
        let snapshot = node.nodes().snapshot();
        let seen: Vec<String> = snapshot
            .iter()
            .map(|info| format!("{} {}", info.id, info.state))
            .collect();
        let prefix = if is_stopped {
            "stopped, sees "
        } else {
            "sees "
        };
        format!("{prefix}{}", seen.join(", "))
    }
}

fn millis(by: Duration) -> i64 {
    i64::try_from(by.as_millis()).expect("a skew below 200 million years")
}

impl fmt::Debug for TestNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NodeShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = self.process.lock();
        f.debug_struct("TestNode")
            .field("name", &self.name)
            .field("addr", &self.addr)
            .field("is_running", &process.node.is_some())
            .field("is_stopped", &process.is_stopped)
            .finish_non_exhaustive()
    }
}

/// Seeds of a node: as many as a cluster of production has.
const SEEDS_MAX: usize = 3;

/// Longest graceful end of a node that is upgraded.
const UPGRADE_SHUTDOWN: Duration = Duration::from_secs(10);
