//! What is heard of the end of a connection, and when, in virtual time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use rpcnet_transport::{CloseReason, ConnectError, PeerIdentity, Router, RpcServer};

use super::*;

fn router() -> Router {
    Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .with_replay_safe("echo")
}

fn two(config: TransportConfig) -> (MemoryNetwork, RpcServer, Endpoint) {
    let network = MemoryNetwork::new();
    network.set_delay(Duration::from_millis(2));
    let server = Carrier::bind(&network, "server", config).serve(router());
    let node = Carrier::bind(&network, "client", TransportConfig::lan());
    (network, server, node)
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
async fn a_handshake_that_a_node_has_begun_does_not_outlive_its_disconnect() {
    for early_data in [false, true] {
        let (_network, server, node) = two(TransportConfig::lan().with_early_data(early_data));
        let addr = server.local_addr();
        // Without a session first, with one then. A packet takes 2 ms, the hello has arrived after
        // 8.
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
                // One with a session may be told that it is let in, before it is disconnected.
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
            // What is begun after it is made.
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
    // Each handshake that ends hands out a session, that of a node which is denied too: it is
    // judged again each time.
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
