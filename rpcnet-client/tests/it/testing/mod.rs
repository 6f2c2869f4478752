//! Tests of the test cluster: each fault does what it says, and a seed repeats a run.

mod network_faults;
mod node_faults;
mod repetition;
mod waiting;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use rpcnet_client::{
    ClusterError, NodeBuilder, Router, WorkerCallOptions,
    testing::{TestCluster, TestNode},
};
use serde::de::DeserializeOwned;

const SECOND: Duration = Duration::from_secs(1);

/// Serves `name`, the name of the node, and `count`, the number of calls in this life of it.
fn serving(builder: NodeBuilder) -> NodeBuilder {
    let name = builder.node_name().expect("an identity").to_owned();
    let count = Arc::new(AtomicU64::new(0));
    let answer = name.clone();
    let router = Router::new()
        .typed("name", move |(): ()| {
            let name = answer.clone();
            async move { name }
        })
        .typed("count", move |(): ()| {
            let count = count.fetch_add(1, SeqCst) + 1;
            async move { count }
        })
        .typed("sleep", |(): ()| tokio::time::sleep(3 * SECOND));
    builder.tag("node", name).serve(router)
}

/// Nodes that know each other.
async fn started(cluster: &TestCluster, count: usize) -> Vec<TestNode> {
    let nodes = cluster.start_nodes(count, serving).await;
    cluster.eventually(|| cluster.has_converged()).await;
    nodes
}

/// Calls a method without arguments of one node.
async fn call<T: DeserializeOwned>(
    from: &TestNode,
    to: &TestNode,
    method: &str,
) -> Result<T, ClusterError> {
    let options = WorkerCallOptions::new().with_timeout(5 * SECOND);
    let filter = format!("node={}", to.name());
    let client = from.client();
    let call = client.call_worker_typed_with(method, &(), Some(&filter), options);
    call.await
}
