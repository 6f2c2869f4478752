//! Workloads: fixed numbers of calls in one thread.

use std::{
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
};

use bytes::Bytes;
use futures::future::try_join_all;
use rpcnet_client::{
    ClusterClient, ClusterClientConfig, LoadBalancingStrategy, WorkerRegistry,
    registry::{NodeId, NodeInfo, StaticMembership},
};
use rpcnet_transport::{
    DevCa, Endpoint, MemoryNetwork, Method, Router, RpcClient, RpcServer, TransportConfig,
};
use xtask_pick::{Work, rpcnet_subject};

/// A workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Calls of its short run.
    pub(crate) calls: u64,
    kind: WorkloadKind,
}

#[derive(Debug, Clone, Copy)]
enum WorkloadKind {
    /// Bytes by a method's name, so many calls in flight.
    Raw(usize),
    /// A typed method, one call at a time.
    Typed,
    /// A choice among 30 workers by peak EWMA.
    Pick,
    /// Bytes through a cluster client, so many calls in flight.
    Cluster(usize),
}

/// All workloads.
pub(crate) const WORKLOADS: [Workload; 6] = [
    Workload::new("raw-call", 500, WorkloadKind::Raw(1)),
    Workload::new("raw-call-64", 6_400, WorkloadKind::Raw(64)),
    Workload::new("typed-call", 500, WorkloadKind::Typed),
    Workload::new("pick", 100_000, WorkloadKind::Pick),
    Workload::new("cluster-call", 500, WorkloadKind::Cluster(1)),
    Workload::new("cluster-call-64", 6_400, WorkloadKind::Cluster(64)),
];

impl Workload {
    const fn new(name: &'static str, calls: u64, kind: WorkloadKind) -> Self {
        Self { name, calls, kind }
    }
}

/// Makes the calls of a workload.
pub(crate) fn run(name: &str, calls: u64) -> Result<(), Box<dyn Error>> {
    let workload = WORKLOADS.iter().find(|it| it.name == name);
    let workload = workload.ok_or_else(|| format!("there is no workload {name:?}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(run_workload(workload.kind, calls))
}

async fn run_workload(kind: WorkloadKind, calls: u64) -> Result<(), Box<dyn Error>> {
    if matches!(kind, WorkloadKind::Pick) {
        return pick(calls);
    }
    let (_server, endpoint, server) = serve()?;
    match kind {
        WorkloadKind::Pick => {}
        WorkloadKind::Raw(in_flight) => {
            let client = endpoint.connect(server, SERVER).await?;
            let call = || async { Ok(client.call("echo", BODY).await?) };
            repeat(calls, in_flight, call).await?;
        }
        WorkloadKind::Typed => {
            let client = endpoint.connect(server, SERVER).await?;
            typed(&client, calls).await?;
        }
        WorkloadKind::Cluster(in_flight) => {
            let client = cluster(endpoint, server).await;
            let call = || async { Ok(client.call_worker("echo", BODY, FILTER).await?) };
            repeat(calls, in_flight, call).await?;
        }
    }
    Ok(())
}

/// A server of both methods, and an endpoint that reaches it.
fn serve() -> Result<(RpcServer, Endpoint, SocketAddr), Box<dyn Error>> {
    let network = MemoryNetwork::seeded(1);
    let ca = DevCa::new("bench");
    let open = |name: &str| {
        let any = (Ipv4Addr::UNSPECIFIED, 0).into();
        network
            .bind(any, TransportConfig::lan(), ca.issue(name)?)
            .map_err(Box::<dyn Error>::from)
    };
    let router = Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .method(SUCCESSOR, |n| async move { n + 1 });
    let server = open(SERVER)?.serve(router);
    let address = server.local_addr();
    Ok((server, open(CLIENT)?, address))
}

/// Makes calls, so many in flight: each caller makes one after the other.
async fn repeat<F: Future<Output = Result<Bytes, Box<dyn Error>>>>(
    calls: u64,
    in_flight: usize,
    call: impl Fn() -> F,
) -> Result<(), Box<dyn Error>> {
    let call = &call;
    let callers = (0..in_flight).map(|_| async move {
        for _ in 0..calls / in_flight as u64 {
            if call().await? != BODY {
                return Err("wrong reply".into());
            }
        }
        Ok(())
    });
    try_join_all(callers).await.map(drop)
}

async fn typed(client: &RpcClient, calls: u64) -> Result<(), Box<dyn Error>> {
    for n in 0..calls {
        if SUCCESSOR.call(client, &n).await? != n + 1 {
            return Err("wrong reply".into());
        }
    }
    Ok(())
}

async fn cluster(endpoint: Endpoint, server: SocketAddr) -> ClusterClient {
    let list = StaticMembership::new();
    let node = NodeInfo::new(NodeId::new(SERVER, 1), server);
    list.insert(node.with_tag("role", "worker"));
    let registry = WorkerRegistry::new(list, LoadBalancingStrategy::default());
    registry.start().await;
    let config = ClusterClientConfig::new(endpoint)
        .with_seed(1)
        .with_connections_per_worker_max(NonZeroUsize::MIN);
    ClusterClient::new(Arc::new(registry), config)
}

fn pick(calls: u64) -> Result<(), Box<dyn Error>> {
    let subject = rpcnet_subject::subject("peak-ewma", 30)?;
    Ok(subject.batch(Work::Pick, 0..calls, true)?)
}

/// The typed method.
const SUCCESSOR: Method<u64, u64> = Method::new("Numbers/successor");

const BODY: Bytes = Bytes::from_static(&[7; 32]);

const FILTER: Option<&str> = Some("role=worker");

const SERVER: &str = "server";
const CLIENT: &str = "client";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_makes_its_calls() {
        for workload in WORKLOADS {
            let done = run(workload.name, 64).map_err(|error| error.to_string());
            assert_eq!(done, Ok(()), "{}", workload.name);
        }
        assert!(run("none", 1).is_err());
    }
}
