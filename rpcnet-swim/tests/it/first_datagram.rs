//! The first datagram of a fresh socket is sent, and datagrams that a busy socket has no room for
//! are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rpcnet_swim::{ClusterConfig, ClusterMembership};
use rpcnet_testing::until;

use crate::test_socket::{SendFate, TestSocket};

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

/// A socket without room holds up nothing but what is to be sent: datagrams are taken in, and those
/// that waited too long are dropped and counted.
#[tokio::test]
async fn a_socket_without_room_loses_datagrams_and_not_the_node() {
    let seed = ClusterMembership::new(ClusterConfig::local())
        .await
        .unwrap();
    seed.join([""; 0]).await.unwrap();
    let is_full = Arc::new(AtomicBool::new(false));
    let blocks = Arc::clone(&is_full);
    let socket = TestSocket::bind(move |_, _| match blocks.load(Ordering::Relaxed) {
        true => SendFate::Blocked,
        false => SendFate::Sent,
    });
    let config = ClusterConfig::local().with_name("full");
    let node = ClusterMembership::with_socket(config, Arc::new(socket.await))
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
