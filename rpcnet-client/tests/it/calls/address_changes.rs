//! Address changes: workers that move and stay the same process to the cluster.

use rpcnet_client::transport::ConnectError;

use super::*;

/// Says where it is.
fn named(reply: &'static str) -> Router {
    Router::new().raw("who", move |_, _| async move {
        Ok(Bytes::from_static(reply.as_bytes()))
    })
}

/// The worker at an address of its own.
fn server(cluster: &TestCluster, router: Router) -> RpcServer {
    cluster.bind("red").serve(router)
}

#[tokio::test(start_paused = true)]
async fn calls_follow_a_worker_to_its_new_address() {
    let cluster = TestCluster::new().await;
    let (old, new) = (
        server(&cluster, named("old")),
        server(&cluster, named("new")),
    );
    cluster.list("red", 1, old.local_addr());
    for _ in 0..3 {
        assert_eq!(cluster.call("who").await.expect("a reply"), "old");
    }
    cluster.list("red", 1, new.local_addr());
    for _ in 0..3 {
        assert_eq!(cluster.call("who").await.expect("a reply"), "new");
    }
    assert_eq!(cluster.client.connections(), 1);
    // And back, over a connection of its own: the first one was not kept.
    cluster.list("red", 1, old.local_addr());
    assert_eq!(cluster.call("who").await.expect("a reply"), "old");
    let accepted = [&old, &new].map(|server| server.stats().connections_accepted);
    assert_eq!(accepted, [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_ends_at_the_old_address() {
    let cluster = Arc::new(TestCluster::new().await);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let closed = Arc::clone(&gate);
    let router = Router::new().raw("who", move |_, _| {
        let gate = Arc::clone(&closed);
        async move {
            gate.acquire().await.expect("it stays").forget();
            Ok(Bytes::from_static(b"old"))
        }
    });
    let (old, new) = (server(&cluster, router), server(&cluster, named("new")));
    cluster.list("red", 1, old.local_addr());
    let call = {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move { cluster.call("who").await })
    };
    until("it runs", || old.stats().calls_started == 1).await;
    cluster.list("red", 1, new.local_addr());
    assert_eq!(cluster.call("who").await.expect("a reply"), "new");
    gate.add_permits(1);
    assert_eq!(call.await.expect("no panic").expect("a reply"), "old");
}

#[tokio::test(start_paused = true)]
async fn the_error_names_the_address_that_was_tried() {
    let cluster =
        TestCluster::with(|config| config.with_connect_timeout(Duration::from_millis(200))).await;
    let old = cluster.worker("red", named("old"));
    assert_eq!(cluster.call("who").await.expect("a reply"), "old");
    // No node answers there.
    let silent = SocketAddr::from(([10, 9, 9, 1], 1));
    cluster.list("red", 1, silent);
    let once = WorkerCallOptions::new().with_attempts_max(1);
    let error = cluster.failing_call(once).await;
    let ClusterError::Connect { error: cause, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        matches!(cause, ConnectError::Timeout { addr, .. } if *addr == silent),
        "{cause}"
    );
    assert_eq!(error.attempts()[0].addr, silent);
    assert_eq!(old.stats().calls_started, 1);
}

/// It was at the old address when the connection was begun: that one is given up, and none waits
/// for its end.
#[tokio::test(start_paused = true)]
async fn connecting_to_a_former_address_is_cancelled() {
    let cluster =
        Arc::new(TestCluster::with(|config| config.with_connect_timeout(TEST_TIMEOUT * 2)).await);
    cluster.unreachable(&["red"]);
    let began = Instant::now();
    let call = {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move { cluster.call("who").await })
    };
    until("it is being made", || cluster.client.connections() == 1).await;
    let new = server(&cluster, named("new"));
    cluster.list("red", 1, new.local_addr());
    assert_eq!(cluster.call("who").await.expect("a reply"), "new");
    assert_eq!(
        within(call).await.expect("no panic").expect("a reply"),
        "new"
    );
    assert!(began.elapsed() < Duration::from_secs(1), "no wait for it");
}
