//! Tests of paths that lose packets above a size without telling the sender (black holes).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::future::join_all;
use tokio::{net::UdpSocket, task::JoinHandle};

use super::*;
use crate::RpcServer;

/// Path between one caller and one server that loses larger packets than it carries.
struct NarrowPath {
    addr: SocketAddr,
    carried_bytes_max: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl NarrowPath {
    async fn to(server: SocketAddr, carried_bytes_max: usize) -> Self {
        let bind = || UdpSocket::bind(loopback());
        let (outside, inside) = (bind().await.unwrap(), bind().await.unwrap());
        inside.connect(server).await.unwrap();
        let addr = outside.local_addr().unwrap();
        let carried_bytes_max = Arc::new(AtomicUsize::new(carried_bytes_max));
        let task = tokio::spawn(pass(outside, inside, Arc::clone(&carried_bytes_max)));
        Self {
            addr,
            carried_bytes_max,
            task,
        }
    }
}

impl Drop for NarrowPath {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(outside: UdpSocket, inside: UdpSocket, carried_bytes_max: Arc<AtomicUsize>) {
    let (mut from_caller, mut from_server) = (vec![0; 65_536], vec![0; 65_536]);
    let mut caller = None;
    loop {
        tokio::select! {
            received = outside.recv_from(&mut from_caller) => {
                let (len, from) = received.unwrap();
                caller = Some(from);
                if len <= carried_bytes_max.load(Relaxed) {
                    inside.send(&from_caller[..len]).await.unwrap();
                }
            }
            received = inside.recv(&mut from_server) => {
                let len = received.unwrap();
                if let Some(caller) = caller && len <= carried_bytes_max.load(Relaxed) {
                    outside.send_to(&from_server[..len], caller).await.unwrap();
                }
            }
        }
    }
}

/// A connection over a narrow path, with the default config.
struct NarrowCaller {
    path: NarrowPath,
    client: RpcClient,
    connection: quinn::Connection,
    _ends: (Endpoint, RpcServer),
}

impl NarrowCaller {
    async fn new(carried_bytes_max: usize) -> Self {
        let ca = DevCa::new("narrow path");
        let open = |name| {
            let tls = ca.issue(name).expect("a node name");
            Endpoint::bind(loopback(), TransportConfig::default(), tls).expect("a free port")
        };
        let echo = Router::new().raw("echo", |_cx, body| async move { Ok(body) });
        let (node, server) = (open("client"), open("server").serve(echo));
        let path = NarrowPath::to(server.local_addr(), carried_bytes_max).await;
        let dialer = &node.0.shared.dialer;
        let opened = dialer.connect(path.addr, "server").await.unwrap();
        let connection = opened.connection.clone();
        Self {
            path,
            client: RpcClient::new(opened, dialer, None),
            connection,
            _ends: (node, server),
        }
    }

    /// Makes eight calls at a time with large bodies, all of which must end within their deadline.
    async fn call_all(&self) {
        let body = Bytes::from(vec![7; 64 * 1_024]);
        let calls = (0..8).map(|_| self.client.call("echo", body.clone()));
        for reply in join_all(calls).await {
            assert_eq!(reply.unwrap(), body);
        }
    }

    async fn until_mtu(&self, what: &str, holds: impl Fn(u16) -> bool) {
        until_some(what, async || {
            self.call_all().await;
            holds(self.connection.stats().path.current_mtu).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn no_call_fails_on_a_path_that_carries_no_more_than_ethernet() {
    let caller = NarrowCaller::new(1_472).await;
    let is_found = |mtu| (1_440..=1_472).contains(&mtu);
    caller
        .until_mtu("packets of Ethernet are found", is_found)
        .await;
    assert_eq!(caller.connection.stats().path.black_holes_detected, 0);
}

#[tokio::test]
async fn no_call_fails_on_a_path_that_carries_the_smallest_packets_only() {
    let caller = NarrowCaller::new(1_200).await;
    for _ in 0..8 {
        caller.call_all().await;
    }
    assert_eq!(caller.connection.stats().path.current_mtu, 1_200);
}

#[tokio::test]
async fn no_call_fails_when_a_path_ceases_to_carry_jumbo_frames() {
    let caller = NarrowCaller::new(usize::MAX).await;
    caller
        .until_mtu("jumbo frames are found", |mtu| mtu >= 8_900)
        .await;
    caller.path.carried_bytes_max.store(1_472, Relaxed);
    caller
        .until_mtu("the black hole is detected", |mtu| mtu <= 1_472)
        .await;
    assert!(caller.connection.stats().path.black_holes_detected >= 1);
}
