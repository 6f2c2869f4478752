//! A call to a picked worker allocates nothing beyond what the call itself does.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use rpcnet_client::{
    ClusterClient, ClusterClientConfig, DevCa, Endpoint, LoadBalancingStrategy, Router,
    TransportConfig, WorkerRegistry,
    registry::{NodeId, NodeInfo, StaticMembership},
};
use rpcnet_testing::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Everything on one thread, so that everything is counted.
#[tokio::test(flavor = "current_thread")]
async fn selecting_a_worker_allocates_nothing() {
    let ca = DevCa::new("allocation");
    let bind = |name: &str| {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let identity = ca.issue(name).expect("a node name");
        Endpoint::bind(any, TransportConfig::default(), identity).expect("a free port")
    };
    let echo = || Router::new().raw("echo", |_cx, body| async move { Ok(body) });
    let list = StaticMembership::new();
    let mut servers = Vec::new();
    for name in NAMES {
        let server = bind(name).serve(echo());
        let id = NodeId::new(name, 1);
        list.insert(NodeInfo::new(id, server.local_addr()).with_tag("role", "worker"));
        servers.push(server);
    }
    let registry = WorkerRegistry::new(list, LoadBalancingStrategy::LeastConnections);
    registry.start().await;
    let caller = bind("caller");
    let mut direct = Vec::new();
    for (server, name) in servers.iter().zip(NAMES) {
        let connected = caller.connect(server.local_addr(), name).await;
        direct.push(connected.expect("a connection"));
    }
    let client = ClusterClient::new(Arc::new(registry), ClusterClientConfig::new(caller));
    let body = Bytes::from_static(&[7; 32]);

    let (mut of_direct, mut of_picked) = (f64::MAX, f64::MAX);
    // The least of all rounds: buffers and tables grow in the first ones, and on a busy machine
    // fewer calls share a packet. There it takes more rounds until both had an undisturbed one.
    let mut rounds = 0;
    while rounds < ROUNDS || (rounds < ROUNDS_MAX && of_picked >= of_direct + LIMIT) {
        rounds += 1;
        let before = CountingAllocator::allocations();
        // In turn, as the picked ones are: the runtime does more for two connections than for one.
        for connection in direct.iter().cycle().take(CALLS) {
            connection
                .call("echo", body.clone())
                .await
                .expect("a reply");
        }
        of_direct = per_call(before).min(of_direct);
        let before = CountingAllocator::allocations();
        for _ in 0..CALLS {
            let call = client.call_worker("echo", body.clone(), Some("role=worker"));
            call.await.expect("a reply");
        }
        of_picked = per_call(before).min(of_picked);
    }
    println!(
        "allocations per call after {rounds} rounds: {of_direct:.2} on a connection, \
         {of_picked:.2} to a picked worker"
    );
    assert!(of_picked < of_direct + LIMIT, "{of_picked} and {of_direct}");
}

fn per_call(before: u64) -> f64 {
    (CountingAllocator::allocations() - before) as f64 / CALLS as f64
}

const NAMES: [&str; 2] = ["red", "blue"];
const ROUNDS: usize = 120;
const ROUNDS_MAX: usize = 10 * ROUNDS;
/// Calls of a round: few, so that some rounds fit between two interruptions.
const CALLS: usize = 100;
/// What the runtime does between varies by a part of one.
const LIMIT: f64 = 0.5;
