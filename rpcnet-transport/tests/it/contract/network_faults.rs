//! Tests of network faults in memory: partitions, loss, and virtual time.

use rpcnet_transport::{AckFrequency, BindError, CallOptions, Code, Router, RpcClient, RpcServer};
use tokio::time::Instant;

use super::*;

async fn pair(network: &MemoryNetwork) -> (RpcServer, Endpoint, RpcClient) {
    let router = Router::new().raw("echo", |_cx, body| async move { Ok(body) });
    pair_on(network, router).await
}

#[tokio::test(start_paused = true)]
async fn a_connection_outlives_a_partition_shorter_than_its_idle_timeout() {
    let network = MemoryNetwork::new();
    let (server, node, client) = pair(&network).await;
    network.partition(node.local_addr(), server.local_addr());
    let options = CallOptions::new().with_timeout(Duration::from_secs(2));
    let error = client.call_with("echo", "?", options).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(network.stats().partitioned > 0);
    network.heal(node.local_addr(), server.local_addr());
    assert_eq!(client.call("echo", "again").await.unwrap(), "again");
    assert_eq!(server.stats().connections_accepted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_longer_than_the_idle_timeout_ends_the_connection_on_both_sides() {
    let network = MemoryNetwork::new();
    let (server, node, client) = pair(&network).await;
    network.partition(node.local_addr(), server.local_addr());
    let before = Instant::now();
    client.closed().await;
    let lasted = before.elapsed();
    // 15 s from the keep-alive that was not answered, which was sent at most 5 s after the last
    // packet that arrived.
    assert!((15..=20).contains(&lasted.as_secs()), "{lasted:?}");
    network.heal(node.local_addr(), server.local_addr());
    let again = node.connect(server.local_addr(), "server").await.unwrap();
    assert_eq!(again.call("echo", "again").await.unwrap(), "again");
}

#[tokio::test(start_paused = true)]
async fn calls_succeed_on_a_network_that_loses_every_tenth_datagram() {
    let network = MemoryNetwork::new();
    network.set_delay(Duration::from_millis(5));
    network.set_loss(100, 42);
    let (server, _node, client) = pair(&network).await;
    for n in 0..200u32 {
        let body = n.to_le_bytes().repeat(100);
        assert_eq!(client.call("echo", body.clone()).await.unwrap(), body);
    }
    assert!(network.stats().lost > 20, "{:?}", network.stats());
    // Nothing was processed twice, whatever had to be sent twice.
    assert_eq!(server.stats().calls_started, 200);
}

#[tokio::test]
async fn an_address_is_in_use_until_its_endpoint_is_gone() {
    let network = MemoryNetwork::new();
    let addr = "10.1.2.3:7946".parse().unwrap();
    let bind = || network.bind(addr, TransportConfig::lan(), identity("node"));
    let node = bind().unwrap();
    assert_eq!(node.local_addr(), addr);
    assert!(!node.socket_buffers().is_short());
    assert!(matches!(bind(), Err(BindError::AddressInUse(in_use)) if in_use == addr));
    drop(node);
    within(async {
        while bind().is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_shorter_delay_of_acknowledgements_repairs_losses_sooner() {
    let asked = AckFrequency::new(10, Duration::from_millis(5));
    let mut took = Vec::new();
    for frequency in [Some(asked), None] {
        let network = MemoryNetwork::new();
        network.set_delay(Duration::from_micros(100));
        let config = TransportConfig::lan().with_ack_frequency(frequency);
        let router = Router::new().raw("echo", |_cx, body| async move { Ok(body) });
        let server = DatagramNetwork::bind(&network, "server", config.clone()).serve(router);
        let node = DatagramNetwork::bind(&network, "client", config);
        let client = node.connect(server.local_addr(), "server").await.unwrap();
        network.set_loss(50, 3);
        let before = Instant::now();
        for _ in 0..1_000 {
            client.call("echo", "small").await.unwrap();
        }
        took.push(before.elapsed());
        assert!(network.stats().lost > 50, "{:?}", network.stats());
    }
    // Calls one after the other: the lost packet is the last of its burst, so that only the probe
    // timeout reveals the loss.
    assert!(took[0] * 5 < took[1] * 4, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_frees_the_address_while_handles_are_left() {
    let network = MemoryNetwork::new();
    let (other, _, _) = pair(&network).await;
    let addr = "10.1.2.3:7946".parse().unwrap();
    let tls = identity("node");
    let bind = || network.bind(addr, TransportConfig::lan(), tls.clone());
    let mut held = Vec::new();
    for _ in 0..5 {
        let node = bind().expect("a free address");
        let side = node.side_channel().unwrap();
        let client = node.connect(other.local_addr(), "server").await.unwrap();
        client.call("echo", "hi").await.unwrap();
        node.shutdown(Duration::from_secs(5)).await;
        let refused = side.send(other.local_addr(), b"1").await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::NotConnected);
        held.push((node, side, client));
    }
    // Endpoints that have ended do not take the address from the last one.
    let node = bind().unwrap();
    drop(held);
    node.connect(other.local_addr(), "server").await.unwrap();
}
