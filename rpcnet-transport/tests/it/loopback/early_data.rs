//! Tests of early data: calls that are sent before the handshake completes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use futures::{FutureExt, StreamExt, future::join};
use parking_lot::Mutex;
use rpcnet_transport::{
    CallEnd, CallOptions, ClientLayer, Code, ConnectError, Method, MethodOptions, OutgoingCall,
    Processed,
};

use super::{
    packet_relay::{PacketRelay, RecordedPackets},
    tls_reload::{on_loopback, trusting_both},
    *,
};

/// Run counts of the two methods.
#[derive(Clone, Default)]
struct RunCounts {
    look: Arc<AtomicU64>,
    change: Arc<AtomicU64>,
}

impl RunCounts {
    /// `look` is replay-safe and `change` is not. Both return the caller's name.
    fn router(&self) -> Router {
        let method = |count: &Arc<AtomicU64>| {
            let count = Arc::clone(count);
            move |cx: CallContext, _n: u32| {
                count.fetch_add(1, SeqCst);
                async move { cx.peer().name().to_owned() }
            }
        };
        Router::new()
            .typed_with("look", method(&self.look))
            .typed_with("change", method(&self.change))
            .with_replay_safe("look")
    }

    fn times(&self) -> (u64, u64) {
        (self.look.load(SeqCst), self.change.load(SeqCst))
    }
}

struct EarlySetup {
    server: RpcServer,
    relay: PacketRelay,
    node: Endpoint,
    ran: RunCounts,
}

impl EarlySetup {
    /// Caller with a session of a server, and a relay between them.
    async fn new(config: TransportConfig) -> Self {
        Self::of(endpoint(SERVER, config), identity(CLIENT)).await
    }

    async fn of(server: Endpoint, client: Tls) -> Self {
        let ran = RunCounts::default();
        let server = server.serve(ran.router());
        let relay = PacketRelay::to(&server).await;
        let node = on_loopback(&client);
        let client = within(node.connect(relay.addr, SERVER)).await.unwrap();
        // The ticket arrived with the hello, or before the reply.
        let seen: String = within(client.call_typed("change", &0u32)).await.unwrap();
        assert_eq!(seen, CLIENT);
        ran.change.store(0, SeqCst);
        client.close("for now");
        relay.forget();
        Self {
            server,
            relay,
            node,
            ran,
        }
    }

    async fn connect_early(&self) -> RpcClient {
        let connecting = self.node.connect_early(self.relay.addr, SERVER);
        within(connecting).await.expect("a client")
    }
}

fn early() -> TransportConfig {
    TransportConfig::default().with_early_data(true)
}

fn replay_safe() -> CallOptions {
    CallOptions::new().with_replay_safe(true)
}

async fn look(client: &RpcClient) -> String {
    within(client.call_typed_with("look", &1u32, replay_safe()))
        .await
        .expect("a reply")
}

#[tokio::test]
async fn a_replay_safe_call_is_answered_before_the_handshake_is_over() {
    let setup = EarlySetup::new(early()).await;
    setup.relay.keep(RecordedPackets::Ends);
    let client = setup.connect_early().await;
    let ordinary = tokio::spawn({
        let client = client.clone();
        async move { client.call_typed::<_, String>("change", &1u32).await }
    });
    let streamed = tokio::spawn({
        let client = client.clone();
        async move { client.call_server_streaming::<_, u32>("none", &1u32).await }
    });
    // All of them before the first reply, with which the handshake is complete for the caller.
    let looks = futures::future::join_all((0..3).map(|_| look(&client)));
    assert_eq!(within(looks).await, [CLIENT; 3]);
    // The server has not seen the end of the handshake: nothing else was let through.
    let stats = setup.server.stats();
    assert_eq!(
        (
            stats.connections_accepted,
            stats.sessions_resumed,
            stats.calls_early
        ),
        (1, 1, 3)
    );
    assert_eq!(setup.ran.times(), (3, 0));
    assert!(!ordinary.is_finished());
    setup.relay.keep(RecordedPackets::Nothing);
    assert_eq!(within(ordinary).await.unwrap().unwrap(), CLIENT);
    let unknown = within(streamed).await.unwrap().unwrap().next().await;
    assert_eq!(unknown.unwrap().unwrap_err().code(), Code::Unimplemented);
    within(client.confirmed()).await.unwrap();
    assert!(client.is_confirmed());
    // From here on it is a client like any other.
    assert_eq!(look(&client).await, CLIENT);
    let stats = setup.server.stats();
    assert_eq!((stats.connections_accepted, stats.calls_early), (2, 3));
    assert_eq!(setup.ran.times(), (4, 1));
    assert_eq!(setup.node.stats().early_data_rejected, 0);
    assert_eq!((client.in_flight(), client.is_draining()), (0, false));
}

#[tokio::test]
async fn a_method_that_is_not_declared_replay_safe_waits_for_the_handshake() {
    let setup = EarlySetup::new(early()).await;
    setup.relay.keep(RecordedPackets::Ends);
    let client = setup.connect_early().await;
    let call = tokio::spawn({
        let client = client.clone();
        async move {
            let call = client.call_typed_with::<_, String>("change", &1u32, replay_safe());
            call.await
        }
    });
    counts(&setup.server, "rejections", 1, |s| s.calls_rejected_early).await;
    assert_eq!(setup.ran.times(), (0, 0));
    setup.relay.keep(RecordedPackets::Nothing);
    assert_eq!(within(call).await.unwrap().unwrap(), CLIENT);
    assert_eq!(setup.ran.times(), (0, 1));
    let stats = setup.server.stats();
    assert_eq!((stats.calls_early, stats.calls_rejected_early), (0, 1));
}

#[tokio::test]
async fn rejected_early_data_is_answered_after_the_handshake() {
    let setup = EarlySetup::new(TransportConfig::default()).await;
    let client = setup.connect_early().await;
    assert!(client.is_confirmed());
    assert_eq!(look(&client).await, CLIENT);
    let stats = setup.server.stats();
    assert_eq!((stats.sessions_resumed, stats.calls_early), (1, 0));
    assert_eq!(setup.ran.times(), (1, 0));
}

#[tokio::test]
async fn without_a_session_connect_early_waits_for_the_handshake() {
    let ran = RunCounts::default();
    let server = endpoint(SERVER, early()).serve(ran.router());
    let node = endpoint(CLIENT, TransportConfig::default());
    let connecting = node.connect_early(server.local_addr(), SERVER);
    let client = within(connecting).await.unwrap();
    assert!(client.is_confirmed());
    within(client.confirmed()).await.unwrap();
    assert_eq!(look(&client).await, CLIENT);
    assert_eq!(server.stats().calls_early, 0);
    let nobody = node.connect_early(server.local_addr(), "a b").await;
    assert!(matches!(nobody, Err(ConnectError::InvalidName(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_early_calls_are_repeated_after_the_handshake() {
    let setup = EarlySetup::new(early()).await;
    // This ends the earlier sessions, and the server is the same.
    setup
        .server
        .endpoint()
        .reload_tls(identity(SERVER))
        .unwrap();
    setup.relay.keep(RecordedPackets::Everything);
    let client = setup.connect_early().await;
    assert!(!client.is_confirmed());
    // More calls than streams, so that some wait for a stream when the early data is rejected.
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let client = client.clone();
            let safe = n % 4 != 0;
            tokio::spawn(async move {
                let options = CallOptions::new().with_replay_safe(safe);
                client
                    .call_typed_with::<_, String>("look", &1u32, options)
                    .await
            })
        })
        .collect();
    // A call that is not polled does not delay the others.
    let mut forgotten = Box::pin(client.call_typed_with::<_, String>("look", &1u32, replay_safe()));
    assert!((&mut forgotten).now_or_never().is_none());
    until("they are under way", || client.in_flight() > 128).await;
    setup.relay.keep(RecordedPackets::Nothing);
    for call in calls {
        assert_eq!(within(call).await.unwrap().unwrap(), CLIENT);
    }
    assert_eq!(within(forgotten).await.unwrap(), CLIENT);
    let stats = setup.server.stats();
    assert_eq!((stats.calls_early, stats.sessions_resumed), (0, 0));
    assert_eq!(setup.ran.times(), (201, 0));
    assert_eq!(setup.node.stats().early_data_rejected, 1);
}

#[tokio::test]
async fn early_calls_to_an_untrusted_server_fail() {
    let other = DevCa::new("other");
    let server = Endpoint::bind(loopback(), early(), trusting_both(&CA, &other, SERVER));
    let setup = EarlySetup::of(server.unwrap(), trusting_both(&other, &CA, CLIENT)).await;
    setup
        .server
        .endpoint()
        .reload_tls(identity(SERVER))
        .unwrap();
    let client = setup.connect_early().await;
    let call = client.call_typed_with::<_, String>("look", &1u32, replay_safe());
    let error = within(call).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let error = within(client.confirmed()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::CertificateRejected { .. }),
        "{error:?}"
    );
    let error = within(client.call("change", "")).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Unavailable, Processed::No));
    assert!(client.is_closed());
    assert_eq!(setup.ran.times(), (0, 0));
}

#[tokio::test]
async fn replayed_first_packets_do_not_run_a_call_again() {
    // Long enough for the first handshakes, on a busy machine too.
    let config = early().with_connect_timeout(Duration::from_secs(2));
    let setup = EarlySetup::new(config).await;
    let client = setup.connect_early().await;
    assert_eq!(look(&client).await, CLIENT);
    within(client.confirmed()).await.unwrap();
    assert_eq!(setup.server.stats().calls_early, 1);
    client.close("done");
    let before = setup.server.stats();
    // As long as the server remembers the connection these are its packets; then they start a
    // handshake that is never finished.
    let deadline = Instant::now() + TEST_TIMEOUT;
    while setup.server.stats().handshakes_failed == 0 {
        assert!(Instant::now() < deadline, "no handshake was begun");
        setup.relay.replay().await;
        // A pause in which the server answers: without it the replays would fill its socket.
        sleep(Duration::from_millis(20)).await;
    }
    let after = setup.server.stats();
    assert_eq!(after.sessions_resumed, before.sessions_resumed);
    assert_eq!((after.calls_early, after.calls_rejected_early), (1, 0));
    assert_eq!(setup.ran.times(), (1, 0));
    assert!(setup.relay.answers() > 0);
}

#[tokio::test]
async fn early_calls_end_at_their_deadline_and_at_the_connect_timeout() {
    let setup = EarlySetup::new(early()).await;
    let node = &setup.node;
    setup.relay.keep(RecordedPackets::Everything);
    let client = setup.connect_early().await;
    let options = replay_safe().with_timeout(Duration::from_millis(100));
    let call = client.call_typed_with::<_, String>("look", &1u32, options);
    let error = within(call).await.unwrap_err();
    assert_eq!(
        outcome_of(&error),
        (Code::DeadlineExceeded, Processed::Maybe)
    );
    let options = CallOptions::new().with_timeout(Duration::from_millis(100));
    let call = client.call_typed_with::<_, String>("look", &1u32, options);
    let error = within(call).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::DeadlineExceeded, Processed::No));
    // Dropping the call releases the connection.
    let shutdown = tokio::spawn({
        let node = node.clone();
        async move { node.shutdown(TEST_TIMEOUT).await }
    });
    within(shutdown).await.unwrap();
    let error = within(client.confirmed()).await.unwrap_err();
    assert!(matches!(error, ConnectError::EndpointClosed), "{error:?}");
    assert_eq!(setup.ran.times(), (0, 0));
}

#[tokio::test]
async fn the_server_times_out_an_unfinished_handshake_and_its_calls() {
    let (router, dropped) = hanging();
    let router = router.with_replay_safe("hang");
    let config = early()
        // Long enough for the first handshake, on a busy machine too.
        .with_connect_timeout(Duration::from_secs(2))
        .with_idle_timeout(Duration::from_secs(4))
        .with_keep_alive(Duration::from_secs(1));
    let setup = EarlySetup::new(config).await;
    setup.server.register_all(router);
    setup.relay.keep(RecordedPackets::Ends);
    let client = setup.connect_early().await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call_with("hang", "", replay_safe()).await }
    });
    within(dropped.next()).await;
    counts(&setup.server, "failed handshakes", 1, |s| {
        s.handshakes_failed
    })
    .await;
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Unavailable, Processed::Maybe));
}

const LOOK: Method<u32, String> =
    Method::new("typed look").with_options(MethodOptions::new().with_replay_safe(true));

/// Writes down what it sees of calls, and sets this metadata, if any.
#[derive(Clone, Default)]
struct Watching {
    seen: Arc<Mutex<Vec<String>>>,
    tenant: Option<&'static str>,
}

impl ClientLayer for Watching {
    fn before(&self, call: &mut OutgoingCall) -> Result<(), Status> {
        let set = self
            .tenant
            .map(|tenant| call.set_metadata("tenant", tenant));
        set.unwrap_or(Ok(()))
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn after(&self, call: &OutgoingCall, end: &CallEnd) {
        let (method, bytes) = (call.method(), call.request_bytes());
        let CallEnd {
            code, reply_bytes, ..
        } = end;
        let seen = format!("{method} {bytes}: {code:?} {reply_bytes}");
        self.seen.lock().push(seen);
    }
}

/// Makes an untyped and a typed call on an early connection, both before the first reply, with
/// which the handshake is complete for the caller. Returns the tenants that the server has seen,
/// and its count of early calls.
async fn look_in_layer(layer: Watching) -> (Vec<String>, u64) {
    let tenant = |cx: &CallContext| cx.metadata().text("tenant").unwrap_or("none").to_owned();
    let router = Router::new()
        .typed_with("look", move |cx, _: u32| async move { tenant(&cx) })
        .method_with(LOOK, move |cx, _| async move { tenant(&cx) })
        .with_replay_safe("look");
    let server = endpoint(SERVER, early()).serve(router);
    let relay = PacketRelay::to(&server).await;
    let config = TransportConfig::default().with_client_layer(layer.clone());
    let node = Endpoint::bind(loopback(), config, identity(CLIENT)).unwrap();
    let client = within(node.connect(relay.addr, SERVER)).await.unwrap();
    // The ticket has arrived when there is a reply.
    look(&client).await;
    client.close("for now");
    relay.forget();
    layer.seen.lock().clear();
    let client = within(node.connect_early(relay.addr, SERVER))
        .await
        .unwrap();
    let (untyped, typed) = within(join(look(&client), LOOK.call(&client, &1))).await;
    layer.seen.lock().sort();
    (vec![untyped, typed.unwrap()], server.stats().calls_early)
}

#[tokio::test]
async fn calls_through_a_layer_that_sets_nothing_are_early_data() {
    let layer = Watching::default();
    let (tenants, early) = look_in_layer(layer.clone()).await;
    assert_eq!((tenants, early), (vec!["none".to_owned(); 2], 2));
    assert_eq!(*layer.seen.lock(), ["look 1: Ok 5", "typed look 1: Ok 5"]);
}

#[tokio::test]
async fn calls_with_the_metadata_of_a_layer_wait_for_the_handshake() {
    let layer = Watching {
        tenant: Some("acme"),
        ..Watching::default()
    };
    let (tenants, early) = look_in_layer(layer.clone()).await;
    assert_eq!((tenants, early), (vec!["acme".to_owned(); 2], 0));
    assert_eq!(*layer.seen.lock(), ["look 1: Ok 5", "typed look 1: Ok 5"]);
}
