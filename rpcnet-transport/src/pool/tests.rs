//! Tests of the pool over an in-memory network, in virtual time.

use std::{
    collections::HashMap,
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU8, NonZeroU32, NonZeroUsize},
    sync::LazyLock,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use rpcnet_testing::until;
use tokio::{sync::Semaphore, task::JoinHandle, time::sleep};

use super::*;
use crate::{Code, DevCa, MemoryNetwork, Router, RpcError, RpcServer, Status, TransportConfig};

mod without_listener;

static CA: LazyLock<DevCa> = LazyLock::new(|| DevCa::new("pool"));

/// Processes as a test sets them, and the reports of the pool.
#[derive(Default)]
struct Directory {
    processes: Mutex<HashMap<String, (u64, SocketAddr, ProcessState)>>,
    reported: Mutex<Vec<&'static str>>,
}

impl Directory {
    fn set(&self, name: &str, generation: u64, addr: SocketAddr, state: ProcessState) {
        let process = (generation, addr, state);
        self.processes.lock().insert(name.to_owned(), process);
    }

    fn reported(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.reported.lock())
    }
}

impl PoolListener<()> for Arc<Directory> {
    fn process_state(&self, process: TargetId<'_>) -> ProcessState {
        match self.processes.lock().get(process.key) {
            Some((generation, _, state)) if *generation == process.generation => *state,
            Some(_) => ProcessState::Failed,
            None => ProcessState::Left,
        }
    }

    fn current_addr(&self, process: TargetId<'_>) -> Option<SocketAddr> {
        let processes = self.processes.lock();
        let (generation, addr, _) = processes.get(process.key)?;
        (*generation == process.generation).then_some(*addr)
    }

    fn on_reachable(&self, _: &PoolTarget) {
        self.reported.lock().push("reachable");
    }

    fn on_unreachable(&self, _: &PoolTarget) {
        self.reported.lock().push("unreachable");
    }

    fn on_disconnected(&self, _: &PoolTarget) {
        self.reported.lock().push("disconnected");
    }

    fn on_draining(&self, _: &PoolTarget, draining: bool) {
        let report = if draining { "draining" } else { "not draining" };
        self.reported.lock().push(report);
    }

    fn on_lost(&self, _: &PoolTarget, _: &CloseReason) {
        self.reported.lock().push("lost");
    }
}

/// A pool, and a network for its targets.
struct Fixture {
    network: MemoryNetwork,
    directory: Arc<Directory>,
    pool: Arc<ConnectionPool>,
}

impl Fixture {
    fn new(config: PoolConfig) -> Self {
        let network = MemoryNetwork::new();
        let one_lane = TransportConfig::default().with_lanes(NonZeroU8::MIN);
        let endpoint = bind(&network, "client", ANY.into(), one_lane);
        let directory = Arc::<Directory>::default();
        let pool = ConnectionPool::with_listener(endpoint, config, Arc::clone(&directory));
        Self {
            network,
            directory,
            pool: Arc::new(pool),
        }
    }

    /// A process that the directory knows as the current one.
    fn serve(&self, generation: u64, router: Router, config: TransportConfig) -> RpcServer {
        let server = bind(&self.network, "red", ANY.into(), config).serve(router);
        self.list(generation, server.local_addr());
        server
    }

    fn list(&self, generation: u64, addr: SocketAddr) {
        let current = ProcessState::Current;
        self.directory.set("red", generation, addr, current);
    }

    fn handshakes(&self) -> u64 {
        self.pool.endpoint().stats().connections_opened
    }

    /// Calls the method that waits for the gate.
    fn call(&self, target: &PoolTarget) -> JoinHandle<Result<Bytes, RpcError>> {
        let (pool, target) = (Arc::clone(&self.pool), target.clone());
        tokio::spawn(async move {
            let client = pool.connect(&target).await.expect("a connection");
            let call = std::pin::pin!(client.call("wait", Bytes::new()));
            let on_saturated = || pool.on_saturated(target.id(), target.addr(), || target.clone());
            run_call(&client, call, on_saturated).await
        })
    }
}

fn bind(
    network: &MemoryNetwork,
    name: &str,
    addr: SocketAddr,
    config: TransportConfig,
) -> Endpoint {
    let tls = CA.issue(name).expect("a node name");
    network.bind(addr, config, tls).expect("a free address")
}

fn target(generation: u64, addr: SocketAddr) -> PoolTarget {
    PoolTarget::new("red", addr).with_generation(generation)
}

/// A method that ends when the gate opens.
fn gated() -> (Router, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    let router = Router::new().raw("wait", move |_, body| pass(Arc::clone(&closed), body));
    (router, gate)
}

async fn pass(gate: Arc<Semaphore>, body: Bytes) -> Result<Bytes, Status> {
    gate.acquire()
        .await
        .expect("the semaphore stays open")
        .forget();
    Ok(body)
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_made_once_for_all_that_wait() {
    let fixture = Fixture::new(PoolConfig::new());
    let server = fixture.serve(1, Router::new(), TransportConfig::default());
    let target = target(1, server.local_addr());
    let connected = join_all((0..100).map(|_| fixture.pool.connect(&target))).await;
    assert!(connected.iter().all(Result::is_ok));
    assert_eq!((fixture.handshakes(), fixture.pool.len()), (1, 1));
    assert_eq!(fixture.directory.reported(), ["reachable"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_made_also_if_its_waiters_give_up() {
    let fixture = Fixture::new(PoolConfig::new());
    let server = fixture.serve(1, Router::new(), TransportConfig::default());
    let target = target(1, server.local_addr());
    drop(fixture.pool.connection(&target));
    until("the connection", || fixture.handshakes() == 1).await;
    let cached = Arc::new(fixture.pool.new_cache());
    assert!(fixture.pool.owns(&cached));
    assert!(matches!(
        fixture.pool.connection(&target),
        PooledConnection::Ready(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_reported_and_replaced() {
    let fixture = Fixture::new(PoolConfig::new());
    let server = fixture.serve(1, Router::new(), TransportConfig::default());
    let addr = server.local_addr();
    let cache = Arc::new(fixture.pool.new_cache());
    let target = target(1, addr).with_cache(Some(Arc::clone(&cache)));
    fixture.pool.connect(&target).await.expect("a connection");
    assert!(fixture.pool.cached(&cache, addr).is_some());
    assert_eq!(fixture.directory.reported(), ["reachable"]);
    server.shutdown(Duration::from_secs(1)).await;
    drop(server);
    until("it is lost", || fixture.pool.is_empty()).await;
    assert!(fixture.pool.cached(&cache, addr).is_none());
    let reported = fixture.directory.reported();
    let lost = ["lost", "disconnected", "not draining"];
    assert_eq!(reported[reported.len() - 3..], lost, "{reported:?}");

    let config = TransportConfig::default();
    let _again = bind(&fixture.network, "red", addr, config).serve(Router::new());
    fixture.pool.connect(&target).await.expect("a connection");
    assert_eq!(fixture.handshakes(), 2);
    assert!(fixture.pool.cached(&cache, addr).is_some());
}

#[tokio::test]
async fn a_drain_ends_with_its_connection_though_a_call_reconnects_first() {
    let fixture = Fixture::new(PoolConfig::new());
    let server = fixture.serve(1, Router::new(), TransportConfig::default());
    let target = target(1, server.local_addr());
    let client = fixture.pool.connect(&target).await.expect("a connection");
    server.advertise_draining(true);
    until("it drains", || client.is_draining()).await;
    assert_eq!(fixture.directory.reported(), ["reachable", "draining"]);
    // This task runs between the close and its event, on the one thread of the runtime.
    let pool = Arc::clone(&fixture.pool);
    let reconnect = tokio::spawn(poll_fn(move |cx| {
        if client.is_closed() {
            return Poll::Ready(pool.connection(&target));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    assert_eq!(server.endpoint().disconnect("client"), 1);
    let PooledConnection::Pending(connecting) = reconnect.await.expect("no panic") else {
        panic!("it was disconnected");
    };
    connecting.await.expect("a connection");
    let reported = ["lost", "not draining", "reachable", "draining"];
    assert_eq!(fixture.directory.reported(), reported);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_closed_makes_no_target_unreachable() {
    let fixture = Fixture::new(PoolConfig::new());
    let server = fixture.serve(1, Router::new(), TransportConfig::default());
    fixture.pool.endpoint().shutdown(Duration::ZERO).await;
    let error = fixture.pool.connect(&target(1, server.local_addr())).await;
    let error = error.expect_err("a closed endpoint");
    assert!(error.is_local(), "{error}");
    assert_eq!(fixture.directory.reported(), [""; 0]);
}

#[test]
fn the_end_of_the_runtime_makes_no_target_unreachable() {
    // On this thread alone, so that no task runs while others are dropped already.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (fixture, server) = runtime.block_on(async {
        let fixture = Fixture::new(PoolConfig::new());
        let server = fixture.serve(1, Router::new(), TransportConfig::default());
        let target = target(1, server.local_addr());
        fixture.pool.connect(&target).await.expect("a connection");
        (fixture, server)
    });
    drop(runtime);
    assert_eq!(fixture.directory.reported(), ["reachable", "lost"]);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_cannot_be_connected_to_is_reported_unreachable() {
    let config = PoolConfig::new().with_connect_timeout(Duration::from_millis(200));
    let fixture = Fixture::new(config);
    let silent = SocketAddr::from(([10, 9, 9, 9], 1));
    fixture.list(1, silent);
    let error = fixture.pool.connect(&target(1, silent)).await;
    let error = error.expect_err("no server");
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
    assert_eq!(fixture.directory.reported(), ["unreachable"]);
    assert!(fixture.pool.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_process_ends_the_calls_that_wait_for_it() {
    let fixture = Fixture::new(PoolConfig::new());
    let (router, _gate) = gated();
    let server = fixture.serve(1, router, TransportConfig::default());
    let target = target(1, server.local_addr());
    let call = fixture.call(&target);
    until("it runs", || server.in_flight() == 1).await;
    let failed = ProcessState::Failed;
    fixture.directory.set("red", 1, target.addr(), failed);
    fixture.pool.on_failed(target.id());
    let error = call.await.expect("no panic").expect_err("it was closed");
    assert_eq!(error.code(), Code::Unavailable);
    // The server is said to have failed, not the node that reports the error.
    let reason = "connection closed by this node: the cluster has declared the server failed";
    assert!(error.message().ends_with(reason), "{error}");
    let error = fixture.pool.connect(&target).await.expect_err("it failed");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    assert!(fixture.pool.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_left_finishes_its_calls() {
    let fixture = Fixture::new(PoolConfig::new());
    let (router, gate) = gated();
    let server = fixture.serve(1, router, TransportConfig::default());
    let target = target(1, server.local_addr());
    let call = fixture.call(&target);
    until("it runs", || server.in_flight() == 1).await;
    let left = ProcessState::Left;
    fixture.directory.set("red", 1, target.addr(), left);
    fixture.pool.on_left(target.id());
    assert!(fixture.pool.is_empty());
    gate.add_permits(1);
    call.await.expect("no panic").expect("a reply");
}

#[tokio::test(start_paused = true)]
async fn a_process_is_followed_to_its_new_address() {
    let fixture = Fixture::new(PoolConfig::new());
    let (router, gate) = gated();
    let old = fixture.serve(1, router, TransportConfig::default());
    let call = fixture.call(&target(1, old.local_addr()));
    until("it runs", || old.in_flight() == 1).await;
    let new = fixture.serve(1, Router::new(), TransportConfig::default());
    let moved = target(1, new.local_addr());
    fixture.pool.on_addr_changed(moved.id());
    assert!(fixture.pool.is_empty());
    // A target that was picked before is connected to where it is now.
    let picked_before = target(1, old.local_addr());
    let client = fixture.pool.connect(&picked_before).await;
    let client = client.expect("a connection");
    assert_eq!(client.peer().addr(), new.local_addr());
    gate.add_permits(1);
    call.await.expect("no panic").expect("a reply");
}

#[tokio::test(start_paused = true)]
async fn a_new_process_closes_the_connections_to_the_one_before() {
    let fixture = Fixture::new(PoolConfig::new());
    let first = fixture.serve(7, Router::new(), TransportConfig::default());
    let old = fixture.pool.connect(&target(7, first.local_addr())).await;
    let old = old.expect("a connection");
    // The generation may come from a clock that was set back.
    let second = fixture.serve(3, Router::new(), TransportConfig::default());
    let restarted = target(3, second.local_addr());
    fixture.pool.on_started(restarted.id());
    assert!(old.is_closed() && fixture.pool.is_empty());
    let client = fixture.pool.connect(&restarted).await;
    let client = client.expect("a connection");
    assert_eq!(client.peer().addr(), second.local_addr());
}

#[tokio::test(start_paused = true)]
async fn reconcile_closes_connections_to_processes_that_have_failed() {
    let fixture = Fixture::new(PoolConfig::new());
    let server = fixture.serve(1, Router::new(), TransportConfig::default());
    let target = target(1, server.local_addr());
    let client = fixture.pool.connect(&target).await.expect("a connection");
    fixture.pool.reconcile();
    assert!(!client.is_closed() && fixture.pool.len() == 1);
    let failed = ProcessState::Failed;
    fixture.directory.set("red", 1, target.addr(), failed);
    fixture.pool.reconcile();
    assert!(client.is_closed() && fixture.pool.is_empty());
}

#[tokio::test(start_paused = true)]
async fn saturated_connections_scale_up_to_the_limit_and_down_when_idle() {
    let idle_timeout = Duration::from_secs(5);
    let config = PoolConfig::new()
        .with_connections_per_target_max(NonZeroUsize::new(3).unwrap())
        .with_surplus_idle_timeout(idle_timeout);
    let fixture = Fixture::new(config);
    let (router, gate) = gated();
    let four = NonZeroU32::new(4).unwrap();
    let four_calls = TransportConfig::default().with_lane_calls_max(four);
    let server = fixture.serve(1, router, four_calls);
    let target = target(1, server.local_addr());
    // A call that waits for capacity stays on its connection, so each step takes more calls.
    let mut calls = Vec::new();
    for connections in 1..=3 {
        calls.extend((0..5).map(|_| fixture.call(&target)));
        let limit = if connections < 3 { connections + 1 } else { 3 };
        until("another connection", || fixture.pool.len() == limit).await;
        sleep(Duration::from_millis(50)).await;
    }
    calls.extend((0..5).map(|_| fixture.call(&target)));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((fixture.pool.len(), fixture.handshakes()), (3, 3));

    gate.add_permits(calls.len());
    for call in calls {
        call.await.expect("no panic").expect("a reply");
    }
    let began = Instant::now();
    until("surplus connections are gone", || fixture.pool.len() == 1).await;
    assert!(began.elapsed() >= idle_timeout, "not at once");
    assert_eq!(fixture.handshakes(), 3);
}

/// Any free address of the network.
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);
