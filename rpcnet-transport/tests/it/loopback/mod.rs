//! Tests over real QUIC on the loopback interface: every kind of call, every kind of fault.

mod admission;
mod authorization;
mod backpressure;
mod blocking_callers;
mod buffered_bytes;
mod calls;
mod certificates;
mod deadlines;
mod early_data;
mod expired_calls;
mod greedy_callers;
mod hostile_caller;
mod hostile_lane_caller;
mod hostile_lane_server;
mod idempotency_keys;
mod identities;
mod inheritance;
mod lanes;
mod lanes_stress;
mod limits;
mod packet_relay;
mod runtimes;
mod sent_calls;
mod sessions;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod shards;
mod shutdown;
mod side_channel;
mod tls_reload;
mod truncated_streams;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rpcnet_testing::{TEST_TIMEOUT, block_on, loopback, until, until_some, within};
use rpcnet_transport::{
    CallContext, Code, ConnectError, DevCa, Endpoint, MemoryNetwork, Processed, Receiver, Router,
    RpcClient, RpcError, RpcServer, Sender, Status, Tls, TransportConfig, TransportStats,
};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{CA, bind_in_memory, identity};

const SERVER: &str = "server-1";
const CLIENT: &str = "client-1";

/// Settings with which nothing times out while a test waits: every end was signalled.
fn never_idle() -> TransportConfig {
    TransportConfig::default().with_idle_timeout(10 * TEST_TIMEOUT)
}

fn endpoint(name: &str, config: TransportConfig) -> Endpoint {
    Endpoint::bind(loopback(), config, identity(name)).expect("a free port")
}

/// Server with these methods, and one more that shows whether it lives.
fn serve(router: Router, config: TransportConfig) -> RpcServer {
    let router = router.typed("alive", |n: u32| async move { n + 1 });
    endpoint(SERVER, config).serve(router)
}

async fn connect(server: &RpcServer) -> RpcClient {
    connect_with(server, TransportConfig::default()).await
}

async fn connect_with(server: &RpcServer, config: TransportConfig) -> RpcClient {
    endpoint(CLIENT, config)
        .connect(server.local_addr(), SERVER)
        .await
        .expect("a connection")
}

/// Endpoint at an address that is free again, or soon will be.
async fn rebind(addr: SocketAddr, config: TransportConfig, tls: &Tls) -> Endpoint {
    until_some("the address is free", async || {
        Endpoint::bind(addr, config.clone(), tls.clone()).ok()
    })
    .await
}

/// Error of a connection that the server, or the node itself, does not accept.
async fn connect_error(node: &Endpoint, server: &RpcServer) -> ConnectError {
    within(node.connect(server.local_addr(), SERVER))
        .await
        .expect_err("no connection")
}

/// Code of a failed call, and whether its request was processed.
fn outcome_of(error: &RpcError) -> (Code, Processed) {
    (error.code(), error.processed())
}

/// Settings of a server that rejects calls as soon as it drains.
fn no_drain_grace() -> TransportConfig {
    TransportConfig::default().with_drain_grace(Duration::ZERO)
}

/// Server and client with default settings, without a drain grace.
async fn pair(router: Router) -> (RpcServer, RpcClient) {
    let server = serve(router, no_drain_grace());
    let client = connect(&server).await;
    (server, client)
}

/// The same in memory, for tests in virtual time.
async fn pair_in_memory(router: Router) -> (RpcServer, RpcClient) {
    pair_on(&MemoryNetwork::new(), router).await
}

/// The same on this network.
async fn pair_on(network: &MemoryNetwork, router: Router) -> (RpcServer, RpcClient) {
    let bind = |name| bind_in_memory(network, name, no_drain_grace());
    let router = router.typed("alive", |n: u32| async move { n + 1 });
    let server = bind(SERVER).serve(router);
    let client = bind(CLIENT).connect(server.local_addr(), SERVER).await;
    (server, client.expect("a connection"))
}

/// Asserts that the server still serves, over a new connection.
async fn assert_serves(server: &RpcServer) {
    assert_answers(&connect(server).await).await;
}

/// Asserts that the server still serves, over this connection.
async fn assert_answers(client: &RpcClient) {
    let reply: u32 = within(client.call_typed("alive", &41u32))
        .await
        .expect("a reply");
    assert_eq!(reply, 42);
}

/// Waits for callers that made calls until one failed, none of which may have been processed, and
/// returns how many calls were answered.
async fn answered_calls(callers: Vec<JoinHandle<(u64, RpcError)>>) -> u64 {
    let mut answered = 0;
    for caller in callers {
        let (of_caller, error) = within(caller).await.unwrap();
        answered += of_caller;
        assert_eq!(error.processed(), Processed::No, "{error:?}");
        assert!(error.is_retryable(), "{error:?}");
    }
    answered
}

/// Waits until a counter has this value.
async fn counts(server: &RpcServer, what: &str, expected: u64, of: impl Fn(TransportStats) -> u64) {
    until(what, || of(server.stats()) >= expected).await;
    assert_eq!(of(server.stats()), expected, "{what}");
}

/// A method that ends when the semaphore lets it.
fn gated(router: Router) -> (Router, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let router = router.raw("wait", move |_cx, body| {
        let gate = opened.clone();
        async move {
            gate.acquire()
                .await
                .expect("the semaphore stays open")
                .forget();
            Ok(body)
        }
    });
    (router, gate)
}

/// A method that does not end, and the count of its futures that were dropped.
fn hanging() -> (Router, DropCount) {
    let dropped = DropCount::new();
    let counted = dropped.clone();
    let router = Router::new().raw("hang", move |_cx, _body| {
        let guard = counted.guard();
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    });
    (router, dropped)
}

/// Count of dropped futures. Cheap to clone.
#[derive(Clone)]
struct DropCount(Arc<Semaphore>);

impl DropCount {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Guard that counts the drop of the future that it lives in.
    fn guard(&self) -> DropGuard {
        DropGuard(self.clone())
    }

    /// Waits for one more drop.
    async fn next(&self) {
        let dropped = self.0.acquire().await;
        dropped.expect("the semaphore stays open").forget();
    }
}

struct DropGuard(DropCount);

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.0.0.add_permits(1);
    }
}
