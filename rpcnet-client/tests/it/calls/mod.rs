//! Calls to workers of a static list, over real QUIC, in memory and in virtual time: selection,
//! attempts, errors.

mod address_changes;
mod blame;
mod budget;
mod connections;
mod health;
mod hedges;
mod idempotency_keys;
mod methods;
mod nested;
mod quorum;
mod rejected_methods;
mod reported_load;
mod retries;
mod routes;
mod runtimes;
mod scaling;
mod streams;
mod tower_services;

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use rpcnet_client::{
    CallContext, ClusterClient, ClusterClientConfig, ClusterError, Code, DevCa, Endpoint,
    LoadBalancingStrategy, Processed, Router, RpcServer, Status, Tls, TransportConfig,
    WorkerCallOptions, WorkerRegistry,
    balance::{BackoffRange, Balancer, health::HealthConfig},
    client::{AttemptReason, StopReason},
    registry::{Membership, NodeId, NodeInfo, SelectError, StaticMembership},
    transport::{BindError, MemoryNetwork},
};
use rpcnet_testing::{TEST_TIMEOUT, loopback, until, within};
use tokio::time::{Instant, sleep};

/// One authority for all tests: making keys takes time.
static CA: LazyLock<DevCa> = LazyLock::new(|| DevCa::new("calls"));

/// An endpoint on a network in memory, or else on the loopback interface.
fn bind_on(network: Option<&MemoryNetwork>, config: TransportConfig, tls: Tls) -> Endpoint {
    let any = ([0, 0, 0, 0], 0).into();
    let bound = match network {
        Some(network) => network.bind(any, config, tls),
        None => Endpoint::bind(loopback(), config, tls),
    };
    bound.expect("a free address")
}

/// A registry on the clock of the runtime, which the tests pause.
fn registry(membership: impl Membership + 'static, balancer: Arc<dyn Balancer>) -> WorkerRegistry {
    WorkerRegistry::with_balancer(membership, balancer).with_clock(|| Instant::now().into_std())
}

/// Workers take turns, so that the order tells who was tried.
fn round_robin() -> Arc<dyn Balancer> {
    LoadBalancingStrategy::RoundRobin.balancer()
}

/// Workers on a list that the test changes, and a client of them.
struct TestCluster {
    list: StaticMembership,
    client: Arc<ClusterClient>,
    /// The network of all endpoints, if that is not the loopback interface.
    network: Option<MemoryNetwork>,
}

impl TestCluster {
    async fn new() -> Self {
        Self::with(|config| config).await
    }

    async fn with(change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig) -> Self {
        Self::with_balancer(round_robin(), change).await
    }

    /// Workers that could not be reached are passed over for so long.
    async fn with_unreachable_backoff(
        backoff: Duration,
        change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig,
    ) -> Self {
        let health = HealthConfig::new().with_unreachable_backoff(BackoffRange::constant(backoff));
        Self::with_health(round_robin(), health, change).await
    }

    async fn with_balancer(
        balancer: Arc<dyn Balancer>,
        change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig,
    ) -> Self {
        Self::with_health(balancer, HealthConfig::new(), change).await
    }

    async fn with_health(
        balancer: Arc<dyn Balancer>,
        health: HealthConfig,
        change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig,
    ) -> Self {
        let network = Some(MemoryNetwork::new());
        Self::on(
            network,
            balancer,
            health,
            TransportConfig::default(),
            change,
        )
        .await
    }

    async fn on(
        network: Option<MemoryNetwork>,
        balancer: Arc<dyn Balancer>,
        health: HealthConfig,
        transport: TransportConfig,
        change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig,
    ) -> Self {
        let caller = CA.issue("caller").expect("a node name");
        let endpoint = bind_on(network.as_ref(), transport, caller);
        let list = StaticMembership::new();
        let registry = registry(list.clone(), balancer).with_health(health);
        registry.start().await;
        let config = ClusterClientConfig::new(endpoint).with_timeout(TEST_TIMEOUT);
        let client = ClusterClient::new(Arc::new(registry), change(config));
        Self {
            list,
            client: Arc::new(client),
            network,
        }
    }

    /// The network of a cluster in memory.
    fn network(&self) -> &MemoryNetwork {
        self.network.as_ref().expect("a network in memory")
    }

    /// An endpoint on the network of the cluster, for a node that is not on the list.
    fn bind(&self, name: &str) -> Endpoint {
        let tls = CA.issue(name).expect("a node name");
        bind_on(self.network.as_ref(), TransportConfig::default(), tls)
    }

    /// An endpoint at this address, if no other one has it.
    fn bind_at(&self, name: &str, addr: SocketAddr) -> Result<Endpoint, BindError> {
        let tls = CA.issue(name).expect("a node name");
        self.network().bind(addr, TransportConfig::default(), tls)
    }

    /// Puts a node on the list.
    fn list(&self, name: &str, epoch: u64, addr: SocketAddr) {
        let node = NodeInfo::new(NodeId::new(name, epoch), addr).with_tag("role", "worker");
        assert!(self.list.insert(node));
    }

    /// A worker that serves, and is on the list.
    fn worker(&self, name: &str, router: Router) -> RpcServer {
        self.worker_with(name, router, TransportConfig::default())
    }

    fn worker_with(&self, name: &str, router: Router, config: TransportConfig) -> RpcServer {
        let tls = CA.issue(name).expect("a node name");
        let server = bind_on(self.network.as_ref(), config, tls).serve(router);
        self.list(name, 1, server.local_addr());
        server
    }

    /// Workers on the list at addresses of the memory network that no endpoint has.
    fn unreachable(&self, names: &[&str]) {
        for (last, name) in (1..).zip(names) {
            self.list(name, 1, ([10, 9, 9, last], 1).into());
        }
    }

    async fn call(&self, method: &str) -> Result<String, ClusterError> {
        self.call_with(method, WorkerCallOptions::new()).await
    }

    async fn call_with(
        &self,
        method: &str,
        options: WorkerCallOptions,
    ) -> Result<String, ClusterError> {
        let call = self
            .client
            .call_worker_with(method, Bytes::new(), Some("role=worker"), options);
        let reply = within(call).await?;
        Ok(String::from_utf8(reply.to_vec()).expect("text"))
    }

    /// The error of a call that is expected to fail.
    async fn failing_call(&self, options: WorkerCallOptions) -> ClusterError {
        let reply = self.call_with("who", options).await;
        reply.expect_err("the call fails")
    }

    /// Calls of this client in flight at a worker.
    fn in_flight(&self, name: &str) -> u32 {
        let workers = self.client.registry().workers(None).expect("no filter");
        let worker = workers.iter().find(|one| &*one.label == name);
        worker.expect("it is on the list").in_flight
    }

    /// Whether an answer of this worker was noted.
    fn has_reported(&self, name: &str) -> bool {
        let workers = self.client.registry().workers(None).expect("no filter");
        let worker = workers.iter().find(|one| &*one.label == name);
        worker.expect("it is on the list").reported_load.is_some()
    }

    fn handshakes(&self) -> u64 {
        self.client.config().endpoint().stats().connections_opened
    }
}

/// Replies with the worker's name and the number of the attempt.
fn identify(name: &str) -> Router {
    let name = name.to_owned();
    Router::new().raw("who", move |cx: CallContext, _| {
        let reply = format!("{name} {}", cx.attempt());
        async move { Ok(Bytes::from(reply)) }
    })
}

/// Fails always with this status, and counts how often.
fn failing_router(status: Status) -> (Router, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let router = Router::new().raw("who", move |_, _| {
        counted.fetch_add(1, SeqCst);
        let status = status.clone();
        async move { Err(status) }
    });
    (router, runs)
}

/// Never replies, and counts how often it was called.
fn hanging_router() -> (Router, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let router = Router::new().raw("who", move |_, _| {
        counted.fetch_add(1, SeqCst);
        std::future::pending()
    });
    (router, runs)
}
