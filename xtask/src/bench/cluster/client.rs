//! Calls through a `ClusterClient`, to workers that are named to it.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use rpcnet_client::{
    ClusterClient, ClusterClientConfig, ClusterError, Endpoint, LoadBalancingStrategy,
    TransportConfig, WorkerRegistry,
    registry::{NodeId, NodeInfo, StaticMembership},
};
use xtask_load::{CLIENT, Caller, Failure, SERVER, Setup, Subject};

use crate::bench::rpcnet_subject::{Rpcnet, open_endpoint};

/// The client's endpoint; the server is that of [`Rpcnet`].
#[derive(Debug)]
pub(crate) struct ClusterSubject {
    endpoint: Endpoint,
}

/// A client of workers.
#[derive(Clone)]
pub(crate) struct ClusterCaller(Arc<ClusterClient>);

impl Subject for ClusterSubject {
    type Caller = ClusterCaller;
    type Server = <Rpcnet as Subject>::Server;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, Self::Server), Failure> {
        Rpcnet::serve(setup).await
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        let endpoint = open_endpoint(&setup.keys, setup.ip, CLIENT, TransportConfig::lan())?;
        Ok(Self { endpoint })
    }

    async fn connect(&self, addr: SocketAddr) -> Result<ClusterCaller, Failure> {
        ClusterCaller::connect(&self.endpoint, &[(SERVER.to_owned(), addr)]).await
    }
}

impl ClusterCaller {
    /// A client of these workers, after a call to each.
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        workers: &[(String, SocketAddr)],
    ) -> Result<Self, Failure> {
        let list = StaticMembership::new();
        for (name, addr) in workers {
            let node = NodeInfo::new(NodeId::new(name.as_str(), 1), *addr);
            list.insert(node.with_tag("role", "worker"));
        }
        let registry = WorkerRegistry::new(list, LoadBalancingStrategy::default());
        registry.start().await;
        // One, as a direct client has.
        let config = ClusterClientConfig::new(endpoint.clone())
            .with_connections_per_worker_max(NonZeroUsize::MIN);
        let client = ClusterClient::new(Arc::new(registry), config);
        let answers = client
            .call_all_workers("echo", Bytes::new(), Some(WORKERS))
            .await?;
        for (_, answer) in answers {
            answer?;
        }
        Ok(Self(Arc::new(client)))
    }
}

impl Caller for ClusterCaller {
    type Error = ClusterError;

    async fn call(&self, body: Bytes) -> Result<Bytes, ClusterError> {
        self.0.call_worker("echo", body, Some(WORKERS)).await
    }
}

/// Filter of the workers.
const WORKERS: &str = "role=worker";

/// The subject.
pub(crate) const CLUSTER: &str = "rpcnet-cluster";
