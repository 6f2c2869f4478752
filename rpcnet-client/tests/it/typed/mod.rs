//! Typed calls through a cluster: workers of several versions, errors, options.

mod channel;
mod messages;
mod versions;

use std::sync::{Arc, LazyLock};

use rpcnet_client::{
    ClusterClient, ClusterClientConfig, DevCa, Endpoint, LoadBalancingStrategy, Router, RpcServer,
    TransportConfig, WorkerRegistry,
    balance::Balancer,
    registry::{NodeId, NodeInfo, StaticMembership, Tags, schema_tag_key, schema_tag_value},
    transport::MemoryNetwork,
};
use rpcnet_testing::TEST_TIMEOUT;

/// One authority for all tests: making keys takes time.
static CA: LazyLock<DevCa> = LazyLock::new(|| DevCa::new("typed"));

/// Workers on a list, in memory.
struct TestCluster {
    network: MemoryNetwork,
    list: StaticMembership,
}

impl TestCluster {
    fn new() -> Self {
        Self {
            network: MemoryNetwork::new(),
            list: StaticMembership::new(),
        }
    }

    fn bind(&self, name: &str) -> Endpoint {
        let tls = CA.issue(name).expect("a node name");
        let any = ([0, 0, 0, 0], 0).into();
        let bound = self.network.bind(any, TransportConfig::default(), tls);
        bound.expect("a free address")
    }

    /// A worker that serves, and is on the list.
    fn worker(&self, name: &str, router: Router) -> RpcServer {
        self.worker_with_tags(name, router, Tags::new())
    }

    /// A worker that also announces its types.
    fn announcing_worker(&self, name: &str, router: Router) -> RpcServer {
        let hashes = router.service_hashes();
        let tags = hashes.map(|(service, hash)| (schema_tag_key(service), schema_tag_value(hash)));
        let tags = tags.collect();
        self.worker_with_tags(name, router, tags)
    }

    fn worker_with_tags(&self, name: &str, router: Router, tags: Tags) -> RpcServer {
        let server = self.bind(name).serve(router);
        let node = NodeInfo::new(NodeId::new(name, 1), server.local_addr());
        assert!(
            self.list
                .insert(node.with_tags(tags).with_tag("role", "worker"))
        );
        server
    }

    /// Puts a node on the list that cannot be connected to.
    fn unreachable(&self, name: &str) {
        let node = NodeInfo::new(NodeId::new(name, 1), ([10, 9, 9, 1], 1).into());
        assert!(self.list.insert(node.with_tag("role", "worker")));
    }

    /// A caller of the workers, as if in a process of its own.
    async fn caller(&self, name: &str, balancer: Arc<dyn Balancer>) -> Arc<ClusterClient> {
        self.caller_with(name, balancer, |config| config).await
    }

    async fn caller_with(
        &self,
        name: &str,
        balancer: Arc<dyn Balancer>,
        change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig,
    ) -> Arc<ClusterClient> {
        let registry = WorkerRegistry::with_balancer(self.list.clone(), balancer);
        registry.start().await;
        let config = ClusterClientConfig::new(self.bind(name)).with_timeout(TEST_TIMEOUT);
        Arc::new(ClusterClient::new(Arc::new(registry), change(config)))
    }
}

fn round_robin() -> Arc<dyn Balancer> {
    LoadBalancingStrategy::RoundRobin.balancer()
}
