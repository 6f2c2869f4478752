//! Schema hashes in gossip: workers whose types do not fit are passed over before a call is spent
//! on them, and those of other versions that fit have their share of the calls.

mod false_tags;
mod preference;
mod replaced;
mod services;
mod tags;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::join_all;
use rpcnet_client::{
    LoadBalancingStrategy, NodeBuilder, Router,
    testing::{TestCluster, TestNode},
};

const SECOND: Duration = Duration::from_secs(1);

/// A node, and the number of calls that it has served.
struct Worker(TestNode, Arc<AtomicU64>);

/// The methods of a version, by the counter of their calls.
type VersionRouter = fn(&Arc<AtomicU64>) -> Router;

/// How a worker is built that serves a version.
fn serving(
    router: VersionRouter,
    served: &Arc<AtomicU64>,
) -> impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static {
    let served = Arc::clone(served);
    move |builder| builder.tag("role", "worker").serve(router(&served))
}

/// Starts workers of these names that serve a version.
async fn start<const N: usize>(
    cluster: &TestCluster,
    names: [&str; N],
    router: VersionRouter,
) -> Vec<Worker> {
    let mut workers = Vec::new();
    for name in names {
        let served = Arc::default();
        let node = cluster.start(name, serving(router, &served)).await;
        workers.push(Worker(node, served));
    }
    workers
}

/// A node that serves nothing, once all know each other.
async fn caller(cluster: &TestCluster) -> TestNode {
    let caller = cluster.start("caller", |builder| builder).await;
    cluster.eventually(|| cluster.has_converged()).await;
    caller
}

/// Calls that these workers have served.
fn served(workers: &[Worker]) -> u64 {
    workers.iter().map(|worker| worker.1.load(SeqCst)).sum()
}

/// Calls and checks that these workers have rejected because of their types.
fn rejections(workers: &[Worker]) -> u64 {
    let stats = |worker: &Worker| worker.0.node().endpoint().stats();
    let rejected = workers
        .iter()
        .map(|worker| stats(worker).calls_rejected_incompatible);
    rejected.sum()
}
