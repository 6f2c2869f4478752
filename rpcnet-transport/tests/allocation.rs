//! Allocations of small calls, client and server together, and of an allow table.

use std::net::Ipv4Addr;

use bytes::Bytes;
use futures::future::join_all;
use rpcnet_testing::CountingAllocator;
use rpcnet_transport::{
    AllowTable, CallOptions, Callers, CertificateOptions, DevCa, Dispatch, Endpoint, Method, Peer,
    Router, RpcClient, RpcServer, TransportConfig,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const IN_FLIGHT: usize = 64;
const CALLS: usize = 20_000;
const ROUNDS: usize = 8;

/// Makes `calls` calls, `in_flight` of them concurrently, and returns the allocations per call.
async fn allocations_per_call(client: &RpcClient, calls: usize, in_flight: usize) -> f64 {
    let body = Bytes::from_static(&[7; 32]);
    let before = CountingAllocator::allocations();
    // One future for many calls, so that the test itself allocates next to nothing.
    let callers = (0..in_flight).map(|_| async {
        for _ in 0..calls / in_flight {
            let reply = client.call("echo", body.clone()).await;
            assert_eq!(reply.expect("a reply"), body);
        }
    });
    join_all(callers).await;
    (CountingAllocator::allocations() - before) as f64 / calls as f64
}

/// Everything runs on one thread, so that everything is counted.
#[tokio::test(flavor = "current_thread")]
async fn a_small_call_allocates_next_to_nothing() {
    let (_server, client) = pair().await;
    // Memory that the handshake leaves behind is freed first.
    let isolated = CallOptions::new().with_isolated(true);
    client
        .call_with("echo", "", isolated)
        .await
        .expect("a reply");
    let held_before = CountingAllocator::held_bytes();
    allocations_per_call(&client, 1, 1).await;
    let lane_bytes = CountingAllocator::held_bytes() - held_before;
    // Buffers and tables grow once.
    allocations_per_call(&client, CALLS, IN_FLIGHT).await;
    // The minimum of several rounds: on a busy machine fewer calls share a packet.
    let (mut many, mut one) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        many = many.min(allocations_per_call(&client, CALLS, IN_FLIGHT).await);
        one = one.min(allocations_per_call(&client, CALLS / 10, 1).await);
    }
    println!(
        "allocations per call: {many:.2} at {IN_FLIGHT} in flight, {one:.2} one by one; \
         a lane holds about {lane_bytes} bytes on both sides"
    );
    // One allocation is the reply, which the caller keeps.
    assert!(
        many < 3.0,
        "{many} allocations per call at {IN_FLIGHT} in flight"
    );
    assert!(one < 15.0, "{one} allocations per call, one by one");
}

/// A typed call of 32 bytes: as many as an untyped one, or fewer, since its reply is decoded in
/// place.
#[tokio::test(flavor = "current_thread")]
async fn a_small_typed_call_allocates_no_more_than_one_of_bytes() {
    const ECHO: Method<[u8; 32], [u8; 32]> = Method::new("typed/echo");
    let (_server, client) = pair().await;
    let typed = async || {
        let callers = (0..IN_FLIGHT).map(|_| async {
            for _ in 0..CALLS / IN_FLIGHT {
                let reply = ECHO.call(&client, &[7; 32]).await;
                assert_eq!(reply.expect("a reply"), [7; 32]);
            }
        });
        let before = CountingAllocator::allocations();
        join_all(callers).await;
        (CountingAllocator::allocations() - before) as f64 / CALLS as f64
    };
    typed().await;
    allocations_per_call(&client, CALLS, IN_FLIGHT).await;
    let (mut of_values, mut of_bytes) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        of_values = of_values.min(typed().await);
        of_bytes = of_bytes.min(allocations_per_call(&client, CALLS, IN_FLIGHT).await);
    }
    println!("allocations per call: {of_values:.2} typed, {of_bytes:.2} of bytes");
    assert!(
        of_values < of_bytes + 0.1,
        "{of_values} allocations per typed call, {of_bytes} per call of bytes"
    );
}

/// A reply that is kept does not keep other replies of its packets, nor the packets.
#[tokio::test(flavor = "current_thread")]
async fn a_small_reply_that_is_kept_holds_no_more_than_itself() {
    let (_server, client) = pair().await;
    allocations_per_call(&client, CALLS, IN_FLIGHT).await;
    let mut kept = Vec::with_capacity(KEPT);
    let before = CountingAllocator::held_bytes();
    for _ in 0..KEPT {
        let sizes = (1..IN_FLIGHT).map(|_| 1_000).chain([16]);
        let calls = sizes.map(|size| client.call("echo", Bytes::from_static(&[7; 1_000][..size])));
        let mut replies = join_all(calls).await;
        kept.push(replies.pop().expect("some").expect("a reply"));
    }
    let held = (CountingAllocator::held_bytes() - before) / KEPT as i64;
    println!("a reply of 16 bytes that is kept holds {held} bytes");
    // Some of it is what the connection itself holds more than before; with its packets a reply
    // would hold ten thousand bytes.
    assert!(held < 4_000, "{held} bytes");
}

#[test]
fn a_decision_of_an_allow_table_allocates_nothing() {
    let options = CertificateOptions::new().with_uri("spiffe://example.org/ops/alice");
    let tls = DevCa::new("allocation").issue_with("node-1", &options);
    let identity = tls.expect("valid names").identity().clone();
    let (fingerprint, addr) = (identity.fingerprint(), (Ipv4Addr::LOCALHOST, 1).into());
    let peers = [
        Peer::new("node-1", addr).with_identity(identity),
        Peer::new("gateway-1", addr),
    ];
    let table = AllowTable::new()
        .allow("Render/*", Callers::names(["gateway-*", "*.gateways"]))
        .allow("Render/stop", Callers::fingerprints([[0; 32], fingerprint]))
        .allow("*/stop", Callers::matching(|peer| peer.name() == "node-1"))
        .allow("*", Callers::uris(["urn:a", "spiffe://example.org/*"]));
    let methods = ["Render/frame", "Render/stop", "Admin/stop", "status"];
    let before = CountingAllocator::allocations();
    let calls = methods
        .iter()
        .flat_map(|method| peers.iter().map(move |peer| (method, peer)));
    let allowed = calls.filter(|(method, peer)| table.decide(method, peer).is_allowed());
    let allowed = allowed.count();
    assert_eq!(CountingAllocator::allocations() - before, 0);
    assert_eq!(allowed, 4);
}

async fn pair() -> (RpcServer, RpcClient) {
    let ca = DevCa::new("allocation");
    let bind = |name| {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let identity = ca.issue(name).expect("a node name");
        Endpoint::bind(any, TransportConfig::default(), identity).expect("a free port")
    };
    let (server, caller) = (bind("server"), bind("client"));
    let router = Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .method(
            Method::<[u8; 32], [u8; 32]>::new("typed/echo"),
            |body| async move { body },
        )
        // On a slow machine some polls are slow, and a task is an allocation.
        .with_dispatch("echo", Dispatch::Inline)
        .with_dispatch("typed/echo", Dispatch::Inline);
    let server = server.serve(router);
    let client = caller
        .connect(server.local_addr(), "server")
        .await
        .expect("a connection");
    (server, client)
}

const KEPT: usize = 500;
