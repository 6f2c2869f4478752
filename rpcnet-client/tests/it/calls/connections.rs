//! Connections to workers: single flight, replacement, reaction to membership.

use std::sync::{OnceLock, Weak, atomic::AtomicBool};

use parking_lot::Mutex;
use rpcnet_client::{
    ClusterEvent,
    balance::from_fn,
    registry::{Observer, Tags, Watch},
    transport::ConnectError,
};

use super::*;

#[tokio::test(start_paused = true)]
async fn concurrent_first_calls_share_one_connection() {
    let cluster = Arc::new(TestCluster::new().await);
    let server = cluster.worker("red", identify("red"));
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let cluster = Arc::clone(&cluster);
            tokio::spawn(async move { cluster.call("who").await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic").expect("a reply"), "red 0");
    }
    assert_eq!(cluster.handshakes(), 1);
    assert_eq!(server.stats().connections_accepted, 1);
    assert_eq!(cluster.client.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_made_even_if_its_callers_time_out() {
    let cluster = TestCluster::new().await;
    cluster.network().set_delay(Duration::from_millis(10));
    let _server = cluster.worker("red", identify("red"));
    let impatient = WorkerCallOptions::new().with_timeout(Duration::from_millis(1));
    let error = cluster.call_with("who", impatient).await;
    let error = error.expect_err("no time for a handshake");
    assert!(
        matches!(error, ClusterError::DeadlineExceeded { .. }),
        "{error}"
    );
    assert_eq!(error.processed(), Processed::No);
    assert!(error.is_retryable());
    until("the connection", || cluster.handshakes() == 1).await;
    assert_eq!(cluster.call("who").await.expect("a reply"), "red 0");
    assert_eq!(cluster.handshakes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_replaced() {
    let cluster = TestCluster::new().await;
    let server = cluster.worker("red", identify("red"));
    assert_eq!(cluster.call("who").await.expect("a reply"), "red 0");
    let addr = server.local_addr();
    server.shutdown(Duration::from_secs(1)).await;
    drop(server);
    let mut again = None;
    until("the address is free", || {
        again = cluster.bind_at("red", addr).ok();
        again.is_some()
    })
    .await;
    let _server = again.expect("an endpoint").serve(identify("red"));
    let reply = cluster.call("who").await.expect("a reply");
    assert!(reply.starts_with("red"), "{reply}");
    assert_eq!(cluster.handshakes(), 2);
}

/// A list that was written by hand, or by a resolver.
#[tokio::test(start_paused = true)]
async fn node_names_match_in_any_case_and_with_a_final_dot() {
    let cluster = TestCluster::new().await;
    let server = cluster.bind("red");
    let server = server.serve(identify("red"));
    cluster.list("RED.", 1, server.local_addr());
    assert_eq!(cluster.call("who").await.expect("a reply"), "red 0");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_another_node_is_refused() {
    let cluster = TestCluster::new().await;
    let impostor = cluster.bind("blue").serve(identify("blue"));
    cluster.list("red", 1, impostor.local_addr());
    let error = cluster.failing_call(WorkerCallOptions::new()).await;
    let ClusterError::Connect { error: cause, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        matches!(cause, ConnectError::WrongNode { expected, presented, .. } if expected == "red" && presented == &["blue"]),
        "{cause}"
    );
    assert_eq!(error.attempts().len(), 1, "it would be the same again");
    assert!(matches!(
        error.attempts()[0].connect_error(),
        Some(ConnectError::WrongNode { .. })
    ));
    assert_eq!(&*error.node().expect("red").name, "red");
    assert_eq!(impostor.stats().calls_started, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_worker_is_passed_over_until_there_is_news_of_it() {
    let backoff = Duration::from_secs(60);
    let health = HealthConfig::new().with_unreachable_backoff(BackoffRange::constant(backoff));
    let cluster = TestCluster::with_health(round_robin(), health, |config| {
        config.with_connect_timeout(Duration::from_secs(2))
    })
    .await;
    cluster.unreachable(&["dead"]);
    let _server = cluster.worker("red", identify("red"));
    let mut second_attempts = 0;
    for _ in 0..20 {
        let reply = cluster.call("who").await.expect("a reply");
        second_attempts += usize::from(reply == "red 1");
    }
    assert_eq!(second_attempts, 1, "one call has found out for all");

    // News of it ends the time: it is tried again.
    cluster
        .list
        .set_tags("dead", Tags::from([("role", "worker"), ("news", "yes")]));
    let tried_again = async {
        // The client hears of the news on its own time.
        while cluster.call("who").await.expect("a reply") != "red 1" {
            sleep(Duration::from_millis(1)).await;
        }
    };
    within(tried_again).await;

    // If no other worker is left, it is tried too.
    cluster.list.fail("red");
    let once = WorkerCallOptions::new().with_attempts_max(1);
    let error = cluster.failing_call(once).await;
    assert_eq!(&*error.node().expect("one").name, "dead");
}

#[tokio::test(start_paused = true)]
async fn a_declared_failure_ends_calls_in_flight_to_the_worker() {
    let cluster = Arc::new(TestCluster::new().await);
    let (router, runs) = hanging_router();
    let _server = cluster.worker("red", router);
    let call = |idempotent| {
        let cluster = Arc::clone(&cluster);
        let options = WorkerCallOptions::new().with_idempotent(idempotent);
        tokio::spawn(async move { cluster.call_with("who", options).await })
    };
    let (ordinary, idempotent) = (call(false), call(true));
    until("both run", || runs.load(SeqCst) == 2).await;
    let _other = cluster.worker("blue", identify("blue"));
    cluster.list.fail("red");

    let error = ordinary.await.expect("no panic").expect_err("it was cut");
    let ClusterError::Rpc { error: cause, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(cause.code(), Code::Unavailable);
    assert_eq!(error.processed(), Processed::Maybe);
    assert!(!error.is_retryable());
    let reply = idempotent.await.expect("no panic").expect("a reply");
    assert_eq!(reply, "blue 1");
    assert_eq!(cluster.in_flight("red"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_worker_gets_a_new_connection() {
    let cluster = Arc::new(TestCluster::new().await);
    let (router, runs) = hanging_router();
    let _first = cluster.worker("red", router);
    let waiting = {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move { cluster.call("who").await })
    };
    until("it runs", || runs.load(SeqCst) == 1).await;
    let second = cluster.bind("red").serve(identify("red, again"));
    cluster.list("red", 2, second.local_addr());
    let error = waiting.await.expect("no panic");
    let error = error.expect_err("its worker is no more");
    assert_eq!(error.processed(), Processed::Maybe, "{error}");
    assert_eq!(cluster.call("who").await.expect("a reply"), "red, again 0");
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_to_a_worker_that_left_finish() {
    let cluster = Arc::new(TestCluster::new().await);
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let server = cluster.worker(
        "red",
        Router::new().raw("who", move |_, _| {
            let opened = Arc::clone(&opened);
            async move {
                opened.notified().await;
                Ok(Bytes::from_static(b"done"))
            }
        }),
    );
    let call = {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move { cluster.call("who").await })
    };
    until("it runs", || server.in_flight() == 1).await;
    cluster.list.remove("red");
    until("its connection is given up", || {
        cluster.client.connections() == 0
    })
    .await;
    gate.notify_one();
    assert_eq!(call.await.expect("no panic").expect("a reply"), "done");
}

/// On one thread, so that the client hears nothing until the flood is over.
#[tokio::test(start_paused = true)]
async fn a_lagging_client_reconciles_its_connections() {
    let cluster = Arc::new(TestCluster::new().await);
    let (router, runs) = hanging_router();
    let _servers = [
        cluster.worker("red", router.clone()),
        cluster.worker("green", router),
        cluster.worker("blue", identify("blue")),
    ];
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let cluster = Arc::clone(&cluster);
            tokio::spawn(async move { cluster.call("who").await })
        })
        .collect();
    until("red and green run", || runs.load(SeqCst) == 2).await;
    until("all are connected", || cluster.handshakes() == 3).await;
    cluster.list.fail("red");
    cluster.list.remove("green");
    for n in 0..1_000 {
        let flood = Tags::from([("role", "worker".to_owned()), ("n", n.to_string())]);
        cluster.list.set_tags("blue", flood);
    }
    until("their connections are given up", || {
        cluster.client.connections() == 1
    })
    .await;
    until("the calls on red and blue have ended", || {
        waiting.iter().filter(|call| call.is_finished()).count() == 2
    })
    .await;
    let mut failed = 0;
    for call in waiting.into_iter().filter(|call| call.is_finished()) {
        failed += usize::from(call.await.expect("no panic").is_err());
    }
    assert_eq!(failed, 1, "red has failed, green may finish");
}

/// On one thread, so that the client hears of it when it has begun to connect.
#[tokio::test(start_paused = true)]
async fn a_worker_that_fails_as_it_is_picked_gets_no_connection() {
    let cluster = TestCluster::new().await;
    let _red = cluster.worker("red", identify("red"));
    let list = cluster.list.clone();
    let at_once = list.clone();
    let balancer = from_fn(move |_, _| {
        at_once.fail("red");
        Some(0)
    });
    let registry = registry(list, Arc::new(balancer));
    registry.start().await;
    let caller = cluster.bind("second");
    // Its very first call.
    let client = ClusterClient::new(Arc::new(registry), ClusterClientConfig::new(caller));
    let once = WorkerCallOptions::new().with_attempts_max(1);
    let call = client.call_worker_with("who", "", None, once);
    let error = within(call).await.expect_err("it has failed");
    assert!(matches!(error, ClusterError::Connect { .. }), "{error}");
    assert_eq!(error.processed(), Processed::No);
    assert_eq!(client.connections(), 0);
}

/// The client has heard of it, and has nothing to close, before it looks for a connection. One
/// thread waits for what another does, also on a machine with one core, so time is not paused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_found_failed_after_it_was_picked_is_not_connected_to() {
    let cluster = TestCluster::new().await;
    let _red = cluster.worker("red", identify("red"));
    let list = cluster.list.clone();
    let (at_once, fails) = (list.clone(), Arc::new(AtomicBool::new(false)));
    let client: Arc<OnceLock<Weak<ClusterClient>>> = Arc::default();
    let (failing, heard_by) = (Arc::clone(&fails), Arc::clone(&client));
    let balancer = from_fn(move |_, _| {
        if failing.load(SeqCst) {
            // On a thread of its own: what this one wakes waits for it to end.
            let list = at_once.clone();
            let told = std::thread::spawn(move || list.fail("red"));
            assert!(told.join().expect("no panic"));
            let client = heard_by.get().and_then(Weak::upgrade).expect("it calls");
            let deadline = std::time::Instant::now() + TEST_TIMEOUT;
            while client.connections() > 0 {
                assert!(std::time::Instant::now() < deadline, "it hears of it");
                std::thread::yield_now();
            }
        }
        Some(0)
    });
    let registry = registry(list, Arc::new(balancer));
    registry.start().await;
    let caller = cluster.bind("second");
    let config = ClusterClientConfig::new(caller.clone());
    let shared = Arc::new(ClusterClient::new(Arc::new(registry), config));
    client.set(Arc::downgrade(&shared)).expect("only once");

    within(shared.call_worker("who", "", None))
        .await
        .expect("a reply");
    fails.store(true, SeqCst);
    let once = WorkerCallOptions::new().with_attempts_max(1);
    // On another thread than the one that hears of it.
    let calling = Arc::clone(&shared);
    let call = tokio::spawn(async move { calling.call_worker_with("who", "", None, once).await });
    let error = within(call).await.expect("no panic");
    let error = error.expect_err("it has failed");
    assert!(matches!(error, ClusterError::Connect { .. }), "{error}");
    assert_eq!(error.processed(), Processed::No);
    assert_eq!(shared.connections(), 0);
    assert_eq!(caller.stats().connections_opened, 1);
}

/// A source of events that a test makes up.
#[derive(Clone, Default)]
struct ManualMembership(Arc<Mutex<Option<Arc<dyn Observer>>>>);

impl ManualMembership {
    fn joined(&self, epoch: u64, addr: SocketAddr) {
        let node = Arc::new(NodeInfo::new(NodeId::new("red", epoch), addr));
        let observer = self.0.lock().clone().expect("it was started");
        observer.on_event(ClusterEvent::NodeJoined(node));
    }
}

impl Membership for ManualMembership {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        observer.on_snapshot(Vec::new());
        *self.0.lock() = Some(observer);
        let kept = Arc::clone(&self.0);
        Watch::new(move || *kept.lock() = None)
    }
}

/// The epoch comes from a clock, which may be set back.
#[tokio::test(start_paused = true)]
async fn a_restarted_worker_with_a_lower_epoch_gets_a_new_connection() {
    let cluster = TestCluster::new().await;
    let told = ManualMembership::default();
    let registry = registry(told.clone(), round_robin());
    registry.start().await;
    let caller = cluster.bind("second");
    let config = ClusterClientConfig::new(caller.clone());
    let client = ClusterClient::new(Arc::new(registry), config);
    let mut lives = Vec::new();
    for (epoch, name) in [(5, "first"), (9, "second"), (3, "third"), (4, "fourth")] {
        let life = cluster.bind("red").serve(identify(name));
        told.joined(epoch, life.local_addr());
        lives.push(life);
        // All of them are there to answer, so only the first call may go to a former one: never.
        for _ in 0..3 {
            let reply = within(client.call_worker("who", "", None)).await;
            assert_eq!(reply.expect("a reply"), format!("{name} 0"));
        }
    }
    assert_eq!(caller.stats().connections_opened, 4);
}

#[tokio::test(start_paused = true)]
async fn closed_connections_of_uncalled_workers_are_removed() {
    let cluster = TestCluster::new().await;
    let red = cluster.worker("red", identify("red"));
    assert_eq!(cluster.call("who").await.expect("a reply"), "red 0");
    // It stays on the list, so no event says that its connection is closed.
    cluster.list.drain("red");
    red.shutdown(Duration::from_secs(1)).await;
    let blue = cluster.bind("blue").serve(identify("blue"));
    let given_up = async {
        // The end of a connection is heard of some time; each new one looks for it.
        for epoch in 1.. {
            cluster.list("blue", epoch, blue.local_addr());
            cluster.call("who").await.expect("a reply");
            if cluster.client.connections() == 1 {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    within(given_up).await;
}
