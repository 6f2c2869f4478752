//! Flow-control windows of many connections of one node, in memory and in virtual time.

use std::{
    future::pending,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rpcnet_transport::{
    CallOptions, Endpoint, MemoryNetwork, Raw, Receiver, Router, RpcClient, RpcServer,
    TransportConfig,
};
use tokio::{task::JoinSet, time::sleep};

use crate::bind_in_memory;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Budget of all connections of a node.
const BUDGET: usize = 8 * MIB;

/// Window that each connection has in any case.
const FLOOR: usize = 128 * KIB;

const STREAMS: u32 = 8;
const STREAM: usize = 512 * KIB;

/// Write buffers of the streams of a connection.
const BUFFERS: usize = (STREAMS as usize - 2) * 64 * KIB;

/// Time after which all streams are blocked by flow control.
const LONG: Duration = Duration::from_secs(10);

fn config() -> TransportConfig {
    let connection = NonZeroU32::new(STREAMS * STREAM as u32).unwrap();
    TransportConfig::lan()
        .with_streams_max(NonZeroU32::new(STREAMS).unwrap())
        .with_connection_window_bytes(connection)
        .with_send_window_bytes(connection)
        .with_message_bytes_max(MIB)
        .with_buffered_bytes_max(BUDGET)
}

fn bind(network: &MemoryNetwork, name: &str) -> Endpoint {
    bind_in_memory(network, name, config())
}

fn serve(network: &MemoryNetwork) -> RpcServer {
    let router = Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .client_streaming("sink", |_cx, items: Receiver<Raw>| async move {
            let _unread = items;
            pending::<Result<u64, rpcnet_transport::Status>>().await
        });
    bind(network, "server").serve(router)
}

/// A connection with uploads that are not read.
struct Unread {
    client: RpcClient,
    _sending: JoinSet<()>,
    /// Bytes that QUIC accepted, or that are in the write buffers of the streams.
    taken: Arc<AtomicUsize>,
}

impl Unread {
    async fn new(node: &Endpoint, server: &RpcServer) -> Self {
        let client = node.connect(server.local_addr(), "server").await;
        let client = client.expect("a connection");
        let taken = Arc::new(AtomicUsize::new(0));
        let mut sending = JoinSet::new();
        // Lanes need streams too.
        for _ in 0..STREAMS - 2 {
            let options = CallOptions::new().without_deadline();
            let upload = client.call_client_streaming_with::<Raw, u64>("sink", options);
            let mut upload = upload.await.expect("a stream");
            let taken = Arc::clone(&taken);
            sending.spawn(async move {
                while upload.send(Raw(vec![7; KIB].into())).await.is_ok() {
                    taken.fetch_add(KIB, SeqCst);
                }
            });
        }
        Self {
            client,
            _sending: sending,
            taken,
        }
    }

    fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn windows_of_one_node_fit_its_budget_and_grow_again() {
    let network = MemoryNetwork::new();
    network.set_delay(Duration::from_millis(1));
    let server = serve(&network);
    let node = bind(&network, "greedy");
    let mut connections = Vec::new();
    for _ in 0..40 {
        connections.push(Unread::new(&node, &server).await);
    }
    sleep(LONG).await;
    let taken: usize = connections.iter().map(Unread::taken).sum();
    assert!(
        taken <= BUDGET + 40 * (FLOOR + BUFFERS),
        "{} KiB",
        taken / KIB
    );
    assert!(taken >= BUDGET / 2, "{} KiB", taken / KIB);
    // The oldest connections have more than their share.
    let last = connections.pop().expect("one of them");
    assert!(
        last.taken() <= FLOOR + BUFFERS,
        "{} KiB",
        last.taken() / KIB
    );
    drop(connections);
    sleep(LONG).await;
    let whole = (STREAMS as usize - 2) * (STREAM - STREAM / 64);
    assert!(last.taken() >= whole, "{} KiB", last.taken() / KIB);
}

#[tokio::test(start_paused = true)]
async fn a_single_connection_has_windows_for_all_of_its_streams() {
    let network = MemoryNetwork::new();
    network.set_delay(Duration::from_millis(1));
    let server = serve(&network);
    let node = bind(&network, "node");
    let unread = Unread::new(&node, &server).await;
    sleep(LONG).await;
    let whole = (STREAMS as usize - 2) * (STREAM - STREAM / 64);
    assert!(unread.taken() >= whole, "{} KiB", unread.taken() / KIB);
    let reply = unread.client.call("echo", "small").await;
    assert_eq!(reply.expect("a reply"), "small");
}
