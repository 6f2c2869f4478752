//! Node: gossip, server and client on one UDP port.

mod builder;
mod error;
mod gossip_socket;
mod schema_tags;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

pub use builder::NodeBuilder;
pub use error::NodeError;
use rpcnet_registry::{
    Candidate, NodeId, NodeRegistry, SERVES_NOTHING, SERVES_TAG, WaitError, WorkerRegistry,
};
use rpcnet_swim::{ClusterMembership, ConfigError, Decision, JoinOutcome, SplitBrainPolicy};
use rpcnet_transport::{Endpoint, Router};
use tokio::time::{Instant, sleep, timeout_at};

use crate::ClusterClient;

/// Handle of a node: a member of a cluster that gossips, serves and calls on one UDP port. Cheap to
/// clone; all clones are the same node.
///
/// [`shutdown`](Self::shutdown) ends it gently, and its port is free when that returns. Dropping
/// the last clone, and what was cloned out of it, ends it at once: to the others it looks like a
/// crash, and its port is free only once its tasks have ended, a moment later. A handler that holds
/// the node, or a part of it, keeps it alive until a shutdown.
///
/// ```
/// use std::time::Duration;
/// use rpcnet_client::{DevCa, Method, Node, Router};
///
/// const DOUBLE: Method<u32, u32> = Method::new("double");
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ca = DevCa::new("example");
/// let worker = Node::builder()
///     .tls(ca.issue("worker-1")?)
///     .tag("role", "worker")
///     .serve(Router::new().method(DOUBLE, |n| async move { n * 2 }))
///     .start()
///     .await?;
/// let director = Node::builder()
///     .tls(ca.issue("director")?)
///     .seeds([worker.addr().to_string()])
///     .start()
///     .await?;
///
/// director.wait_for_workers(Some("role=worker"), 1, Duration::from_secs(10)).await?;
/// let workers = director.client().workers(Some("role=worker"));
/// assert_eq!(DOUBLE.call(&workers, &21).await?, 42);
/// worker.shutdown(Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Node(Arc<NodeParts>);

/// Parts of a node.
struct NodeParts {
    id: NodeId,
    endpoint: Endpoint,
    membership: ClusterMembership,
    nodes: Arc<NodeRegistry>,
    workers: Arc<WorkerRegistry>,
    client: Arc<ClusterClient>,
    gossip_interval: Duration,
    joined: Option<JoinOutcome>,
}

/// Report of a drain: calls served and rejected meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Calls that were answered meanwhile.
    pub completed: u64,
    /// New calls that were rejected. Their callers went to other workers, or know that they may.
    pub rejected: u64,
    /// Calls still being served when the time was over; 0 when the node has drained.
    pub remaining: usize,
}

/// Report of a shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeShutdownReport {
    /// Calls that were answered meanwhile.
    pub completed: u64,
    /// New calls that were rejected.
    pub rejected: u64,
    /// Calls that were cut because the deadline came.
    pub cancelled: u64,
    /// Number of members that acknowledged that the node left.
    pub acknowledged: usize,
    /// Whether the others know that it left: enough of them acknowledged it, or there were none. If
    /// not, they will find it failed.
    pub left: bool,
}

impl Node {
    /// A builder with default settings.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Name of the node, as its certificate has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.id.name
    }

    /// Id of the node: its name, and when it started.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.0.id
    }

    /// Advertised address, at which others reach the node.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.0.membership.local_addr()
    }

    /// Outcome of joining when [`start`](NodeBuilder::start) returned: whether the node knew all
    /// members, or is a cluster of its own. `None` if no seed had let it in; it goes on trying, and
    /// [`ClusterMembership::join`] waits for that, or returns why not.
    #[must_use]
    pub fn joined(&self) -> Option<JoinOutcome> {
        self.0.joined
    }

    /// Membership: members, tags, phi, partitions, counters.
    #[must_use]
    pub fn membership(&self) -> &ClusterMembership {
        &self.0.membership
    }

    /// Whether this node may serve while the cluster may be split, by what it sees now: see
    /// [`SplitBrainPolicy`]. Looks at every member, so ask when an event says that something
    /// changed, or a few times a second, rather than for every call.
    pub fn may_serve(&self, policy: &SplitBrainPolicy) -> Decision {
        self.membership().may_serve(policy)
    }

    /// Registry of all nodes of the cluster, this one included.
    #[must_use]
    pub fn nodes(&self) -> &Arc<NodeRegistry> {
        &self.0.nodes
    }

    /// Registry of the nodes that calls can go to: those that serve methods.
    #[must_use]
    pub fn workers(&self) -> &Arc<WorkerRegistry> {
        &self.0.workers
    }

    /// Waits up to `within` until the node knows at least `count` workers that match `filter` and
    /// can be selected, and returns all of them. No connection is tried, so a call to one of them
    /// may still fail: see [`WorkerRegistry::wait_for`].
    ///
    /// # Errors
    ///
    /// As of [`WorkerRegistry::wait_for`].
    pub async fn wait_for_workers(
        &self,
        filter: Option<&str>,
        count: usize,
        within: Duration,
    ) -> Result<Vec<Candidate>, WaitError> {
        // Without its runtime the node hears of no other worker, so the wait ends at once.
        let deadline = self
            .endpoint()
            .in_runtime(async move { sleep(within).await });
        self.workers().wait_for(filter, count, deadline).await
    }

    /// Client that calls workers.
    #[must_use]
    pub fn client(&self) -> &Arc<ClusterClient> {
        &self.0.client
    }

    /// Endpoint of the node: its port.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Serves these methods too: for handlers that need the node. One that served none becomes a
    /// worker: the tag [`SERVES_TAG`] is removed, unless it has another value than the builder
    /// sets. The tags with the schema hashes of its services change with them. Methods that are
    /// added to the [endpoint](Self::endpoint) directly leave the tags as they are.
    ///
    /// # Panics
    ///
    /// If it serves a method of the same name already.
    pub fn serve(&self, router: Router) {
        let is_empty = router.methods().next().is_none();
        self.endpoint().serve(router);
        // It serves the methods before it says so.
        let membership = self.membership();
        schema_tags::update(membership, &self.endpoint().service_hashes());
        if !is_empty && membership.local_member().tags.get(SERVES_TAG) == Some(SERVES_NOTHING) {
            membership.remove_tag(SERVES_TAG);
        }
    }

    /// Takes no new calls and waits for those being served, up to `within`.
    ///
    /// First it announces the drain by gossip and on every connection, and for a moment (three
    /// rounds of gossip, at most a quarter of the time) goes on taking calls from callers that have
    /// not heard. Then it rejects them; a [`ClusterClient`] goes to another worker. Calls that
    /// still run when the time is over run on. [`resume`](Self::resume) takes it back.
    pub async fn drain(&self, within: Duration) -> DrainReport {
        let drained = self
            .endpoint()
            .in_runtime(self.drain_on_runtime(within))
            .await;
        // Nothing is left of a node whose runtime has ended.
        drained.unwrap_or(DrainReport {
            completed: 0,
            rejected: 0,
            remaining: 0,
        })
    }

    async fn drain_on_runtime(&self, within: Duration) -> DrainReport {
        let within = within.min(DRAIN_TIMEOUT_MAX);
        let deadline = Instant::now() + within;
        let NodeParts {
            endpoint,
            membership,
            gossip_interval,
            ..
        } = &*self.0;
        let before = endpoint.stats();
        let is_known = endpoint.is_draining();
        self.set_ready(false);
        // Without other members there is nothing to wait for.
        if membership.members().len() > 1 && !is_known {
            sleep((*gossip_interval * DRAIN_GRACE_ROUNDS).min(within / 4)).await;
        }
        endpoint.set_draining(true);
        let idle = timeout_at(deadline, endpoint.idle()).await;
        let after = endpoint.stats();
        DrainReport {
            completed: after.calls_completed - before.calls_completed,
            rejected: after.calls_rejected_draining - before.calls_rejected_draining,
            remaining: if idle.is_ok() {
                0
            } else {
                endpoint.in_flight()
            },
        }
    }

    /// Takes calls again after a [`drain`](Self::drain).
    pub fn resume(&self) {
        self.set_ready(true);
    }

    /// Says whether calls shall come here, to the cluster and to those connected. A node is ready
    /// from the beginning, unless it was [started unready](NodeBuilder::start_unready). One that is
    /// not rejects no call, unless it [drains](Self::drain), and is passed over.
    pub fn set_ready(&self, ready: bool) {
        if ready {
            self.endpoint().set_draining(false);
        } else {
            self.endpoint().advertise_draining(true);
        }
        self.membership().set_draining(!ready);
    }

    /// Whether calls shall come here and can: the node does not drain, takes part in its cluster or
    /// is about to, and the address that it advertises leads here as far as is known.
    ///
    /// A node that no seed has let in yet counts as about to take part, so that the first nodes of
    /// a cluster can be found while they look for each other; [`ClusterMembership::state`] is
    /// `Joining` then. A node that has left, or whose name a newer node has, takes no part; the
    /// state says which. With an [address problem](rpcnet_swim::AddressStatus::is_problem), which
    /// an event, a log line and [`ClusterMembership::address_status`] tell, others pass the node
    /// over, and it rejects no call.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let membership = self.membership();
        !self.endpoint().is_draining()
            && membership.state().is_participating()
            && !membership.address_status().is_problem()
    }

    /// Advertises another address from now on, set by hand: what peers see no longer changes it.
    /// Port 0 stands for the port advertised so far.
    ///
    /// # Errors
    ///
    /// If no node could send to it; nothing changed.
    pub fn set_advertise_addr(&self, addr: SocketAddr) -> Result<(), ConfigError> {
        self.membership().set_advertise_addr(addr)
    }

    /// Ends the node at once and tells no peer, as a crash of its process would: its port closes,
    /// its handlers are dropped, its calls fail, and the others find it failed. Whatever handles
    /// are left, it does nothing more. For tests of failures; [`shutdown`](Self::shutdown) is the
    /// end of a node of production.
    pub fn abort(&self) {
        self.endpoint().abort();
        self.membership().abort();
    }

    /// Drains, leaves the cluster, and closes the port; returns by about `within`, whatever
    /// happens.
    ///
    /// Half of the time is for draining, a quarter for leaving; what is not needed goes to closing,
    /// which cuts the calls that still run shortly before the end and tells their callers.
    pub async fn shutdown(&self, within: Duration) -> NodeShutdownReport {
        let within = within.min(DRAIN_TIMEOUT_MAX);
        let deadline = Instant::now() + within;
        let before = self.endpoint().stats();
        self.drain(within / 2).await;
        let others = self.membership().members().len() > 1;
        let leave_within = deadline
            .saturating_duration_since(Instant::now())
            .min(within / 4);
        // It ends in time by itself, with the acknowledgements that have come.
        let leave =
            async { timeout_at(deadline, self.membership().leave_within(leave_within)).await };
        let leave = self.endpoint().in_runtime(leave).await;
        let (acknowledged, left) = match leave {
            Ok(Ok(Ok(acknowledged))) => (acknowledged, true),
            Ok(Ok(Err(_))) | Err(_) => (0, false),
            Ok(Err(_)) => (0, !others),
        };
        let left_over = deadline.saturating_duration_since(Instant::now());
        let closed = self.endpoint().shutdown(left_over).await;
        let after = self.endpoint().stats();
        NodeShutdownReport {
            completed: after.calls_completed - before.calls_completed,
            rejected: after.calls_rejected_draining - before.calls_rejected_draining,
            cancelled: closed.cancelled,
            acknowledged,
            left,
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.0.id)
            .field("addr", &self.addr())
            .finish_non_exhaustive()
    }
}

/// Rounds of gossip for which a node that drains still takes calls: some members hear in the second
/// or third.
const DRAIN_GRACE_ROUNDS: u32 = 3;

/// The longest drain: as good as none, and short enough to be added to a time.
const DRAIN_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
