//! Tests of drain, shutdown and restart.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::pending;
use parking_lot::Mutex;
use rpcnet_transport::{
    CallOptions, CloseReason, Code, ConnectError, ConnectionEvent, Dispatch, Processed,
};

use super::*;

/// Makes a call in a task of its own.
fn spawn_call(client: &RpcClient, method: &'static str) -> JoinHandle<Result<Bytes, RpcError>> {
    let client = client.clone();
    tokio::spawn(async move { client.call(method, "").await })
}

#[tokio::test]
async fn calls_in_flight_end_while_new_ones_are_rejected() {
    let (router, gate) = gated(Router::new());
    let (server, client) = pair(router).await;
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call("wait", vec![1; 200_000]).await })
        })
        .collect();
    until("all are served", || server.in_flight() == 5).await;
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(TEST_TIMEOUT).await }
    });
    until("it drains", || server.endpoint().is_draining()).await;

    let error = within(client.call("wait", "")).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Draining, Processed::No));
    assert!(error.is_retryable());
    let late = endpoint("late", TransportConfig::default());
    let error = connect_error(&late, &server).await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");

    gate.add_permits(5);
    for call in calls {
        assert_eq!(within(call).await.unwrap().unwrap().len(), 200_000);
    }
    let report = within(shutdown).await.unwrap();
    assert_eq!((report.completed, report.cancelled), (5, 0));
    // None if the client learnt of the drain in time.
    assert!(report.rejected <= 1);
    assert_eq!(within(client.closed()).await, CloseReason::ShutDown);
    let error = within(client.call("wait", "")).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Unavailable, Processed::No));
}

#[tokio::test]
async fn a_hanging_handler_is_cancelled_at_the_deadline() {
    let (router, dropped) = hanging();
    let (server, client) = pair(router).await;
    let call = spawn_call(&client, "hang");
    until("it is served", || server.in_flight() == 1).await;
    // This handler does not end by itself. The deadline at which it is cut is tested in virtual
    // time, in `contract/busy_close.rs`.
    let report = within(server.shutdown(Duration::from_millis(500))).await;
    assert_eq!(
        (report.completed, report.cancelled, report.rejected),
        (0, 1, 0)
    );
    within(dropped.next()).await;
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Cancelled, Processed::Maybe));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_under_load_loses_no_call_silently() {
    let router = Router::new().raw("work", |_cx, body| async move {
        // Work during which the shutdown begins.
        sleep(Duration::from_millis(5)).await;
        Ok(body)
    });
    let (server, client) = pair(router).await;
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut answered = 0u64;
                loop {
                    match client.call("work", vec![7; 2_000]).await {
                        Ok(reply) => {
                            assert_eq!(reply.len(), 2_000);
                            answered += 1;
                        }
                        Err(error) => return (answered, error),
                    }
                }
            })
        })
        .collect();
    until("it is busy", || server.stats().calls_completed > 200).await;
    let report = within(server.shutdown(TEST_TIMEOUT)).await;
    assert_eq!(report.cancelled, 0);
    let answered = answered_calls(callers).await;
    assert_eq!(answered, server.stats().calls_started);
    assert_eq!(answered, server.stats().calls_completed);
}

#[tokio::test]
async fn an_idle_server_shuts_down_at_once_and_twice() {
    let (server, client) = pair(Router::new()).await;
    assert_answers(&client).await;
    within(server.shutdown(4 * TEST_TIMEOUT)).await;
    within(server.shutdown(4 * TEST_TIMEOUT)).await;
    assert!(client.is_closed() || within(client.closed()).await == CloseReason::ShutDown);
    let error = server
        .endpoint()
        .connect(loopback(), SERVER)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::EndpointClosed), "{error:?}");
}

#[tokio::test]
async fn a_shutdown_accepts_the_longest_duration() {
    let (server, client) = pair(Router::new()).await;
    assert_answers(&client).await;
    within(server.shutdown(Duration::MAX)).await;
}

#[tokio::test]
async fn a_shutdown_cannot_be_taken_back() {
    let (router, gate) = gated(Router::new());
    let (server, client) = pair(router).await;
    let call = spawn_call(&client, "wait");
    until("it is served", || server.in_flight() == 1).await;
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(TEST_TIMEOUT).await }
    });
    until("it drains", || server.endpoint().is_draining()).await;
    server.set_draining(false);
    let error = within(client.call("wait", "")).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Draining, Processed::No));
    gate.add_permits(1);
    within(call).await.unwrap().unwrap();
    assert!(within(shutdown).await.unwrap().rejected <= 1);
}

/// Long enough that nothing in a test happens after it.
fn drain_grace() -> TransportConfig {
    TransportConfig::default().with_drain_grace(TEST_TIMEOUT)
}

#[tokio::test]
async fn a_draining_server_advertises_before_it_rejects_calls() {
    let server = serve(Router::new(), drain_grace());
    let client = connect(&server).await;
    assert_answers(&client).await;
    // Sends its call at once, before it can learn of the drain.
    let mut unaware = hostile_caller::Caller::connect(&server).await;
    server.set_draining(true);
    assert!(server.endpoint().is_draining());
    let reply = within(unaware.call("alive", None)).await;
    assert!(reply.load.draining, "{reply:?}");
    assert_ne!(reply.code, Code::Draining);
    until("the client is told", || client.is_draining()).await;
    assert!(connect(&server).await.is_draining());
    assert_eq!(server.stats().calls_rejected_draining, 0);
    // A second drain does not restart the grace, and `false` ends both.
    server.set_draining(true);
    server.set_draining(false);
    until("the client is told", || !client.is_draining()).await;
    assert_answers(&client).await;
}

#[tokio::test]
async fn a_drain_rejects_calls_after_its_grace() {
    let short = TransportConfig::default().with_drain_grace(Duration::from_millis(30));
    let server = serve(Router::new(), short);
    let mut unaware = hostile_caller::Caller::connect(&server).await;
    server.set_draining(true);
    let reply = until_some("the grace is over", async || {
        let reply = unaware.call("alive", None).await;
        (reply.code == Code::Draining).then_some(reply)
    });
    assert_eq!(reply.await.processed, Processed::No);
    counts(&server, "rejected calls", 1, |s| s.calls_rejected_draining).await;
}

#[tokio::test]
async fn a_shutdown_limits_the_drain_grace_to_a_quarter_of_its_time() {
    let server = serve(Router::new(), drain_grace());
    let client = connect(&server).await;
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(Duration::from_secs(1)).await }
    });
    until("the client is told", || client.is_draining()).await;
    let report = within(shutdown).await.unwrap();
    assert_eq!((report.cancelled, report.rejected), (0, 0));
}

#[tokio::test]
async fn a_shutdown_without_connections_skips_the_drain_grace() {
    let server = serve(Router::new(), drain_grace());
    within(server.shutdown(4 * TEST_TIMEOUT)).await;
}

#[tokio::test]
async fn a_draining_server_can_resume() {
    let (server, client) = pair(Router::new()).await;
    server.set_draining(true);
    let error = within(client.call("alive", "")).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Draining, Processed::No));
    assert!(connect(&server).await.is_draining());
    assert!(server.stats().calls_rejected_draining <= 1);
    until("the client is told", || client.is_draining()).await;
    server.set_draining(false);
    until("the client is told", || !client.is_draining()).await;
    assert_answers(&client).await;
}

#[tokio::test]
async fn a_port_can_be_bound_again_and_clients_reconnect() {
    let (server, client) = pair(Router::new()).await;
    assert_answers(&client).await;
    let addr = server.local_addr();
    within(server.shutdown(TEST_TIMEOUT)).await;
    drop(server);
    within(client.closed()).await;
    let again = rebind(addr, TransportConfig::default(), &identity(SERVER)).await;
    let again = again.serve(Router::new().typed("alive", |n: u32| async move { n + 1 }));
    assert!(client.is_closed());
    assert_serves(&again).await;
}

#[tokio::test]
async fn a_call_in_flight_on_a_lost_connection_may_have_been_processed() {
    let router = Router::new().raw("hang", |_cx, _body| pending());
    let (server, client) = pair(router).await;
    let call = spawn_call(&client, "hang");
    until("it is served", || server.in_flight() == 1).await;
    client.close("enough");
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Unavailable, Processed::Maybe));
    assert!(!error.is_retryable() && error.is_retryable_if_idempotent());
    assert_eq!(client.close_reason(), Some(CloseReason::ClosedHere));
    until("the server is idle", || server.in_flight() == 0).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn dropping_the_last_handle_stops_serving_but_no_client() {
    let other = serve(Router::new(), TransportConfig::default());
    let node = endpoint("node", TransportConfig::default());
    let server = node.serve(Router::new());
    let inbound = endpoint(CLIENT, TransportConfig::default())
        .connect(node.local_addr(), "node")
        .await
        .unwrap();
    let outbound = node.connect(other.local_addr(), SERVER).await.unwrap();
    drop((node, server));
    assert_eq!(within(inbound.closed()).await, CloseReason::ShutDown);
    assert_answers(&outbound).await;
}

#[test]
fn callers_of_a_killed_node_are_reset_when_it_restarts() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let (killed, ours) = (runtime(), runtime());
    let tls = identity(SERVER);
    let bind = || Endpoint::bind(loopback(), never_idle(), tls.clone());
    let router = || Router::new().typed("alive", |n: u32| async move { n + 1 });
    let server = killed.block_on(async { bind().unwrap().serve(router()) });
    let addr = server.local_addr();
    let client = ours.block_on(async {
        let client = endpoint(CLIENT, never_idle());
        let client = client.connect(addr, SERVER).await.unwrap();
        assert_answers(&client).await;
        client
    });
    // Its tasks are gone before its handles are: no close is sent.
    killed.shutdown_timeout(TEST_TIMEOUT);
    drop(server);
    ours.block_on(async {
        assert!(!client.is_closed());
        let again = rebind(addr, never_idle(), &tls).await.serve(router());
        let options = CallOptions::new().without_deadline();
        let error = within(client.call_with("alive", "", options))
            .await
            .unwrap_err();
        // Certainly unprocessed if a late acknowledgement of the client was the first packet that
        // the new server received.
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(within(client.closed()).await, CloseReason::Restarted);
        assert_serves(&again).await;
    });
}

#[tokio::test]
async fn on_event_reports_drain_and_close_at_once() {
    let (server, client) = pair(Router::new()).await;
    let events: Arc<Mutex<Vec<ConnectionEvent>>> = Arc::default();
    let listen = |client: &RpcClient| {
        let events = Arc::clone(&events);
        client.on_event(move |event| events.lock().push(event));
    };
    listen(&client);
    assert_eq!(*events.lock(), []);
    server.set_draining(true);
    until("the event arrives", || events.lock().len() == 1).await;
    // A callback that is set later is told the current state.
    listen(&client);
    server.set_draining(false);
    until("the event arrives", || events.lock().len() == 3).await;
    assert_eq!(
        *events.lock(),
        [true, true, false].map(ConnectionEvent::Draining)
    );
    events.lock().clear();
    server.shutdown(Duration::from_secs(1)).await;
    until("the event arrives", || {
        events.lock().last() == Some(&ConnectionEvent::Closed(CloseReason::ShutDown))
    })
    .await;
    events.lock().clear();
    listen(&client);
    assert_eq!(
        *events.lock(),
        [ConnectionEvent::Closed(CloseReason::ShutDown)]
    );
}

/// On one thread: the caller has not learnt of the drain when it sends.
#[tokio::test]
async fn an_advertised_drain_still_serves_calls() {
    let (server, client) = pair(Router::new()).await;
    assert_answers(&client).await;
    server.advertise_draining(true);
    assert_answers(&client).await;
    assert!(client.load().expect("it answered").draining);
    until("the caller is told", || client.is_draining()).await;
    let later = connect(&server).await;
    assert!(later.is_draining(), "the hello says so");
    for client in [&client, &later] {
        let error = within(client.call("alive", ""))
            .await
            .expect_err("it knows");
        assert_eq!(error.code(), Code::Draining);
    }
    assert_eq!(server.stats().calls_rejected_draining, 0, "none was sent");

    server.advertise_draining(false);
    until("the caller is told", || !client.is_draining()).await;
    // A rejection is not withdrawn.
    server.advertise_draining(true);
    server.set_draining(true);
    let rejected = within(client.call("alive", "")).await;
    assert_eq!(rejected.expect_err("it drains").code(), Code::Draining);
    server.advertise_draining(false);
    assert!(server.endpoint().is_draining());
    server.set_draining(false);
    until("the caller is told", || !client.is_draining()).await;
    assert_answers(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn calls_whose_handlers_block_their_threads_count_as_cancelled() {
    let (release, blocked) = std::sync::mpsc::sync_channel::<()>(0);
    let blocked = Arc::new(Mutex::new(blocked));
    let block = move || {
        let blocked = Arc::clone(&blocked);
        move |_cx: CallContext, body| {
            let blocked = Arc::clone(&blocked);
            async move {
                // Until the test is over: the first waits holding the lock, the others for it.
                let _ = blocked.lock().recv();
                Ok(body)
            }
        }
    };
    let router = Router::new()
        .raw("inline", block())
        .raw("spawned", block())
        .with_dispatch("spawned", Dispatch::Spawned);
    let server = serve(router, no_drain_grace());
    let mut calls = Vec::new();
    for (method, isolated) in [("inline", false), ("spawned", false), ("inline", true)] {
        let client = connect(&server).await;
        let options = CallOptions::new().with_isolated(isolated);
        calls.push(tokio::spawn(async move {
            client.call_with(method, "", options).await
        }));
    }
    until("all block", || server.in_flight() == 3).await;
    let report = within(server.shutdown(Duration::from_millis(50))).await;
    assert_eq!((report.completed, report.cancelled), (0, 3));
    drop(release);
    for call in calls {
        within(call).await.unwrap().unwrap_err();
    }
}
