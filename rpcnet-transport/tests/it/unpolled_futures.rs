//! Futures that are kept without being polled, and messages that are abandoned.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::join, stream};
use rpcnet_transport::{
    Admission, CallOptions, Code, Endpoint, MemoryNetwork, Raw, Receiver, Router, RpcClient,
    RpcServer, Sender, Status, TransportConfig,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{bind_in_memory, concurrency::Concurrency};

const KIB: usize = 1_024;
const LARGE: usize = 250 * KIB;
const HUGE: usize = 1_024 * KIB;

struct Net {
    network: MemoryNetwork,
    server: RpcServer,
    /// Handlers of `duplex` that work.
    working: Concurrency,
}

impl Net {
    fn new(config: TransportConfig) -> Self {
        let network = MemoryNetwork::new();
        network.set_delay(Duration::from_millis(5));
        let working = Concurrency::default();
        let server = bind_in_memory(&network, "server", config).serve(methods(&working));
        Self {
            network,
            server,
            working,
        }
    }

    async fn connect(&self, name: &str, config: TransportConfig) -> (RpcClient, Endpoint) {
        let node = bind_in_memory(&self.network, name, config);
        let client = node.connect(self.server.local_addr(), "server").await;
        (client.expect("a connection"), node)
    }
}

fn methods(working: &Concurrency) -> Router {
    unary_methods()
        .merge(server_streams())
        .merge(uploads())
        .merge(duplex(working.clone()))
}

fn unary_methods() -> Router {
    Router::new()
        .raw(
            "take",
            |_cx, body: Bytes| async move { Ok(body.slice(..1)) },
        )
        .raw("slow", |_cx, body: Bytes| async move {
            sleep(Duration::from_millis(10)).await;
            Ok(body.slice(..1))
        })
        .raw("large", |_cx, _body| async { Ok(message(LARGE).0) })
        .raw("huge", |_cx, _body| async { Ok(message(HUGE).0) })
        .raw("small", |_cx, _body| async {
            sleep(Duration::from_secs(1)).await;
            Ok(message(8 * KIB).0)
        })
}

fn server_streams() -> Router {
    Router::new()
        .server_streaming("three", |_cx, (): (), mut out: Sender<Raw>| async move {
            for _ in 0..3 {
                out.send(message(20_000)).await?;
            }
            Ok::<_, Status>(())
        })
        .server_streaming("endless", |_cx, (): (), mut out: Sender<Raw>| async move {
            loop {
                out.send(message(LARGE)).await?;
            }
        })
        .server_streaming("kept", |_cx, (): (), mut out: Sender<Raw>| async move {
            let mut send = Box::pin(out.send(message(HUGE)));
            let _ = (&mut send).now_or_never();
            sleep(Duration::from_secs(300)).await;
            Ok::<_, Status>(send.await?)
        })
        .server_streaming("gap", |_cx, (): (), mut out: Sender<Raw>| async move {
            out.send(message(1)).await?;
            sleep(Duration::from_secs(3)).await;
            let given_up = timeout(Duration::from_secs(1), out.send(message(LARGE))).await;
            assert!(given_up.is_err(), "there is no reservation");
            out.send(message(3)).await?;
            Ok::<_, Status>(())
        })
}

fn uploads() -> Router {
    Router::new()
        .client_streaming("hold", |_cx, mut items: Receiver<Raw>| async move {
            let _held = items.message().await?;
            sleep(Duration::from_secs(20)).await;
            Ok::<_, Status>(0u64)
        })
        .client_streaming("impatient", |_cx, mut items: Receiver<Raw>| async move {
            let given_up = timeout(Duration::from_secs(1), items.message()).await;
            assert!(given_up.is_err(), "there is no reservation");
            sleep(Duration::from_secs(600)).await;
            drop(items);
            Ok::<_, Status>(0u64)
        })
        .client_streaming("polled", |_cx, mut items: Receiver<Raw>| async move {
            let given_up = timeout(Duration::from_secs(1), items.next()).await;
            assert!(given_up.is_err(), "there is no reservation");
            sleep(Duration::from_secs(600)).await;
            drop(items);
            Ok::<_, Status>(0u64)
        })
}

/// A method that reads and writes at the same time, and counts the handlers that work.
fn duplex(working: Concurrency) -> Router {
    Router::new().streaming(
        "duplex",
        move |_cx, mut items: Receiver<Raw>, mut out: Sender<Raw>| {
            let working = working.clone();
            async move {
                let read = async {
                    while items.message().await?.is_some() {
                        let _works = working.enter();
                        sleep(Duration::from_secs(5)).await;
                    }
                    Ok::<_, Status>(())
                };
                let write = async { while out.send(message(10_000)).await.is_ok() {} };
                join(read, write).await.0
            }
        },
    )
}

fn message(bytes: usize) -> Raw {
    Raw(Bytes::from(vec![7; bytes]))
}

fn isolated() -> CallOptions {
    let options = CallOptions::new().with_isolated(true);
    options.with_timeout(Duration::from_secs(600))
}

fn narrow() -> TransportConfig {
    TransportConfig::lan()
        .with_message_bytes_max(512 * KIB)
        .with_buffered_bytes_max(1_024 * KIB)
}

/// Buffers for three messages of 20 kB.
fn tiny() -> TransportConfig {
    TransportConfig::lan()
        .with_message_bytes_max(32 * KIB)
        .with_buffered_bytes_max(64 * KIB)
}

fn taking_little() -> TransportConfig {
    let window = NonZeroU32::new(1_024).expect("not zero");
    TransportConfig::lan().with_stream_window_bytes(window)
}

async fn begin(client: &RpcClient, method: &str) -> Receiver<Raw> {
    let options = CallOptions::new().without_deadline();
    let begun = client.call_server_streaming_with(method, &(), options);
    begun.await.expect("a stream")
}

#[tokio::test(start_paused = true)]
async fn an_unpolled_call_holds_up_no_large_message() {
    let net = Net::new(TransportConfig::lan());
    let (client, _node) = net.connect("client", TransportConfig::lan()).await;
    let mut kept = Box::pin(client.call_with("take", vec![1; HUGE], isolated()));
    assert!((&mut kept).now_or_never().is_none());
    let began = Instant::now();
    for bytes in [HUGE, 20_000] {
        let reply = client.call_with("take", vec![1; bytes], isolated()).await;
        reply.expect("a reply");
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    kept.await.expect("a reply");
}

#[tokio::test(start_paused = true)]
async fn calls_inside_a_loop_over_buffered_calls_go_on() {
    let net = Net::new(TransportConfig::lan());
    let (client, _node) = net.connect("client", TransportConfig::lan()).await;
    let bytes = |call| if call % 4 == 0 { 50_000 } else { 4_000_000 };
    let calls = (0..8).map(|call| client.call_with("take", vec![1; bytes(call)], isolated()));
    let mut calls = stream::iter(calls).buffer_unordered(4);
    while let Some(reply) = calls.next().await {
        reply.expect("a reply");
        let inner = client.call("take", vec![1; 100_000]).await;
        inner.expect("a reply");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unpolled_send_of_a_handler_holds_up_no_reply() {
    let net = Net::new(TransportConfig::lan());
    let (client, _node) = net.connect("client", TransportConfig::lan()).await;
    let _kept = begin(&client, "kept").await;
    sleep(Duration::from_secs(1)).await;
    for _ in 0..2 {
        let reply = client.call("huge", "").await;
        assert_eq!(reply.expect("a reply").len(), HUGE);
    }
    assert_eq!(net.server.stats().stalled_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn large_calls_without_a_deadline_need_no_runtime() {
    let net = Net::new(TransportConfig::lan());
    let (client, _node) = net.connect("client", TransportConfig::lan()).await;
    let calls = std::thread::spawn(move || {
        let options = CallOptions::new().without_deadline();
        let calls = (0..4).map(|_| client.call_with("take", vec![1; HUGE], options));
        futures::executor::block_on(futures::future::join_all(calls))
    });
    while !calls.is_finished() {
        sleep(Duration::from_millis(1)).await;
    }
    for reply in calls.join().expect("no panic") {
        reply.expect("a reply");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_arrives_before_its_reservation_is_read() {
    let net = Net::new(tiny());
    let (client, _node) = net.connect("client", TransportConfig::lan()).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        calls.spawn(async move { client.call_with("slow", vec![1; 20_000], isolated()).await });
    }
    for reply in calls.join_all().await {
        reply.expect("a reply");
    }
    assert_eq!(net.server.endpoint().buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn messages_that_arrive_before_their_reservations_are_read() {
    let net = Net::new(TransportConfig::lan());
    let (client, node) = net.connect("client", tiny()).await;
    let mut readers = JoinSet::new();
    for _ in 0..10 {
        let client = client.clone();
        readers.spawn(async move {
            let mut messages = begin(&client, "three").await;
            let mut count = 0;
            while messages.message().await.expect("a message").is_some() {
                count += 1;
                sleep(Duration::from_millis(3)).await;
            }
            count
        });
    }
    assert_eq!(readers.join_all().await, [3; 10]);
    assert_eq!(node.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn abandoning_a_message_that_waits_for_bytes_breaks_its_stream() {
    let net = Net::new(narrow());
    let (client, _node) = net.connect("client", taking_little()).await;
    let mut gap = begin(&client, "gap").await;
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(begin(&client, "endless").await);
    }
    let first = gap.message().await.expect("a message");
    assert_eq!(first.expect("a message").0.len(), 1);
    let error = gap.message().await.expect_err("not the end, nor the third");
    assert_eq!(error.code(), Code::Internal, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_abandoned_a_message_holds_up_no_other() {
    for gives_up in ["impatient", "polled"] {
        let net = Net::new(narrow());
        let (client, _node) = net.connect("client", TransportConfig::lan()).await;
        let mut uploads = Vec::new();
        for method in ["hold", "hold", gives_up] {
            let options = CallOptions::new().without_deadline();
            let upload = client.call_client_streaming_with::<Raw, u64>(method, options);
            let mut upload = upload.await.expect("a stream");
            upload.send(message(LARGE)).await.expect("sent");
            uploads.push(upload);
            sleep(Duration::from_millis(100)).await;
        }
        sleep(Duration::from_secs(25)).await;
        let reply = client.call_with("take", vec![1; LARGE], isolated()).await;
        reply.expect("a reply");
    }
}

/// A caller without buffer bytes for further large messages, while it keeps the streams that are
/// returned.
async fn full(net: &Net) -> (RpcClient, Endpoint, Vec<Receiver<Raw>>) {
    let (client, node) = net.connect("client", narrow()).await;
    let mut holding = Vec::new();
    for _ in 0..2 {
        let mut messages = begin(&client, "endless").await;
        let held = messages.message().await.expect("a message");
        held.expect("a message");
        holding.push(messages);
    }
    (client, node, holding)
}

async fn assert_has_room(client: &RpcClient) {
    let mut messages = begin(client, "endless").await;
    let message = timeout(Duration::from_secs(5), messages.message()).await;
    let message = message.expect("it does not wait for one that is kept");
    message.expect("a message").expect("a message");
}

#[tokio::test(start_paused = true)]
async fn an_unpolled_stream_of_a_caller_holds_up_no_other() {
    let net = Net::new(TransportConfig::lan());
    let (client, node, holding) = full(&net).await;
    let mut kept = begin(&client, "endless").await;
    sleep(Duration::from_secs(1)).await;
    assert!(
        kept.next().now_or_never().is_none(),
        "there is no reservation"
    );
    drop(holding);
    assert_has_room(&client).await;
    let next = kept.next().await.expect("a message");
    next.expect("it has its reservation");
    drop(kept);
    assert_eq!(node.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unpolled_call_whose_reply_waits_for_bytes_holds_up_no_other() {
    let net = Net::new(TransportConfig::lan());
    let (client, node, holding) = full(&net).await;
    let mut kept = Box::pin(client.call_with("large", "", isolated()));
    for _ in 0..2 {
        assert!(
            (&mut kept).now_or_never().is_none(),
            "there is no reservation"
        );
        sleep(Duration::from_secs(1)).await;
    }
    drop(holding);
    assert_has_room(&client).await;
    assert_eq!(kept.await.expect("a reply").len(), LARGE);
    assert_eq!(node.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_an_overdraft_notices_releases_of_other_peers() {
    let net = Net::new(narrow());
    let mut others = Vec::new();
    for name in ["b", "c"] {
        let (client, node) = net.connect(name, taking_little()).await;
        let streams = [
            begin(&client, "endless").await,
            begin(&client, "endless").await,
        ];
        others.push((client, node, streams));
    }
    let (client, _node) = net.connect("a", taking_little()).await;
    sleep(Duration::from_secs(2)).await;
    let _unread = begin(&client, "endless").await;
    sleep(Duration::from_secs(2)).await;
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.call_with("take", vec![1; 100], isolated()).await })
    };
    sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished(), "it waits");
    for name in ["b", "c"] {
        net.server.endpoint().disconnect(name);
    }
    sleep(Duration::from_secs(1)).await;
    assert!(waiting.is_finished());
    waiting.await.expect("no panic").expect("a reply");
}

#[tokio::test(start_paused = true)]
async fn handlers_with_a_waiting_half_keep_the_limit_and_the_share() {
    let config = TransportConfig::lan().with_admission(Admission::fixed(8));
    let net = Net::new(config);
    let (greedy, _node) = net.connect("greedy", taking_little()).await;
    let _other = net.connect("other", TransportConfig::lan()).await;
    let mut halves = Vec::new();
    for _ in 0..30 {
        let options = CallOptions::new().without_deadline();
        let begun = greedy.call_streaming_with::<Raw, Raw>("duplex", options);
        halves.push(begun.await.expect("a stream"));
    }
    sleep(Duration::from_secs(1)).await;
    for (sender, _) in &mut halves {
        sender.send(message(2)).await.expect("sent");
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(net.working.now(), 6);
    sleep(Duration::from_secs(20)).await;
    let working = net.working.now();
    assert_eq!(working, 6, "each yields its permit to the next");
    sleep(Duration::from_secs(5)).await;
    let state = net.server.endpoint().admission().expect("it is limited");
    assert_eq!((state.running, net.working.now()), (0, 0));
    drop(halves);
    sleep(Duration::from_secs(1)).await;
    let state = net.server.endpoint().admission().expect("it is limited");
    assert_eq!((state.running, state.waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn unread_replies_on_lanes_are_charged_to_their_peer() {
    let config = TransportConfig::lan()
        .with_message_bytes_max(1_024 * KIB)
        .with_buffered_bytes_max(8 * 1_024 * KIB);
    let net = Net::new(config);
    let mut greedy = Vec::new();
    for _ in 0..2 {
        let (client, node) = net.connect("greedy", taking_little()).await;
        let mut calls = JoinSet::new();
        for _ in 0..4_000 {
            let client = client.clone();
            let options = CallOptions::new().without_deadline();
            calls.spawn(async move { client.call_with("small", "x", options).await });
        }
        sleep(Duration::from_secs(2)).await;
        greedy.push((client, node, calls));
    }
    // Its share, and as much again as overdraft; 62 MiB were to come.
    let held = net.server.endpoint().buffered_bytes();
    assert!(held >= 2 * 1_024 * KIB, "{held}");
    assert!(held <= 8 * 1_024 * KIB, "{held}");
    assert!(net.server.stats().replies_dropped > 1_000);
    drop(greedy);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(net.server.endpoint().buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_leaves_the_reservation_queue() {
    let net = Net::new(narrow());
    let (client, _node) = net.connect("client", TransportConfig::lan()).await;
    let mut holding = Vec::new();
    for _ in 0..2 {
        let options = CallOptions::new().without_deadline();
        let upload = client.call_client_streaming_with::<Raw, u64>("hold", options);
        let mut upload = upload.await.expect("a stream");
        upload.send(message(LARGE)).await.expect("sent");
        holding.push(upload);
    }
    sleep(Duration::from_secs(1)).await;
    let given_up = client.call_with("take", vec![1; 500_000], isolated());
    let given_up = timeout(Duration::from_secs(1), given_up).await;
    assert!(given_up.is_err(), "it waits for a reservation");
    sleep(Duration::from_secs(1)).await;
    let stats = net.server.stats();
    assert_eq!(stats.calls_cancelled, 1, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_writer_without_credit_gives_its_turn_away() {
    let net = Net::new(TransportConfig::lan());
    let (client, _node) = net.connect("client", TransportConfig::lan()).await;
    // The path is known by now, so that the next call waits for nothing else.
    let warm = client.call_with("take", vec![1; 4_000_000], isolated());
    warm.await.expect("a reply");
    let options = CallOptions::new().without_deadline();
    let upload = client.call_client_streaming_with::<Raw, u64>("hold", options);
    let mut upload = upload.await.expect("a stream");
    let unread = tokio::spawn(async move { while upload.send(message(HUGE)).await.is_ok() {} });
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let reply = client.call_with("take", vec![1; 100_000], isolated()).await;
    reply.expect("a reply");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(40), "{took:?}");
    assert!(!unread.is_finished(), "it waits for credit");
    unread.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_replies_are_read_too_slowly_is_reset() {
    let stall = Duration::from_secs(10);
    let net = Net::new(TransportConfig::lan().with_stall_timeout(stall));
    let (client, _node) = net.connect("client", taking_little()).await;
    let mut calls = JoinSet::new();
    for _ in 0..1_000 {
        let client = client.clone();
        let options = CallOptions::new().without_deadline();
        calls.spawn(async move { client.call_with("small", "x", options).await });
    }
    sleep(Duration::from_millis(500)).await;
    // An eighth of the minimum rate, and never nothing.
    net.network.set_rate(NonZeroU64::new(8_000), 250_000);
    sleep(3 * stall).await;
    assert!(net.server.stats().stalled_calls > 0);
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_not_taken_hold_up_no_other_call() {
    let net = Net::new(TransportConfig::lan());
    let (client, _node) = net.connect("caller", TransportConfig::lan()).await;
    let call = || client.call("take", Bytes::from_static(b"x"));
    // A call in flight, so that others are queued behind it and not written by their callers.
    let mut slow = Box::pin(client.call("small", "x"));
    assert!(slow.as_mut().now_or_never().is_none());
    let mut kept = [Box::pin(call()), Box::pin(call()), Box::pin(call())];
    for call in &mut kept {
        assert!(call.as_mut().now_or_never().is_none());
    }
    // Their replies arrive meanwhile.
    sleep(Duration::from_millis(50)).await;
    for _ in 0..20 {
        let begin = Instant::now();
        call().await.expect("a reply");
        assert_eq!(begin.elapsed(), Duration::from_millis(10), "a round trip");
    }
    for call in kept {
        assert_eq!(call.await.expect("a reply"), &b"x"[..]);
    }
    slow.await.expect("a reply");
}
