//! The port of a node that has left is free at once.

use std::net::{SocketAddr, UdpSocket};

use rpcnet_swim::{ClusterConfig, ClusterMembership};
use rpcnet_testing::within;

/// An address that only this process uses, where loopback has more than one.
fn any_port() -> SocketAddr {
    let [a, b, ..] = std::process::id().to_le_bytes();
    match cfg!(target_os = "linux") {
        true => ([127, 77, a, b], 0).into(),
        false => ([127, 0, 0, 1], 0).into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_port_is_free_as_soon_as_a_node_has_left() {
    for round in 0..500 {
        let config = ClusterConfig::local().with_bind_addr(any_port());
        let node = ClusterMembership::new(config).await.unwrap();
        let addr = node.local_addr();
        if round % 2 == 0 {
            node.leave().await.unwrap();
            if let Err(error) = UdpSocket::bind(addr) {
                panic!("round {round}: {addr} after the leave: {error}");
            }
            continue;
        }
        let mut events = node.subscribe();
        let over = tokio::spawn(async move {
            while events.recv().await.is_some() {}
            UdpSocket::bind(addr)
        });
        node.leave().await.unwrap();
        if let Err(error) = within(over).await.unwrap() {
            panic!("round {round}: {addr} after the events: {error}");
        }
    }
}
