//! Tests of session resumption.

use rpcnet_transport::ConnectError;

use super::{
    tls_reload::{on_loopback, trusting_both},
    *,
};

/// Returns the caller's name.
fn who() -> Router {
    Router::new().typed_with("who", |cx: CallContext, (): ()| async move {
        cx.peer().name().to_owned()
    })
}

async fn assert_is_seen_as(client: &RpcClient, name: &str) {
    let seen: String = within(client.call_typed("who", &()))
        .await
        .expect("a reply");
    assert_eq!(seen, name);
}

async fn connect_from(node: &Endpoint, server: &RpcServer) -> RpcClient {
    within(node.connect(server.local_addr(), SERVER))
        .await
        .expect("a connection")
}

#[tokio::test]
async fn a_resumed_session_keeps_the_peer_name() {
    let server = serve(who(), TransportConfig::default());
    let node = endpoint(CLIENT, TransportConfig::default());
    let other = endpoint("client-2", TransportConfig::default());
    for resumed in 0..4 {
        let client = connect_from(&node, &server).await;
        assert_is_seen_as(&client, CLIENT).await;
        assert_eq!(client.peer().name(), SERVER);
        assert_is_seen_as(&connect_from(&other, &server).await, "client-2").await;
        assert_eq!(server.stats().sessions_resumed, 2 * resumed);
    }
    assert_eq!(server.stats().connections_accepted, 8);
}

#[tokio::test]
async fn a_session_is_for_one_name_at_one_address() {
    let server = serve(who(), TransportConfig::default());
    let twin = on_loopback(&identity(SERVER)).serve(who());
    let node = endpoint(CLIENT, TransportConfig::default());
    assert_is_seen_as(&connect_from(&node, &server).await, CLIENT).await;
    let error = within(node.connect(server.local_addr(), "server-2"))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::WrongNode { .. }), "{error:?}");
    assert_is_seen_as(&connect_from(&node, &twin).await, CLIENT).await;
    let resumed = |server: &RpcServer| server.stats().sessions_resumed;
    assert_eq!((resumed(&server), resumed(&twin)), (0, 0));
    connect_from(&node, &server).await;
    assert_eq!((resumed(&server), resumed(&twin)), (1, 0));
}

#[tokio::test]
async fn a_caller_of_a_removed_authority_cannot_resume() {
    let other = DevCa::new("other");
    let server = on_loopback(&trusting_both(&CA, &other, SERVER)).serve(who());
    let node = on_loopback(&trusting_both(&other, &CA, CLIENT));
    for _ in 0..2 {
        assert_is_seen_as(&connect_from(&node, &server).await, CLIENT).await;
    }
    assert_eq!(server.stats().sessions_resumed, 1);
    server.endpoint().reload_tls(identity(SERVER)).unwrap();
    let error = connect_error(&node, &server).await;
    assert!(
        matches!(error, ConnectError::CertificateRejected { .. }),
        "{error:?}"
    );
    assert_eq!(server.stats().sessions_resumed, 1);
}

#[tokio::test]
async fn a_server_of_a_removed_authority_is_not_resumed() {
    let other = DevCa::new("other");
    let server = on_loopback(&trusting_both(&other, &CA, SERVER)).serve(who());
    let node = on_loopback(&trusting_both(&CA, &other, CLIENT));
    for _ in 0..2 {
        assert_is_seen_as(&connect_from(&node, &server).await, CLIENT).await;
    }
    assert_eq!(server.stats().sessions_resumed, 1);
    node.reload_tls(identity(CLIENT)).unwrap();
    let error = connect_error(&node, &server).await;
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
    assert_eq!(server.stats().sessions_resumed, 1);
}

#[tokio::test]
async fn a_caller_without_certificate_gets_no_session() {
    let server = serve(who(), TransportConfig::default());
    let stranger = hostile_caller::quic_endpoint();
    // One config remembers sessions from one connection to the next.
    let config = hostile_caller::client_config(None, b"rpcnet/1");
    for failed in 1..=3 {
        let connecting = stranger
            .connect_with(config.clone(), server.local_addr(), SERVER)
            .unwrap();
        if let Ok(connection) = within(connecting).await {
            within(connection.closed()).await;
        }
        counts(&server, "failed handshakes", failed, |s| {
            s.handshakes_failed
        })
        .await;
    }
    let stats = server.stats();
    assert_eq!((stats.connections_accepted, stats.sessions_resumed), (0, 0));
}

#[tokio::test]
async fn sessions_with_zero_lifetime_are_not_resumed() {
    let never = || TransportConfig::default().with_session_lifetime(Duration::ZERO);
    for (ours, theirs) in [
        (never(), TransportConfig::default()),
        (TransportConfig::default(), never()),
    ] {
        let server = serve(who(), theirs);
        let node = endpoint(CLIENT, ours);
        for _ in 0..2 {
            assert_is_seen_as(&connect_from(&node, &server).await, CLIENT).await;
        }
        assert_eq!(server.stats().sessions_resumed, 0);
    }
}

#[tokio::test]
async fn callers_reconnect_to_a_restarted_server_by_full_handshake() {
    let config = TransportConfig::default;
    let server = serve(who(), config());
    let node = endpoint(CLIENT, config());
    let addr = server.local_addr();
    assert_is_seen_as(&connect_from(&node, &server).await, CLIENT).await;
    within(server.shutdown(TEST_TIMEOUT)).await;
    drop(server);
    let again = rebind(addr, config(), &identity(SERVER)).await.serve(who());
    assert_is_seen_as(&connect_from(&node, &again).await, CLIENT).await;
    assert_eq!(again.stats().sessions_resumed, 0);
    assert_is_seen_as(&connect_from(&node, &again).await, CLIENT).await;
    assert_eq!(again.stats().sessions_resumed, 1);
}
