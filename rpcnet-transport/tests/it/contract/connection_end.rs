//! Tests of the end of a connection, and of when the peers learn it, in virtual time.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
};

use futures::future::{join_all, pending};
use rpcnet_transport::{
    CallOptions, CloseReason, Code, ConnectError, ConnectionEvent, PeerIdentity, Processed,
    Receiver, Router, RpcClient, RpcError, RpcServer, Sender,
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::*;

/// Server and client at a round trip of 4 ms.
struct Pair {
    network: MemoryNetwork,
    server: RpcServer,
    node: Endpoint,
    client: RpcClient,
}

fn router() -> Router {
    Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .with_replay_safe("echo")
        .raw("hang", |_cx, _body| pending())
        .server_streaming("silence", |_cx, _: u32, to: Sender<u32>| async move {
            let _to = to;
            pending().await
        })
}

fn two(config: TransportConfig) -> (MemoryNetwork, RpcServer, Endpoint) {
    let network = MemoryNetwork::new();
    network.set_delay(Duration::from_millis(2));
    let server = DatagramNetwork::bind(&network, "server", config).serve(router());
    let node = DatagramNetwork::bind(&network, "client", TransportConfig::lan());
    (network, server, node)
}

async fn pair() -> Pair {
    let (network, server, node) = two(TransportConfig::lan());
    let client = node.connect(server.local_addr(), "server").await.unwrap();
    Pair {
        network,
        server,
        node,
        client,
    }
}

impl Pair {
    /// Calls of all kinds that the server does not end.
    async fn calls(&self) -> Vec<JoinHandle<RpcError>> {
        let options = CallOptions::new().without_deadline();
        let mut calls = Vec::new();
        for isolated in [false, true] {
            let client = self.client.clone();
            let options = options.with_isolated(isolated);
            calls.push(tokio::spawn(async move {
                client.call_with("hang", "", options).await.unwrap_err()
            }));
        }
        let silence = self
            .client
            .call_server_streaming_with("silence", &0u32, options);
        let mut silence: Receiver<u32> = silence.await.unwrap();
        calls.push(tokio::spawn(
            async move { silence.message().await.unwrap_err() },
        ));
        until("all are served", || self.server.in_flight() == 3).await;
        calls
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_end_with_their_connection_say_why() {
    type End = (&'static str, fn(&Pair) -> JoinHandle<()>);
    let ends: [End; 6] = [
        ("the server shut down", |pair| {
            let server = pair.server.clone();
            tokio::spawn(async move {
                server.shutdown(Duration::ZERO).await;
            })
        }),
        ("the server disconnected this node", |pair| {
            assert_eq!(pair.server.endpoint().disconnect("client"), 1);
            tokio::spawn(async {})
        }),
        ("this node disconnected the server", |pair| {
            assert_eq!(pair.node.disconnect("server"), 1);
            tokio::spawn(async {})
        }),
        ("connection closed by this node: enough", |pair| {
            pair.client.close("enough");
            tokio::spawn(async {})
        }),
        ("this node shut down", |pair| {
            let node = pair.node.clone();
            tokio::spawn(async move {
                node.shutdown(Duration::ZERO).await;
            })
        }),
        ("the connection was lost: idle timeout", |pair| {
            let (node, server) = (pair.node.local_addr(), pair.server.local_addr());
            pair.network.partition(node, server);
            tokio::spawn(async {})
        }),
    ];
    for (why, end) in ends {
        let pair = pair().await;
        let calls = pair.calls().await;
        let ended = end(&pair);
        for error in join_all(calls).await {
            let error = error.unwrap();
            assert!(error.message().starts_with(why), "{why}: {error:?}");
            // A handler that the deadline of the shutdown cut was cancelled.
            assert!(
                matches!(error.code(), Code::Unavailable | Code::Cancelled),
                "{error:?}"
            );
            assert_eq!(error.processed(), Processed::Maybe, "{error:?}");
        }
        ended.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_time_tells_callers_and_counts_cancelled_calls() {
    let pair = pair().await;
    let calls = pair.calls().await;
    let before = Instant::now();
    let report = pair.server.shutdown(Duration::ZERO).await;
    assert!(before.elapsed() <= Duration::from_millis(2));
    assert_eq!((report.completed, report.cancelled), (0, 3));
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(pair.client.closed().await, CloseReason::ShutDown);
    let took = before.elapsed();
    assert!(took < Duration::from_millis(20), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_close_is_repeated_when_the_other_side_sends() {
    let pair = pair().await;
    let (node, server) = (pair.node.local_addr(), pair.server.local_addr());
    pair.network.partition(node, server);
    pair.server.endpoint().disconnect("client");
    tokio::time::sleep(Duration::from_millis(1)).await;
    pair.network.heal(node, server);
    assert!(!pair.client.is_closed());
    let before = Instant::now();
    let error = pair.client.call("echo", "").await.unwrap_err();
    assert_eq!(error.message(), "the server disconnected this node");
    assert_eq!(
        (error.code(), error.processed()),
        (Code::Draining, Processed::No)
    );
    let took = before.elapsed();
    assert!(took < Duration::from_millis(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_a_silent_peer_is_detected_within_the_idle_timeout_and_a_keep_alive() {
    let config = TransportConfig::lan();
    let (idle, keep_alive) = (Duration::from_secs(15), Duration::from_secs(5));
    assert_eq!(config, config.clone().with_idle_timeout(idle));
    for quiet_ms in [0, 1_000, 4_900, 5_100] {
        let pair = pair().await;
        pair.client.call("echo", "").await.unwrap();
        tokio::time::sleep(Duration::from_millis(quiet_ms)).await;
        let (node, server) = (pair.node.local_addr(), pair.server.local_addr());
        pair.network.partition(node, server);
        let before = Instant::now();
        let options = CallOptions::new().without_deadline();
        // In one case a call asks for an answer at once, as a keep-alive does later.
        if quiet_ms == 1_000 {
            pair.client
                .call_with("echo", "", options)
                .await
                .unwrap_err();
        }
        assert_eq!(pair.client.closed().await, CloseReason::TimedOut);
        let took = before.elapsed();
        let slack = Duration::from_millis(200);
        assert!(
            took > idle - keep_alive,
            "quiet for {quiet_ms} ms: {took:?}"
        );
        assert!(took < idle + keep_alive + slack, "{quiet_ms} ms: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_being_made_does_not_outlive_a_disconnect() {
    let (_network, server, node) = two(TransportConfig::lan().with_early_data(true));
    let addr = server.local_addr();
    for ms in 0..8 {
        let dialling = tokio::spawn({
            let node = node.clone();
            async move { node.connect(addr, "server").await }
        });
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        assert_eq!(node.disconnect("SERVER."), 1, "after {ms} ms");
        match dialling.await.unwrap() {
            // A hello takes two packets at least.
            Ok(client) if ms >= 4 => assert_eq!(client.closed().await, CloseReason::ClosedHere),
            made => {
                let error = made.unwrap_err();
                assert!(error.is_retryable() && !error.is_local());
                assert!(
                    matches!(error, ConnectError::Disconnected { addr: dialled } if dialled == addr),
                    "after {ms} ms: {error:?}"
                );
            }
        }
        let client = node.connect(addr, "server").await.unwrap();
        client.call("echo", "").await.unwrap();
        client.close("for now");
        tokio::time::sleep(Duration::from_millis(1)).await;
        let early = node.connect_early(addr, "server").await.unwrap();
        assert!(!early.is_confirmed());
        tokio::time::sleep(Duration::from_millis(ms / 2)).await;
        assert_eq!(node.disconnect("server"), 1, "after {ms} ms");
        let error = early.confirmed().await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Disconnected { .. }),
            "{error:?}"
        );
        assert!(early.is_closed());
    }
    assert_eq!(node.disconnect("server"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_of_a_closed_connection_does_not_change_its_reason() {
    let pair = pair().await;
    assert_eq!(pair.server.endpoint().disconnect("client"), 1);
    until("it is closed", || pair.client.is_closed()).await;
    pair.client.close("too late");
    let reason = pair.client.close_reason();
    assert_eq!(reason, Some(CloseReason::Disconnected));
}

#[tokio::test]
async fn a_close_by_the_server_is_reported_although_the_client_is_dropped_at_once() {
    let (_network, server, node) = two(TransportConfig::lan());
    // The report was left out at random.
    for round in 0..16 {
        let client = node.connect(server.local_addr(), "server").await.unwrap();
        let (report, mut reports) = mpsc::channel(1);
        client.on_event(move |event| report.try_send(event).unwrap());
        // This task runs between the close and its event, on the one thread of the runtime.
        let dropping = tokio::spawn(poll_fn(move |cx| {
            if client.is_closed() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        assert_eq!(server.endpoint().disconnect("client"), 1);
        within(dropping).await.unwrap();
        let closed = ConnectionEvent::Closed(CloseReason::Disconnected);
        assert_eq!(within(reports.recv()).await, Some(closed), "{round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_a_node_has_begun_does_not_outlive_its_disconnect() {
    for early_data in [false, true] {
        let (_network, server, node) = two(TransportConfig::lan().with_early_data(early_data));
        let addr = server.local_addr();
        // First without a session, then with one. A packet takes 2 ms; the hello has arrived after
        // 8 ms.
        for ms in [3, 4, 5, 6, 7, 3, 4, 5] {
            let dialling = tokio::spawn({
                let node = node.clone();
                async move { node.connect_early(addr, "server").await }
            });
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            server.endpoint().disconnect("other");
            server.endpoint().disconnect("client");
            match dialling.await.unwrap() {
                // A caller with a session may be accepted before it is disconnected.
                Ok(client) => match client.confirmed().await {
                    Ok(()) => {
                        let closed = within(client.closed()).await;
                        assert_eq!(closed, CloseReason::Disconnected);
                    }
                    Err(error) => {
                        assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
                    }
                },
                Err(error) => assert!(
                    matches!(&error, ConnectError::Refused { reason, .. } if reason.contains("disconnected")),
                    "after {ms} ms: {error:?}"
                ),
            }
            assert_eq!(server.endpoint().disconnect("client"), 0, "after {ms} ms");
            // Connections begun afterwards are established.
            let client = node.connect(addr, "server").await.unwrap();
            client.call("echo", "").await.unwrap();
            client.close("for now");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_denied_later_resumes_no_session_without_early_data_either() {
    let denied = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&denied);
    let config = TransportConfig::lan().with_authorizer(move |node: &PeerIdentity<'_>| {
        assert_ne!(node.fingerprint(), [0; 32]);
        match asked.load(SeqCst) {
            true => Err("retired".to_owned()),
            false => Ok(()),
        }
    });
    let (_network, server, node) = two(config);
    let addr = server.local_addr();
    let client = node.connect(addr, "server").await.unwrap();
    client.call("echo", "").await.unwrap();
    client.close("for now");
    denied.store(true, SeqCst);
    // Each completed handshake issues a session, even to a node that is denied: it is checked again
    // each time.
    for resumed in 1..4 {
        let error = node.connect(addr, "server").await.unwrap_err();
        assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
        let stats = server.stats();
        assert_eq!(
            (stats.sessions_resumed, stats.connections_denied),
            (resumed, resumed)
        );
    }
    assert_eq!(server.stats().connections_accepted, 1);
    denied.store(false, SeqCst);
    let client = node.connect(addr, "server").await.unwrap();
    client.call("echo", "").await.unwrap();
}
