//! Tests of identities: what handlers, authorizers and callers see of the other side.

use parking_lot::Mutex;
use rpcnet_transport::{
    Access, AllowTable, CallOptions, Callers, CertificateOptions, Identity, PeerIdentity, Priority,
};

use super::{tls_reload::on_loopback, *};

/// Identities that a method and an authorizer have seen.
#[derive(Clone, Default)]
struct Seen {
    called: Arc<Mutex<Vec<Option<Identity>>>>,
    authorized: Arc<Mutex<Vec<Identity>>>,
}

impl Seen {
    /// Server whose method `look` and whose authorizer record the identity of the caller.
    fn serve(&self, tls: &Tls) -> RpcServer {
        let authorized = Arc::clone(&self.authorized);
        let config = TransportConfig::default().with_early_data(true);
        let config = config.with_authorizer(move |node: &PeerIdentity<'_>| {
            assert_eq!(node.peer().identity(), Some(node.identity()));
            assert_eq!(node.certificate(), node.identity().certificate());
            assert_eq!(node.fingerprint(), node.identity().fingerprint());
            authorized.lock().push(node.identity().clone());
            Ok(())
        });
        let called = Arc::clone(&self.called);
        let router = Router::new().raw("look", move |cx, body| {
            called.lock().push(cx.peer().identity().cloned());
            async move { Ok(body) }
        });
        let endpoint = Endpoint::bind(loopback(), config, tls.clone()).expect("a free port");
        endpoint.serve(router.with_replay_safe("look"))
    }

    fn take(&self) -> (Vec<Option<Identity>>, Vec<Identity>) {
        let called = std::mem::take(&mut *self.called.lock());
        (called, std::mem::take(&mut *self.authorized.lock()))
    }
}

/// Identity with a URI.
fn with_uri(name: &str, uri: &str) -> Tls {
    let options = CertificateOptions::new().with_uri(uri);
    CA.issue_with(name, &options).expect("valid names")
}

const RENDER: &str = "spiffe://example.org/render/worker";

async fn look(client: &RpcClient) {
    let options = CallOptions::new().with_replay_safe(true);
    let looked = within(client.call_with("look", "", options)).await;
    looked.expect("a reply");
}

#[tokio::test]
async fn both_sides_see_the_identity_of_the_other_in_every_kind_of_handshake() {
    let (seen, tls) = (Seen::default(), with_uri(SERVER, "urn:server"));
    let server = seen.serve(&tls);
    let caller = with_uri(CLIENT, RENDER);
    let node = on_loopback(&caller);
    let expected = (
        vec![Some(caller.identity().clone())],
        vec![caller.identity().clone()],
    );
    // A full handshake, and one that resumes its session.
    for resumed in 0..2 {
        let client = within(node.connect(server.local_addr(), SERVER)).await;
        let client = client.expect("a connection");
        assert_eq!(client.peer().identity(), Some(tls.identity()));
        look(&client).await;
        assert_eq!(seen.take(), expected);
        assert_eq!(server.stats().sessions_resumed, resumed);
        client.close("for now");
    }
    // Early data.
    let client = within(node.connect_early(server.local_addr(), SERVER)).await;
    let client = client.expect("a client");
    let before = client.peer().clone();
    assert!(!client.is_confirmed() && before.identity().is_none());
    look(&client).await;
    within(client.confirmed()).await.expect("accepted");
    for peer in [client.peer(), &before] {
        assert_eq!(peer.identity(), Some(tls.identity()));
    }
    look(&client).await;
    assert_eq!(server.stats().calls_early, 1);
    let (called, authorized) = seen.take();
    assert_eq!(called, vec![expected.0[0].clone(); 2]);
    assert_eq!(authorized, expected.1);
    let identity = called[0].as_ref().expect("it has one");
    assert!(identity.uris().eq([RENDER]));
    assert!(identity.dns_names().eq([CLIENT]));
}

#[tokio::test]
async fn an_identity_stays_as_long_as_the_connection() {
    let (seen, tls) = (Seen::default(), with_uri(SERVER, "urn:old-server"));
    let server = seen.serve(&tls);
    let (old, new) = (with_uri(CLIENT, "urn:old"), with_uri(CLIENT, "urn:new"));
    let node = on_loopback(&old);
    let connect = async || within(node.connect(server.local_addr(), SERVER)).await;
    let first = connect().await.expect("a connection");
    look(&first).await;
    node.reload_tls(new.clone()).expect("a valid identity");
    let new_server = with_uri(SERVER, "urn:new-server");
    let reloaded = server.endpoint().reload_tls(new_server.clone());
    reloaded.expect("a valid identity");
    let second = connect().await.expect("a connection");
    for (client, caller, callee) in [(&first, &old, &tls), (&second, &new, &new_server)] {
        seen.take();
        look(client).await;
        assert_eq!(seen.take().0, [Some(caller.identity().clone())]);
        assert_eq!(client.peer().identity(), Some(callee.identity()));
    }
}

#[tokio::test]
async fn a_call_in_this_process_has_no_identity() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&seen);
    let router = Router::new().typed_with("look", move |cx: CallContext, (): ()| {
        recorded.lock().push(cx.peer().clone());
        async {}
    });
    let channel = rpcnet_transport::LocalChannel::new(router);
    const LOOK: rpcnet_transport::Method<(), ()> = rpcnet_transport::Method::new("look");
    LOOK.call(&channel, &()).await.expect("a reply");
    let peer = seen.lock().pop().expect("called");
    assert_eq!((peer.name(), peer.identity()), ("local", None));
}

/// The table as a handler asks it: the whole way from the certificate to the decision.
#[tokio::test]
async fn an_allow_table_decides_by_the_verified_identity() {
    let uris = Callers::uris(["spiffe://example.org/render/*"]);
    let table = AllowTable::new()
        .allow("look", uris.with_priority_max(Priority::CriticalPlus))
        .allow("look", Callers::names(["client-*"]));
    let decided = Arc::new(Mutex::new(Vec::new()));
    let decisions = Arc::clone(&decided);
    let router = Router::new().raw("look", move |cx, body| {
        decisions.lock().push(table.decide(cx.method(), cx.peer()));
        async move { Ok(body) }
    });
    let server = serve(router, TransportConfig::default());
    let up_to = |priority_max| Access::Allowed { priority_max };
    for (tls, access) in [
        (with_uri("other", RENDER), up_to(Priority::CriticalPlus)),
        (with_uri(CLIENT, "urn:a"), up_to(Priority::Critical)),
        (with_uri("other", "urn:a"), Access::Denied),
    ] {
        let client = within(on_loopback(&tls).connect(server.local_addr(), SERVER)).await;
        look(&client.expect("a connection")).await;
        assert_eq!(decided.lock().pop(), Some(access));
    }
}
