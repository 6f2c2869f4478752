//! Tests of authorization: denied and disconnected nodes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::future::{join_all, pending};
use parking_lot::Mutex;
use rpcnet_transport::{
    CallOptions, CloseReason, Code, ConnectError, PeerIdentity, Processed, RpcError,
};

use super::*;

/// Denied names, and the fingerprints of all nodes that asked.
#[derive(Clone, Default)]
struct Denied {
    names: Arc<Mutex<HashSet<String>>>,
    seen: Arc<Mutex<HashMap<String, [u8; 32]>>>,
}

impl Denied {
    fn config(&self) -> TransportConfig {
        let denied = self.clone();
        let config = TransportConfig::default().with_early_data(true);
        config.with_authorizer(move |node: &PeerIdentity<'_>| {
            let name = node.peer().name().to_owned();
            assert!(node.peer().addr().ip().is_loopback() && !node.certificate().is_empty());
            denied.seen.lock().insert(name.clone(), node.fingerprint());
            match denied.names.lock().contains(&name) {
                true => Err(format!("{name} is retired")),
                false => Ok(()),
            }
        })
    }

    fn deny(&self, name: &str) {
        self.names.lock().insert(name.to_owned());
    }
}

fn methods() -> Router {
    Router::new()
        .raw("look", |_cx, body| async move { Ok(body) })
        .with_replay_safe("look")
        .raw("hang", |_cx, _body| pending())
}

#[tokio::test]
async fn a_denied_node_gets_the_reason_and_is_not_served() {
    let denied = Denied::default();
    denied.deny(CLIENT);
    let server = serve(methods(), denied.config());
    let node = endpoint(CLIENT, TransportConfig::default());
    let error = connect_error(&node, &server).await;
    let ConnectError::Denied { addr, reason } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(
        (*addr, &**reason),
        (server.local_addr(), "client-1 is retired")
    );
    assert!(!error.is_retryable() && !error.is_local());
    let error = RpcError::from(error);
    assert_eq!(outcome_of(&error), (Code::PermissionDenied, Processed::No));
    assert!(!error.is_retryable());

    let other = endpoint("other", TransportConfig::default());
    let other = within(other.connect(server.local_addr(), SERVER))
        .await
        .unwrap();
    assert_answers(&other).await;
    let stats = server.stats();
    assert_eq!(
        (stats.connections_denied, stats.connections_accepted),
        (1, 1)
    );
    assert_eq!((stats.handshakes_failed, stats.calls_started), (0, 1));
    let seen = denied.seen.lock();
    assert!(seen[CLIENT] != seen["other"] && seen[CLIENT] != [0; 32]);
}

#[tokio::test]
async fn a_node_denied_later_cannot_resume_or_send_early_data() {
    let denied = Denied::default();
    let server = serve(methods(), denied.config());
    let node = endpoint(CLIENT, TransportConfig::default());
    let early = CallOptions::new().with_replay_safe(true);
    let client = within(node.connect(server.local_addr(), SERVER))
        .await
        .unwrap();
    client.call("look", "").await.unwrap();
    client.close("for now");
    // While it is allowed, its early calls run.
    let client = node
        .connect_early(server.local_addr(), SERVER)
        .await
        .unwrap();
    within(client.call_with("look", "", early)).await.unwrap();
    within(client.confirmed()).await.unwrap();
    assert_eq!(server.stats().calls_early, 1);
    client.close("for now");

    counts(&server, "connections", 2, |s| s.connections_accepted).await;
    denied.deny(CLIENT);
    let before = server.stats();
    let client = node
        .connect_early(server.local_addr(), SERVER)
        .await
        .unwrap();
    assert!(!client.is_confirmed(), "it has a session");
    let [look, hang] = within(async {
        let look = client.call_with("look", "", early);
        let hang = client.call_with("hang", "", CallOptions::new());
        let (look, hang) = tokio::join!(look, hang);
        [look, hang]
    })
    .await;
    for error in [look.unwrap_err(), hang.unwrap_err()] {
        assert_eq!(error.code(), Code::PermissionDenied, "{error:?}");
        assert_eq!(error.processed(), Processed::No, "{error:?}");
        assert!(error.to_string().contains("is retired"), "{error}");
    }
    let confirmed = within(client.confirmed()).await.unwrap_err();
    assert!(
        matches!(confirmed, ConnectError::Denied { .. }),
        "{confirmed:?}"
    );
    let after = server.stats();
    assert_eq!(after.calls_started, before.calls_started);
    assert_eq!(after.calls_early, before.calls_early);
    counts(&server, "denials", 1, |s| s.connections_denied).await;
    assert_eq!(after.connections_accepted, before.connections_accepted);
}

#[tokio::test]
async fn disconnect_closes_all_connections_of_that_node_only() {
    let denied = Denied::default();
    let server = serve(methods(), denied.config());
    let node = endpoint(CLIENT, TransportConfig::default());
    let other = endpoint("other", TransportConfig::default());
    let addr = server.local_addr();
    let clients = [
        within(node.connect(addr, SERVER)).await.unwrap(),
        within(node.connect(addr, SERVER)).await.unwrap(),
    ];
    let other = within(other.connect(addr, SERVER)).await.unwrap();
    let calls: Vec<_> = clients
        .iter()
        .flat_map(|client| [false, true].map(|isolated| (client.clone(), isolated)))
        .map(|(client, isolated)| {
            tokio::spawn(async move {
                let options = CallOptions::new().with_isolated(isolated);
                client.call_with("hang", "", options).await
            })
        })
        .collect();
    until("all run", || server.in_flight() >= 4).await;

    denied.deny(CLIENT);
    assert_eq!(server.endpoint().disconnect("nobody"), 0);
    assert_eq!(server.endpoint().disconnect(CLIENT), 2);
    assert_eq!(server.endpoint().disconnect(CLIENT), 0);
    for call in within(join_all(calls)).await {
        let error = call.unwrap().unwrap_err();
        assert_eq!(outcome_of(&error), (Code::Unavailable, Processed::Maybe));
    }
    for client in &clients {
        assert_eq!(within(client.closed()).await, CloseReason::Disconnected);
    }
    until("its handlers are dropped", || server.in_flight() == 0).await;
    assert_answers(&other).await;
    let stats = server.stats();
    assert_eq!(
        (stats.connections_disconnected, stats.calls_cancelled),
        (2, 4)
    );
    let error = within(node.connect(addr, SERVER)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");

    // Connections that it opened count too.
    let server = serve(methods(), TransportConfig::default());
    let client = within(node.connect(server.local_addr(), SERVER))
        .await
        .unwrap();
    assert_eq!(node.disconnect(SERVER), 1);
    assert_eq!(within(client.closed()).await, CloseReason::ClosedHere);
    assert_serves(&server).await;
}
