//! Tests of pools without a listener, and of listeners that fail.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;
use crate::RpcServer;

/// A pool without a listener, and a network for its targets.
struct Fixture {
    network: MemoryNetwork,
    pool: ConnectionPool,
}

impl Fixture {
    fn new() -> Self {
        let network = MemoryNetwork::new();
        let endpoint = bind(&network, "client", ANY.into(), TransportConfig::default());
        let config = PoolConfig::new().with_surplus_idle_timeout(Duration::from_secs(1));
        let pool = ConnectionPool::new(endpoint, config);
        Self { network, pool }
    }

    fn serve(&self, router: Router, config: TransportConfig) -> RpcServer {
        bind(&self.network, "red", ANY.into(), config).serve(router)
    }

    async fn connect(&self, target: &PoolTarget) -> RpcClient {
        self.pool.connect(target).await.expect("a connection")
    }
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        SocketAddr::V6(_) => addr,
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_is_followed_to_the_address_that_the_caller_says() {
    let fixture = Fixture::new();
    let (router, gate) = gated();
    let old = fixture.serve(router, TransportConfig::default());
    let new = fixture.serve(Router::new(), TransportConfig::default());
    let client = fixture.connect(&target(0, old.local_addr())).await;
    let call = tokio::spawn(async move { client.call("wait", Bytes::new()).await });
    until("it runs", || old.in_flight() == 1).await;
    let moved = fixture.connect(&target(0, new.local_addr())).await;
    assert_eq!(moved.peer().addr(), new.local_addr());
    assert_eq!(fixture.pool.len(), 1);
    gate.add_permits(1);
    call.await.expect("no panic").expect("a reply");
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_connection_ends_at_its_deadline() {
    let fixture = Fixture::new();
    let server = fixture.serve(Router::new(), TransportConfig::default());
    let silent = target(0, ([10, 9, 9, 9], 1).into());
    for (target, ms, connects) in [
        (&target(0, server.local_addr()), 100, Some(true)),
        (&silent, 100, None),
        (&silent, 2_000, Some(false)),
    ] {
        let PooledConnection::Pending(pending) = fixture.pool.connection(target) else {
            panic!("it is not connected");
        };
        let deadline = Instant::now() + Duration::from_millis(ms);
        let connected = pending.until(Some(deadline.into_std())).await;
        assert_eq!(
            connected.map(|connected| connected.is_ok()),
            connects,
            "{ms} ms"
        );
        fixture.pool.on_failed(target.id());
    }
}

#[test]
fn a_thread_without_a_runtime_waits_for_a_connection_until_its_deadline() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let fixture = runtime.block_on(async { Fixture::new() });
    let silent = target(0, ([10, 9, 9, 9], 1).into());
    let PooledConnection::Pending(pending) = fixture.pool.connection(&silent) else {
        panic!("no server");
    };
    let soon = std::time::Instant::now() + Duration::from_millis(10);
    let connected = rpcnet_testing::block_on(pending.until(Some(soon)));
    assert!(connected.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_mapped_form_of_an_address_is_the_same_address() {
    let fixture = Fixture::new();
    let server = fixture.serve(Router::new(), TransportConfig::default());
    let addr = server.local_addr();
    fixture.connect(&target(0, addr)).await;
    let again = fixture.pool.connection(&target(0, mapped(addr)));
    assert!(matches!(again, PooledConnection::Ready(_)));
}

#[tokio::test(start_paused = true)]
async fn a_target_closed_here_is_connected_to_anew() {
    let fixture = Fixture::new();
    let server = fixture.serve(Router::new(), TransportConfig::default());
    let addr = server.local_addr();
    let caches = [(); 2].map(|()| Arc::new(fixture.pool.new_cache()));
    let targets = [0, 1].map(|n: usize| {
        let cache = Some(Arc::clone(&caches[n]));
        target(0, addr).with_cache(cache)
    });
    fixture.connect(&targets[0]).await.close("test");
    fixture.connect(&targets[1]).await;
    assert!(fixture.pool.cached(&caches[0], addr).is_none());
    assert!(fixture.pool.cached(&caches[1], addr).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_generation_of_the_caller_replaces_the_one_before() {
    let fixture = Fixture::new();
    let server = fixture.serve(Router::new(), TransportConfig::default());
    let addr = server.local_addr();
    let old = fixture.connect(&target(1, addr)).await;
    let new = fixture.connect(&target(2, addr)).await;
    assert!(old.is_closed() && !new.is_closed());
    let next = target(3, addr);
    fixture.pool.on_started(next.id());
    assert!(new.is_closed() && fixture.pool.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pool_is_no_fault_of_the_server() {
    let fixture = Fixture::new();
    let silent = SocketAddr::from(([10, 9, 9, 9], 1));
    let waits = fixture.pool.connection(&target(0, silent));
    let PooledConnection::Pending(first) = waits else {
        panic!("no server");
    };
    let second = first.clone();
    let waiter = tokio::spawn(first);
    tokio::task::yield_now().await;
    drop(fixture.pool);
    let first = waiter.await.expect("no panic").expect_err("no server");
    let second = second.await.expect_err("no server");
    assert!(first.is_local() && second.is_local(), "{first}; {second}");
}

/// Saturates a connection with calls that wait for the gate, until the pool opens another one.
async fn saturate<C: Clone + Send + Sync + 'static>(
    pool: &ConnectionPool<C>,
    target: &PoolTarget<C>,
) {
    let client = pool.connect(target).await.expect("a connection");
    while !client.is_saturated() {
        let called = client.clone();
        drop(tokio::spawn(async move {
            called.call("wait", Bytes::new()).await
        }));
        tokio::task::yield_now().await;
    }
    pool.connect(target).await.expect("a connection");
    until("another connection", || pool.len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pool_leaves_no_task_behind() {
    let fixture = Fixture::new();
    let one_call = TransportConfig::default().with_lane_calls_max(NonZeroU32::MIN);
    let (router, gate) = gated();
    let server = fixture.serve(router, one_call);
    let context = Arc::new(());
    let hour = Duration::from_secs(3_600);
    let config = PoolConfig::new().with_surplus_idle_timeout(hour);
    let pool = ConnectionPool::with_listener(fixture.pool.endpoint().clone(), config, ());
    let target = target(0, server.local_addr()).with_context(Arc::clone(&context));
    saturate(&pool, &target).await;
    drop((pool, target));
    // The connections end with their last call.
    gate.add_permits(100);
    // Long before the next check for a surplus connection.
    until("no task has the target", || {
        Arc::strong_count(&context) == 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_saturated_target_that_moves_scales_up_at_its_new_address() {
    let fixture = Fixture::new();
    let one_call = TransportConfig::default().with_lane_calls_max(NonZeroU32::MIN);
    let servers = [gated(), gated()].map(|(router, _)| fixture.serve(router, one_call.clone()));
    let mut calls = Vec::new();
    let targets = servers
        .each_ref()
        .map(|server| target(0, server.local_addr()));
    for target in &targets {
        let client = fixture.connect(target).await;
        while !client.is_saturated() {
            let called = client.clone();
            calls.push(tokio::spawn(async move {
                called.call("wait", Bytes::new()).await
            }));
            tokio::task::yield_now().await;
        }
        // The watch over the former address goes on.
        sleep(Duration::from_millis(40)).await;
        fixture.connect(target).await;
    }
    until("another connection", || fixture.pool.len() == 2).await;
    let client = fixture.connect(&targets[1]).await;
    assert!(!client.is_saturated());
    assert_eq!(client.peer().addr(), targets[1].addr());
}

#[tokio::test(start_paused = true)]
async fn a_failed_process_ends_calls_on_connections_retired_before_a_close() {
    let fixture = Fixture::new();
    let (router, gate) = gated();
    let four_calls = TransportConfig::default().with_lane_calls_max(NonZeroU32::new(4).unwrap());
    let server = fixture.serve(router, four_calls);
    let (cache, addr) = (Arc::new(fixture.pool.new_cache()), server.local_addr());
    let target = target(0, addr).with_cache(Some(Arc::clone(&cache)));
    let call = |client: &RpcClient| {
        let client = client.clone();
        tokio::spawn(async move { client.call("wait", Bytes::new()).await })
    };
    let first = fixture.connect(&target).await;
    let mut short = Vec::new();
    while !first.is_saturated() {
        short.push(call(&first));
        tokio::task::yield_now().await;
    }
    fixture.connect(&target).await;
    until("another connection", || {
        fixture.pool.cached(&cache, addr).is_none()
    })
    .await;
    let running = short.len();
    let long = call(&fixture.connect(&target).await);
    until("it runs", || server.in_flight() == running + 1).await;
    gate.add_permits(running);
    for call in short {
        call.await.expect("no panic").expect("a reply");
    }
    until("one alone takes calls", || {
        fixture.pool.cached(&cache, addr).is_some()
    })
    .await;
    first.close("test");
    let again = fixture.connect(&target).await;
    fixture.pool.on_failed(target.id());
    assert!(again.is_closed());
    let error = long.await.expect("no panic").expect_err("it was closed");
    assert_eq!(error.code(), Code::Unavailable);
}

/// A listener that fails once when it is asked about a process, and counts what it hears of losses.
#[derive(Default)]
struct Faulty {
    panics: AtomicBool,
    losses: AtomicUsize,
}

impl PoolListener<()> for Arc<Faulty> {
    fn process_state(&self, _: TargetId<'_>) -> ProcessState {
        assert!(!self.panics.swap(false, Relaxed), "the listener fails");
        ProcessState::Current
    }

    fn on_unreachable(&self, _: &PoolTarget) {
        self.losses.fetch_add(1, Relaxed);
    }

    fn on_draining(&self, _: &PoolTarget, _: bool) {
        self.losses.fetch_add(1, Relaxed);
    }

    fn on_lost(&self, _: &PoolTarget, _: &CloseReason) {
        self.losses.fetch_add(1, Relaxed);
    }
}

fn faulty(fixture: &Fixture) -> (Arc<Faulty>, ConnectionPool) {
    let (listener, endpoint) = (Arc::<Faulty>::default(), fixture.pool.endpoint().clone());
    let pool = ConnectionPool::with_listener(endpoint, PoolConfig::new(), Arc::clone(&listener));
    (listener, pool)
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_listener_does_not_block_later_connections() {
    let fixture = Fixture::new();
    let server = fixture.serve(Router::new(), TransportConfig::default());
    let (listener, pool) = faulty(&fixture);
    let target = target(0, server.local_addr());
    listener.panics.store(true, Relaxed);
    let error = pool.connect(&target).await.expect_err("it panicked");
    assert!(error.is_local(), "{error}");
    assert!(pool.is_empty());
    pool.connect(&target).await.expect("a connection");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_address_that_was_left_is_no_loss() {
    let fixture = Fixture::new();
    let [old, new] = [(); 2].map(|()| fixture.serve(Router::new(), TransportConfig::default()));
    let (listener, pool) = faulty(&fixture);
    let kept = pool.connect(&target(0, old.local_addr())).await;
    let kept = kept.expect("a connection");
    let moved = pool.connect(&target(0, new.local_addr())).await;
    let moved = moved.expect("a connection");
    old.shutdown(Duration::from_secs(1)).await;
    kept.closed().await;
    new.shutdown(Duration::from_secs(1)).await;
    until("the loss", || {
        listener.losses.load(Relaxed) > 0 && pool.is_empty()
    })
    .await;
    assert_eq!(
        listener.losses.load(Relaxed),
        4,
        "draining, lost, unreachable, not draining"
    );
    drop(moved);
}
