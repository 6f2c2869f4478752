//! Tests of whole nodes with real QUIC and gossip: in memory and in virtual time, and on the
//! loopback interface where sockets are the point.

mod callers_by_tags;
mod drain;
mod duplicate_names;
mod faults;
mod joining;
mod lifecycle;
mod process;
mod rolling_restart;
mod start;
mod test_socket;

use std::{
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use rpcnet_client::{
    CallContext, ClusterConfig, ClusterKey, DevCa, Node, NodeBuilder, NodeState, Router,
    testing::{TestCluster, TestNode},
};
use rpcnet_testing::{TEST_TIMEOUT, loopback, until, within};
use tokio::time::sleep;

use self::test_socket::UnreadSocket;

/// One authority for all tests: making keys takes time.
static CA: LazyLock<DevCa> = LazyLock::new(|| DevCa::new("cluster"));

fn key() -> ClusterKey {
    ClusterKey::from_bytes([42; 32])
}

fn builder(name: &str) -> NodeBuilder {
    Node::builder()
        .bind("127.0.0.1:0")
        .tls(CA.issue(name).expect("a node name"))
        .cluster_key(key())
        .cluster_config(ClusterConfig::local())
}

/// Methods of a worker: who it is, and with which attempt it was called.
fn methods(name: &str) -> Router {
    let name = name.to_owned();
    Router::new().raw("who", move |cx: CallContext, _| {
        let reply = format!("{name} {}", cx.attempt());
        async move { Ok(Bytes::from(reply)) }
    })
}

fn worker(name: &str) -> NodeBuilder {
    builder(name).tag("role", "worker").serve(methods(name))
}

/// A node with this name that knows these others.
async fn start(builder: NodeBuilder, others: &[Node]) -> Node {
    let seeds = others.first().map(|node| node.addr().to_string());
    let started = builder.seeds(seeds).require_join(true).start();
    within(started).await.expect("a node")
}

/// Workers `w0`, `w1`, ... that all know each other.
async fn cluster(count: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    for index in 0..count {
        nodes.push(start(worker(&format!("w{index}")), &nodes).await);
    }
    until("all know all", || {
        nodes.iter().all(|node| alive(node) == count)
    })
    .await;
    nodes
}

fn alive(node: &Node) -> usize {
    node.nodes().snapshot().alive().count()
}

fn state(of: &str, seen_by: &Node) -> Option<NodeState> {
    seen_by.nodes().snapshot().node(of).map(|node| node.state)
}

/// A worker of a cluster in memory.
fn in_memory_worker(builder: NodeBuilder) -> NodeBuilder {
    let methods = methods(builder.node_name().expect("an identity"));
    builder.tag("role", "worker").serve(methods)
}

/// Workers `w0`, `w1`, ... in memory that all know each other.
async fn workers(cluster: &TestCluster, count: usize) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for index in 0..count {
        nodes.push(cluster.start(&format!("w{index}"), in_memory_worker).await);
    }
    cluster.eventually(|| cluster.has_converged()).await;
    nodes
}

async fn who(from: &Node) -> Result<String, rpcnet_client::ClusterError> {
    let reply = from
        .client()
        .call_worker("who", Bytes::new(), Some("role=worker"))
        .await?;
    Ok(String::from_utf8(reply.to_vec()).expect("text"))
}
