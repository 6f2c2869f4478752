//! Test cluster: its nodes, its virtual time and its log.

use std::{
    fmt::{self, Write},
    hint,
    net::{Ipv4Addr, SocketAddr},
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rpcnet_transport::{DevCa, MemoryNetwork, Tls};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    TestNode,
    clock::ClusterClock,
    event_log::EventLog,
    node::{Build, NodeShared},
    seed,
};
use crate::{NodeBuilder, NodeError};

/// Cluster of nodes in memory and in virtual time, which a test disturbs; see the
/// [module](super).
///
/// Its nodes run until it is dropped.
pub struct TestCluster {
    pub(super) shared: Arc<ClusterShared>,
}

/// State that a cluster shares with its nodes.
pub(super) struct ClusterShared {
    pub(super) seed: u64,
    pub(super) network: MemoryNetwork,
    pub(super) ca: DevCa,
    pub(super) clock: ClusterClock,
    pub(super) log: EventLog,
    /// In the order in which they were first started.
    pub(super) nodes: Mutex<Vec<Arc<NodeShared>>>,
    /// Whether a failure has printed the report.
    is_reported: AtomicBool,
}

impl TestCluster {
    /// Empty cluster whose random choices come from this seed, or from the one that the environment
    /// variable `RPCNET_TEST_SEED` names.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime whose time is paused, as by `#[tokio::test(start_paused =
    /// true)]`, or if the variable is no number.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::with_seed(seed::seed_or_override(seed))
    }

    pub(super) fn with_seed(seed: u64) -> Self {
        // Paused from the start: timers end at whole milliseconds since then.
        assert!(
            is_time_paused(),
            "the time of the runtime is not paused: use `#[tokio::test(start_paused = true)]`"
        );
        let clock = ClusterClock::start();
        let network = MemoryNetwork::seeded(seed);
        network.set_delay_range(DELAY_MIN..=DELAY_MAX);
        let log = EventLog::new(clock);
        log.add(&format!("cluster with seed {seed}"));
        let shared = ClusterShared {
            seed,
            network,
            ca: DevCa::new("test cluster"),
            clock,
            log,
            nodes: Mutex::default(),
            is_reported: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Seed of the cluster.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// Starts a node of this name, as [`NodeBuilder::start`] does, and waits until it has joined.
    ///
    /// The builder that `build` gets has an address, an identity, the cluster's key and up to three
    /// other nodes as seeds, and the defaults of a builder otherwise; it is called again at each
    /// restart.
    ///
    /// # Panics
    ///
    /// If the node does not start, or if there is a node of this name.
    #[track_caller]
    pub fn start(
        &self,
        name: &str,
        build: impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static,
    ) -> impl Future<Output = TestNode> {
        let node = self.add(name, Arc::new(build));
        async move {
            node.start_or_panic().await;
            node
        }
    }

    /// Like [`start`](Self::start), for nodes that may fail to start, as with
    /// [`require_join`](NodeBuilder::require_join). [`TestNode::restart`] tries again.
    ///
    /// # Errors
    ///
    /// As of [`NodeBuilder::start`], with the node.
    ///
    /// # Panics
    ///
    /// If there is a node of this name.
    pub async fn try_start(
        &self,
        name: &str,
        build: impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static,
    ) -> Result<TestNode, (TestNode, NodeError)> {
        let node = self.add(name, Arc::new(build));
        match node.try_start().await {
            Ok(()) => Ok(node),
            Err(error) => Err((node, error)),
        }
    }

    /// Starts this many nodes, one after the other: `node-0`, `node-1`, and so on.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_nodes(
        &self,
        count: usize,
        build: impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static,
    ) -> Vec<TestNode> {
        let build: Build = Arc::new(build);
        let mut nodes = Vec::with_capacity(count);
        for number in 0..count {
            let node = self.add(&format!("node-{number}"), Arc::clone(&build));
            node.start_or_panic().await;
            nodes.push(node);
        }
        nodes
    }

    #[track_caller]
    fn add(&self, name: &str, build: Build) -> TestNode {
        let mut nodes = self.shared.nodes.lock();
        let is_new = nodes.iter().all(|node| node.name() != name);
        assert!(is_new, "there is a node {name:?} already");
        let number = u32::try_from(nodes.len()).expect("few nodes") + 1;
        let ip = Ipv4Addr::from_bits(NETWORK.to_bits() + number);
        let addr = SocketAddr::new(ip.into(), PORT);
        let node = NodeShared::new(name, addr, &self.shared, build);
        nodes.push(Arc::clone(&node));
        TestNode(node)
    }

    /// Identity of a node of this name under the cluster's authority, as the nodes have them: for
    /// [`Endpoint::reload_tls`](crate::Endpoint::reload_tls), or for endpoints of the test's own on
    /// the [network](Self::network).
    ///
    /// # Panics
    ///
    /// If the name is not a DNS name.
    #[must_use]
    pub fn issue(&self, name: &str) -> Tls {
        let issued = self.shared.ca.issue(name);
        issued.unwrap_or_else(|error| panic!("no identity of {name:?}: {error}"))
    }

    /// Network of the nodes, for faults that the cluster has no method for.
    #[must_use]
    pub fn network(&self) -> &MemoryNetwork {
        &self.shared.network
    }

    /// Virtual time since the cluster was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    /// Whether the nodes that run, less those that are stopped, see each other alive, and no other
    /// node.
    #[must_use]
    pub fn has_converged(&self) -> bool {
        let nodes = self.shared.nodes.lock();
        let up: Vec<&NodeShared> = nodes
            .iter()
            .map(|node| &**node)
            .filter(|node| node.is_up())
            .collect();
        up.iter().all(|node| node.sees_exactly(&up))
    }

    /// Waits in virtual time until a condition holds, at most a minute.
    ///
    /// # Panics
    ///
    /// If the minute passes. The message has the caller's line, the event log, what each node sees,
    /// and the command that repeats the run.
    #[track_caller]
    pub fn eventually(&self, condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
        self.eventually_within(EVENTUALLY, condition)
    }

    /// Like [`eventually`](Self::eventually), with a deadline of the test's choice.
    ///
    /// # Panics
    ///
    /// If the deadline passes.
    #[track_caller]
    pub fn eventually_within(
        &self,
        within: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> impl Future<Output = ()> {
        let (caller, shared) = (Location::caller(), Arc::clone(&self.shared));
        async move {
            let deadline = Instant::now() + within;
            while !condition() {
                let is_late = Instant::now() >= deadline;
                assert!(
                    !is_late,
                    "{}",
                    shared.failure(caller, &format!("not within {within:?}"))
                );
                sleep(CHECK_INTERVAL).await;
            }
        }
    }

    /// Repeats an attempt, such as a call, until it succeeds, at most for a minute of virtual time.
    ///
    /// # Panics
    ///
    /// If the minute passes. The message has the last error too.
    #[track_caller]
    pub fn eventually_ok<T, E: fmt::Display>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, E>,
    ) -> impl Future<Output = T> {
        let (caller, shared) = (Location::caller(), Arc::clone(&self.shared));
        async move {
            let deadline = Instant::now() + EVENTUALLY;
            let mut last = "no attempt has ended".to_owned();
            loop {
                match timeout_at(deadline, attempt()).await {
                    Ok(Ok(value)) => return value,
                    Ok(Err(error)) => last = error.to_string(),
                    Err(_) => {}
                }
                if Instant::now() >= deadline {
                    let what = format!("no success within {EVENTUALLY:?}, last error: {last}");
                    panic!("{}", shared.failure(caller, &what));
                }
                sleep(CHECK_INTERVAL).await;
            }
        }
    }

    /// Checks that a condition holds now and for this long.
    ///
    /// # Panics
    ///
    /// When it does not hold, as [`eventually`](Self::eventually).
    #[track_caller]
    pub fn holds_for(
        &self,
        time: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> impl Future<Output = ()> {
        let (caller, shared) = (Location::caller(), Arc::clone(&self.shared));
        async move {
            let began = Instant::now();
            let end = began + time;
            loop {
                assert!(
                    condition(),
                    "{}",
                    shared.failure(caller, &format!("broken after {:?}", began.elapsed()))
                );
                if Instant::now() >= end {
                    return;
                }
                sleep(CHECK_INTERVAL).await;
            }
        }
    }

    /// The event log: what the test did and what each node saw, with its virtual time. The same
    /// seed gives the same log.
    #[must_use]
    pub fn log(&self) -> String {
        self.shared.log.text()
    }

    /// Adds a line of the test to the event log.
    pub fn note(&self, what: &str) {
        self.shared.log.add(what);
    }
}

impl ClusterShared {
    /// Report of a failing test: the log, what each node sees, and how to repeat the run.
    fn report(&self) -> String {
        self.is_reported.store(true, SeqCst);
        let mut text = format!("event log:\n{}", self.log.text());
        let _ = writeln!(
            text,
            "nodes after {:.3} s:",
            self.clock.elapsed().as_secs_f64()
        );
        for node in &*self.nodes.lock() {
            let _ = writeln!(text, "  {}: {}", node.name(), node.view());
        }
        let _ = write!(text, "to repeat: {}", seed::repeat_command(self.seed));
        text
    }

    fn failure(&self, caller: &Location<'_>, what: &str) -> String {
        format!("{what}, at {caller}\n{}", self.report())
    }
}

/// A test that fails elsewhere, in an assertion of its own, reports too.
impl Drop for TestCluster {
    fn drop(&mut self) {
        if thread::panicking() && !self.shared.is_reported.load(SeqCst) {
            eprintln!("{}", self.shared.report());
        }
        // Nodes that the test still has handles of do not outlive their cluster.
        let nodes = std::mem::take(&mut *self.shared.nodes.lock());
        nodes.iter().for_each(|node| node.abort());
    }
}

/// Whether the time of the runtime stands still while the thread does something.
fn is_time_paused() -> bool {
    let (before, began) = (Instant::now(), std::time::Instant::now());
    while began.elapsed() < Duration::from_micros(1) {
        hint::spin_loop();
    }
    Instant::now() == before
}

impl fmt::Debug for TestCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCluster")
            .field("seed", &self.shared.seed)
            .field("nodes", &self.shared.nodes.lock())
            .finish_non_exhaustive()
    }
}

/// Nodes are 10.0.0.1, 10.0.0.2, and so on, at one port.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);

const PORT: u16 = 7946;

/// One-way delay, drawn for each datagram: that of a data centre, in whole ticks of tokio's timers.
const DELAY_MIN: Duration = Duration::from_millis(1);
const DELAY_MAX: Duration = Duration::from_millis(3);

/// Longest wait of [`TestCluster::eventually`]: several times what it takes to find a failed node.
const EVENTUALLY: Duration = Duration::from_secs(60);

/// Interval at which conditions are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
