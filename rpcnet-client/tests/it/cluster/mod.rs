//! Tests of whole nodes on the loopback interface: real QUIC, real gossip, one port each.

mod drain;
mod duplicate_names;
mod faults;
mod lifecycle;
mod process;
mod rolling_restart;
mod start;

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rpcnet_client::{
    CallContext, ClusterConfig, ClusterKey, DevCa, Node, NodeBuilder, NodeState, Router,
    swim::DatagramSocket,
};
use rpcnet_testing::{TEST_TIMEOUT, until, within};
use tokio::time::sleep;

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

async fn who(from: &Node) -> Result<String, rpcnet_client::ClusterError> {
    let reply = from
        .client()
        .call_worker("who", Bytes::new(), Some("role=worker"))
        .await?;
    Ok(String::from_utf8(reply.to_vec()).expect("text"))
}

/// Addresses that a node's gossip neither reaches nor hears.
#[derive(Clone, Default)]
struct Partition(Arc<Mutex<HashSet<SocketAddr>>>);

impl Partition {
    fn from(&self, others: &[Node]) {
        self.0.lock().extend(others.iter().map(Node::addr));
    }

    fn heal(&self) {
        self.0.lock().clear();
    }

    fn wrap(&self, builder: NodeBuilder) -> NodeBuilder {
        let partition = self.clone();
        builder.wrap_gossip(move |inner| Arc::new(PartitionedSocket { inner, partition }))
    }
}

struct PartitionedSocket {
    inner: Arc<dyn DatagramSocket>,
    partition: Partition,
}

impl DatagramSocket for PartitionedSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let (len, from) = ready!(self.inner.poll_recv(cx, buf))?;
            if !self.partition.0.lock().contains(&from) {
                return Poll::Ready(Ok((len, from)));
            }
        }
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        if self.partition.0.lock().contains(&to) {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_send(cx, datagram, to)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}
