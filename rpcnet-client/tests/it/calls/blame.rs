//! Blame: which failures count against a worker, and which error a call ends with.

use rpcnet_client::transport::RpcError;

use super::{hedges::cluster, *};

#[tokio::test(start_paused = true)]
async fn a_call_after_its_deadline_makes_no_attempt() {
    let (cluster, told) = cluster(|config| config).await;
    let _a = cluster.worker("a", identify("a"));
    assert_eq!(cluster.call("who").await.expect("a reply"), "a 0");
    told.0.lock().clear();
    let error = cluster
        .failing_call(WorkerCallOptions::new().with_timeout(Duration::ZERO))
        .await;
    assert!(matches!(error, ClusterError::DeadlineExceeded { .. }));
    assert!(error.is_retryable() && error.attempts().is_empty());
    assert_eq!(
        error.to_string(),
        "deadline exceeded before a worker was called"
    );
    assert!(told.0.lock().is_empty(), "no worker is to blame");
    assert_eq!(cluster.in_flight("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_worker_does_not_hide_that_a_method_is_unknown() {
    let (cluster, _) = cluster(|config| config).await;
    let _a = cluster.worker("a", Router::new());
    cluster.unreachable(&["b"]);
    let error = cluster.failing_call(WorkerCallOptions::new()).await;
    let code = error.rpc().map(RpcError::code);
    assert_eq!(code, Some(Code::Unimplemented), "{error}");
    assert_eq!(error.node().map(|node| &*node.name), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_delays_unimplemented_by_one_connect_timeout() {
    for names in [["a", "b"], ["y", "z"]] {
        let (cluster, _) = cluster(|config| config).await;
        let _old = names.map(|name| cluster.worker(name, Router::new()));
        cluster.unreachable(&["dead"]);
        // Later calls find it backing off, and do not wait for it.
        for (attempts, delay) in [(3, 1), (1, 0), (1, 0), (1, 0)] {
            let began = Instant::now();
            let error = cluster.failing_call(WorkerCallOptions::new()).await;
            let code = error.rpc().map(RpcError::code);
            assert_eq!(code, Some(Code::Unimplemented), "{error}");
            assert_eq!(error.attempts().len(), attempts, "{error}");
            assert_eq!(error.stop_reason(), StopReason::NoEndpointLeft);
            assert_eq!(began.elapsed(), Duration::from_secs(delay), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_that_is_back_is_found_though_others_reject_the_method() {
    let (cluster, _) = cluster(|config| config).await;
    let _old = cluster.worker("a", Router::new());
    cluster.unreachable(&["dead"]);
    for _ in 0..2 {
        cluster.failing_call(WorkerCallOptions::new()).await;
    }
    let new = cluster.bind("dead").serve(identify("dead"));
    cluster.list("dead", 1, new.local_addr());
    let found = async {
        while cluster.call("who").await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    within(found).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_connection_was_lost_is_connected_to_though_others_reject_the_method() {
    let (cluster, _) = cluster(|config| config).await;
    let _old = cluster.worker("a", Router::new());
    let first = cluster.worker("b", identify("b"));
    cluster.call("who").await.expect("b serves it");
    let addr = first.local_addr();
    first.shutdown(Duration::ZERO).await;
    drop(first);
    until("the loss is noticed", || cluster.client.connections() < 2).await;
    // A handshake takes longer than the answer of a worker that is connected to.
    cluster.network().set_delay(Duration::from_millis(10));
    let second = cluster.bind_at("b", addr).expect("its address");
    let _second = second.serve(identify("b"));
    cluster.call("who").await.expect("b serves it again");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_not_trusted_is_tried_once() {
    let cluster = TestCluster::new().await;
    let other = DevCa::new("other").issue("a").expect("a node name");
    let server = bind_on(cluster.network.as_ref(), TransportConfig::default(), other);
    let server = server.serve(identify("a"));
    cluster.list("a", 1, server.local_addr());
    let error = cluster.failing_call(WorkerCallOptions::new()).await;
    assert_eq!(error.attempts().len(), 1, "{error}");
    assert!(!error.is_retryable());
    let told = error.to_string();
    assert!(told.ends_with("no other worker is available"), "{told}");
}
