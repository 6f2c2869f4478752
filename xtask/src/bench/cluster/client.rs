//! Calls through a `ClusterClient`, to workers that are named to it.

use std::{any::Any, net::SocketAddr, num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use rpcnet_client::{
    ClusterClient, ClusterClientConfig, ClusterError, Endpoint, LoadBalancingStrategy,
    TransportConfig, WorkerRegistry,
    registry::{NodeId, NodeInfo, StaticMembership},
};
use xtask_load::{CLIENT, Caller, Failure, SERVER, Setup, Subject};

use super::service;
use crate::bench::rpcnet_subject::{Rpcnet, open_endpoint};

/// The client's endpoint. The server is a fleet of workers, or else that of [`Rpcnet`].
#[derive(Debug)]
pub(crate) struct ClusterSubject {
    endpoint: Endpoint,
    is_fleet: bool,
}

#[derive(Clone)]
pub(crate) struct ClusterCaller(Arc<ClusterClient>);

impl Subject for ClusterSubject {
    type Caller = ClusterCaller;
    type Server = Box<dyn Any>;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, Self::Server), Failure> {
        match service::workers(&setup.subject) {
            Some(workers) => service::serve(setup, workers),
            None => Rpcnet::serve(setup).await,
        }
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self {
            endpoint: open_endpoint(setup, CLIENT, TransportConfig::lan())?,
            is_fleet: service::workers(&setup.subject).is_some(),
        })
    }

    async fn connect(&self, addr: SocketAddr) -> Result<ClusterCaller, Failure> {
        let workers = match self.is_fleet {
            true => service::find_all(&self.endpoint, addr).await?,
            false => vec![(SERVER.to_owned(), addr)],
        };
        let list = StaticMembership::new();
        for (name, addr) in workers {
            let node = NodeInfo::new(NodeId::new(name, 1), addr);
            list.insert(node.with_tag("role", "worker"));
        }
        let registry = WorkerRegistry::new(list, LoadBalancingStrategy::default());
        registry.start().await;
        // One, as a direct client has.
        let config = ClusterClientConfig::new(self.endpoint.clone())
            .with_connections_per_worker_max(NonZeroUsize::MIN);
        let client = ClusterClient::new(Arc::new(registry), config);
        // Each worker is connected to by its first call.
        let answers = client.call_all_workers("echo", Bytes::new(), Some(WORKERS));
        for (_, answer) in answers.await? {
            answer?;
        }
        Ok(ClusterCaller(Arc::new(client)))
    }
}

impl Caller for ClusterCaller {
    type Error = ClusterError;

    async fn call(&self, body: Bytes) -> Result<Bytes, ClusterError> {
        self.0.call_worker("echo", body, Some(WORKERS)).await
    }
}

const WORKERS: &str = "role=worker";

pub(crate) const CLUSTER: &str = "rpcnet-cluster";
