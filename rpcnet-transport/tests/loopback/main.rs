//! Real QUIC on the loopback interface: every kind of call, every kind of trouble.

mod admission;
mod authorization;
mod backpressure;
mod buffered_bytes;
mod calls;
mod certificates;
mod deadlines;
mod early_data;
mod expired_calls;
mod greedy;
mod hostile;
mod hostile_lane_server;
mod hostile_lanes;
mod keys;
mod lanes;
mod lanes_stress;
mod limits;
mod packet_relay;
mod runtimes;
mod sessions;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod shards;
mod shutdown;
mod side_channel;
mod tls_reload;
mod truncated_streams;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::LazyLock,
    time::Duration,
};

use rpcnet_transport::{
    CallContext, DevCa, Endpoint, MemoryNetwork, Receiver, Router, RpcClient, RpcServer, Sender,
    Status, Tls, TransportConfig, TransportStats,
};
use tokio::time::{Instant, sleep, timeout};

/// One authority for all tests: making keys takes time.
static CA: LazyLock<DevCa> = LazyLock::new(|| DevCa::new("loopback"));

const SERVER: &str = "server-1";
const CLIENT: &str = "client-1";

/// How long anything may take that is expected to happen. Only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Settings with which nothing ends by itself while a test waits: what ends was told.
fn never_idle() -> TransportConfig {
    TransportConfig::default().with_idle_timeout(10 * PATIENCE)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn identity(name: &str) -> Tls {
    CA.issue(name).expect("a node name")
}

fn endpoint(name: &str, config: TransportConfig) -> Endpoint {
    Endpoint::bind(loopback(), config, identity(name)).expect("a free port")
}

/// A server with these methods, and one more that shows whether it lives.
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

/// Of a server that refuses calls as soon as it drains, as most tests of that want it.
fn no_drain_grace() -> TransportConfig {
    TransportConfig::default().with_drain_grace(Duration::ZERO)
}

/// A pair of a server and a client of it, with default settings but for the time of a drain.
async fn pair(router: Router) -> (RpcServer, RpcClient) {
    let server = serve(router, no_drain_grace());
    let client = connect(&server).await;
    (server, client)
}

/// The same in memory, for tests in virtual time.
async fn pair_in_memory(router: Router) -> (RpcServer, RpcClient) {
    let network = MemoryNetwork::new();
    let bind = |name| {
        let any = (Ipv4Addr::UNSPECIFIED, 0).into();
        let bound = network.bind(any, no_drain_grace(), identity(name));
        bound.expect("a free address")
    };
    let router = router.typed("alive", |n: u32| async move { n + 1 });
    let server = bind(SERVER).serve(router);
    let client = bind(CLIENT).connect(server.local_addr(), SERVER).await;
    (server, client.expect("a connection"))
}

/// That the server goes on serving, over a new connection.
async fn assert_serves(server: &RpcServer) {
    assert_answers(&connect(server).await).await;
}

/// That the server goes on serving, over this connection.
async fn assert_answers(client: &RpcClient) {
    let reply: u32 = within(client.call_typed("alive", &41u32))
        .await
        .expect("a reply");
    assert_eq!(reply, 42);
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Runs a future on this thread without a runtime. Ends the process if that takes too long: nothing
/// else could end the wait.
fn block_on<F: Future>(future: F) -> F::Output {
    let (done, watched) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if watched.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("a wait without a runtime did not end");
            std::process::abort();
        }
    });
    let output = futures::executor::block_on(future);
    drop(done);
    watch.join().expect("the watch does not panic");
    output
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until a counter has this value.
async fn counts(server: &RpcServer, what: &str, expected: u64, of: impl Fn(TransportStats) -> u64) {
    until(what, || of(server.stats()) >= expected).await;
    assert_eq!(of(server.stats()), expected, "{what}");
}

/// A method that ends when it is told to.
fn gated(router: Router) -> (Router, std::sync::Arc<tokio::sync::Semaphore>) {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let opened = gate.clone();
    let router = router.raw("wait", move |_cx, body| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.expect("it stays").forget();
            Ok(body)
        }
    });
    (router, gate)
}

/// A method that does not end, and says when its future is dropped.
fn hanging() -> (Router, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let (signal, dropped) = drop_signal();
    let router = Router::new().raw("hang", move |_cx, _body| {
        let signal = signal();
        async move {
            let _signal = signal;
            std::future::pending().await
        }
    });
    (router, dropped)
}

/// Says when the future that it lives in is dropped.
struct OnDrop(tokio::sync::mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn drop_signal() -> (
    impl Fn() -> OnDrop + Clone,
    tokio::sync::mpsc::UnboundedReceiver<()>,
) {
    let (tx, rx) = tokio::sync::mpsc::unbounded_channel();
    (move || OnDrop(tx.clone()), rx)
}
