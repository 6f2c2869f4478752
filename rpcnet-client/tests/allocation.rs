//! A call to a picked worker allocates nothing beyond what the call itself does.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use rpcnet_client::{
    ClusterClient, ClusterClientConfig, DevCa, Endpoint, LoadBalancingStrategy, Method, Router,
    RpcClient, RpcServer, TransportConfig, WorkerCallOptions, WorkerRegistry,
    registry::{NodeId, NodeInfo, StaticMembership, schema_tag_key, schema_tag_value},
};
use rpcnet_testing::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Two workers, a client of them, and connections to them. Everything is on one thread, so that
/// everything is counted.
struct Cluster {
    client: Arc<ClusterClient>,
    direct: Vec<RpcClient>,
    _servers: Vec<RpcServer>,
}

const SQUARE: Method<u64, u64> = Method::new("square");

async fn cluster() -> Cluster {
    let ca = DevCa::new("allocation");
    let bind = |name: &str| {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let identity = ca.issue(name).expect("a node name");
        Endpoint::bind(any, TransportConfig::default(), identity).expect("a free port")
    };
    let router = Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .method(SQUARE, |n| async move { n * n });
    let list = StaticMembership::new();
    let mut servers = Vec::new();
    for name in NAMES {
        let server = bind(name).serve(router.clone());
        let node = NodeInfo::new(NodeId::new(name, 1), server.local_addr());
        // They announce the types of the caller.
        let hash = SQUARE.untyped().service_hash().expect("a service");
        let node = node.with_tag(schema_tag_key("square"), schema_tag_value(hash));
        list.insert(node.with_tag("role", "worker"));
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
    Cluster {
        client: Arc::new(client),
        direct,
        _servers: servers,
    }
}

/// Fails if `call` allocates more than the `base` that it is compared with. Both are given the
/// number of their call.
async fn assert_allocates_as_little(base: impl AsyncFn(usize), call: impl AsyncFn(usize)) {
    let (mut of_base, mut of_call) = (f64::MAX, f64::MAX);
    // The least of all rounds: buffers and tables grow in the first ones, and on a busy machine
    // fewer calls share a packet. There it takes more rounds until both had an undisturbed one.
    let mut rounds = 0;
    while rounds < ROUNDS || (rounds < ROUNDS_MAX && of_call >= of_base + LIMIT) {
        rounds += 1;
        let before = CountingAllocator::allocations();
        for number in 0..CALLS {
            base(number).await;
        }
        of_base = per_call(before).min(of_base);
        let before = CountingAllocator::allocations();
        for number in 0..CALLS {
            call(number).await;
        }
        of_call = per_call(before).min(of_call);
    }
    println!("allocations per call after {rounds} rounds: {of_base:.2}, and {of_call:.2}");
    assert!(of_call < of_base + LIMIT, "{of_call} and {of_base}");
}

#[tokio::test(flavor = "current_thread")]
async fn selecting_a_worker_allocates_nothing() {
    let cluster = cluster().await;
    let body = Bytes::from_static(&[7; 32]);
    let direct = async |number: usize| {
        // In turn, as the picked ones are: the runtime does more for two connections than for one.
        let connection = &cluster.direct[number % NAMES.len()];
        let call = connection.call("echo", body.clone());
        call.await.expect("a reply");
    };
    let picked = async |_| {
        let call = cluster.client.call_worker("echo", body.clone(), WORKERS);
        call.await.expect("a reply");
    };
    assert_allocates_as_little(direct, picked).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_typed_method_allocates_no_more_than_a_call_by_name() {
    let cluster = cluster().await;
    let by_name = async |_| {
        let options = WorkerCallOptions::new();
        let client = &cluster.client;
        let call = client.call_worker_typed_with::<u64, u64>("square", &7, WORKERS, options);
        assert_eq!(call.await.expect("a reply"), 49);
    };
    let workers = cluster.client.workers(WORKERS);
    let typed = async |_| {
        let call = SQUARE.call(&workers, &7);
        assert_eq!(call.await.expect("a reply"), 49);
    };
    assert_allocates_as_little(by_name, typed).await;
}

fn per_call(before: u64) -> f64 {
    (CountingAllocator::allocations() - before) as f64 / CALLS as f64
}

const WORKERS: Option<&str> = Some("role=worker");
const NAMES: [&str; 2] = ["red", "blue"];
const ROUNDS: usize = 120;
const ROUNDS_MAX: usize = 10 * ROUNDS;
/// Calls of a round: few, so that some rounds fit between two interruptions.
const CALLS: usize = 100;
/// What the runtime does between varies by a part of one.
const LIMIT: f64 = 0.5;
