//! The first datagram of a fresh socket is sent, and datagrams that a busy socket has no room for
//! are counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use rpcnet_swim::{ClusterConfig, ClusterMembership, DatagramSocket};
use rpcnet_testing::until;
use tokio::net::UdpSocket;

/// On a runtime of one thread, the reactor has not seen a fresh socket yet when the first hello is
/// due: the socket is not known to be writable.
#[tokio::test]
async fn the_first_hello_of_a_fresh_socket_is_sent() {
    let seed = ClusterMembership::new(ClusterConfig::local())
        .await
        .unwrap();
    seed.join([""; 0]).await.unwrap();
    let seeds = [seed.local_addr().to_string()];
    for round in 0..5 {
        let node = ClusterMembership::new(ClusterConfig::local())
            .await
            .unwrap();
        node.join(seeds.clone()).await.unwrap();
        assert_eq!(node.socket_errors(), 0, "round {round}: a hello was lost");
    }
}

/// A socket that has no room while it is set so, and never wakes its task when that changes.
struct Full {
    socket: UdpSocket,
    is_full: Arc<AtomicBool>,
}

impl DatagramSocket for Full {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        DatagramSocket::poll_recv(&self.socket, cx, buf)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => DatagramSocket::poll_send(&self.socket, cx, datagram, to),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A socket without room holds up nothing but what is to be sent: datagrams are taken in, and those
/// that waited too long are dropped and counted.
#[tokio::test]
async fn a_socket_without_room_loses_datagrams_and_not_the_node() {
    let seed = ClusterMembership::new(ClusterConfig::local())
        .await
        .unwrap();
    seed.join([""; 0]).await.unwrap();
    let is_full = Arc::new(AtomicBool::new(false));
    let socket = Full {
        socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        is_full: Arc::clone(&is_full),
    };
    let config = ClusterConfig::local().with_name("full");
    let node = ClusterMembership::with_socket(config, Arc::new(socket))
        .await
        .unwrap();
    node.join([seed.local_addr().to_string()]).await.unwrap();
    is_full.store(true, Ordering::Relaxed);
    let (errors, received) = (node.socket_errors(), node.stats().received);
    until("datagrams are dropped and others are taken in", || {
        node.socket_errors() > errors && node.stats().received > received
    })
    .await;
    is_full.store(false, Ordering::Relaxed);
    let (sent, seen) = (node.stats().sent, seed.stats().received);
    until("it is heard again", || {
        node.stats().sent > sent && seed.stats().received > seen
    })
    .await;
    until("all is well", || {
        seed.live_count() == 2 && node.live_count() == 2
    })
    .await;
}
