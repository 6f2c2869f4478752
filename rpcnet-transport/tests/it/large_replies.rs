//! Large replies, above the share of their peer or the rate of its link, in virtual time.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use rpcnet_transport::{
    CallOptions, Code, MemoryNetwork, Processed, Raw, Receiver, Router, RpcClient, RpcServer,
    Sender, TransportConfig,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::bind_in_memory;

const KIB: usize = 1024;
const LARGE: usize = 250 * KIB;
const MEGA: usize = 1024 * KIB;
const HUGE: usize = 16 * 1024 * KIB;
const STALL: Duration = Duration::from_secs(30);

struct Net {
    network: MemoryNetwork,
    server: RpcServer,
}

impl Net {
    fn new(config: TransportConfig) -> Self {
        let network = MemoryNetwork::new();
        network.set_delay(Duration::from_millis(5));
        let router = Router::new()
            .raw("large", |_cx, _body| async {
                Ok(Bytes::from(vec![7; LARGE]))
            })
            .raw("mega", |_cx, _body| async {
                Ok(Bytes::from(vec![7; MEGA]))
            })
            .raw("huge", |_cx, _body| async {
                Ok(Bytes::from(vec![7; HUGE]))
            })
            .raw(
                "take",
                |_cx, body: Bytes| async move { Ok(body.slice(..1)) },
            )
            .server_streaming("stream", |_cx, (): (), mut out: Sender<Raw>| async move {
                // Until the other streams of the test have begun.
                sleep(Duration::from_secs(1)).await;
                loop {
                    out.send(Raw(vec![7; LARGE].into())).await?;
                }
            });
        let server = bind_in_memory(&network, "server", config).serve(router);
        Self { network, server }
    }

    async fn connect(&self, name: &str, config: TransportConfig) -> RpcClient {
        let node = bind_in_memory(&self.network, name, config);
        let client = node.connect(self.server.local_addr(), "server").await;
        client.expect("a connection")
    }
}

impl Net {
    /// Asserts that no call was reset or rejected because its peer was slow.
    fn assert_none_stalled(&self) {
        let stats = self.server.stats();
        assert_eq!(
            (stats.stalled_calls, stats.calls_rejected_overloaded),
            (0, 0)
        );
    }
}

fn patient() -> CallOptions {
    CallOptions::new().with_timeout(Duration::from_secs(600))
}

/// A share of two replies of 250 KiB a peer, and an overdraft of as much.
fn narrow() -> TransportConfig {
    TransportConfig::lan()
        .with_message_bytes_max(512 * KIB)
        .with_buffered_bytes_max(1024 * KIB)
        .with_stall_timeout(STALL)
}

/// A caller that buffers next to nothing of what it does not read.
fn taking_little() -> TransportConfig {
    TransportConfig::lan().with_stream_window_bytes(NonZeroU32::new(1_024).unwrap())
}

/// Options of calls with streams of their own.
fn isolated() -> CallOptions {
    patient().with_isolated(true)
}

async fn call_large(client: &RpcClient, calls: usize, options: CallOptions) -> usize {
    let calls = (0..calls).map(|_| client.call_with("large", "", options));
    let replies = join_all(calls).await.into_iter().map(|reply| match reply {
        Ok(reply) => assert_eq!(reply.len(), LARGE),
        Err(error) => panic!("{error}"),
    });
    replies.count()
}

#[tokio::test(start_paused = true)]
async fn replies_beyond_the_share_of_their_peer_reach_it() {
    // On lanes two more replies are held beside the two of the share.
    for (calls, options) in [(4, patient()), (100, isolated())] {
        let net = Net::new(narrow());
        let client = net.connect("client", TransportConfig::lan()).await;
        assert_eq!(call_large(&client, calls, options).await, calls);
        assert_eq!(net.server.stats().replies_dropped, 0);
        // Until the last replies are acknowledged.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(net.server.endpoint().buffered_bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn replies_beyond_twice_the_share_of_their_peer_are_dropped() {
    let net = Net::new(narrow());
    let client = net.connect("client", TransportConfig::lan()).await;
    let calls = (0..10).map(|_| client.call_with("large", "", patient()));
    let mut dropped = 0u64;
    for reply in join_all(calls).await {
        match reply {
            Ok(reply) => assert_eq!(reply.len(), LARGE),
            Err(error) => {
                let told = (error.code(), error.processed());
                assert_eq!(told, (Code::Overloaded, Processed::Yes));
                dropped += 1;
            }
        }
    }
    // The calls of a lane run one after the other, before any byte of their replies is sent.
    assert_eq!(dropped, 6);
    assert_eq!(net.server.stats().replies_dropped, dropped);
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_peer_that_reads_nothing_start_after_its_streams_are_reset() {
    let net = Net::new(narrow());
    let greedy = net.connect("greedy", taking_little()).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(unread(&greedy).await);
    }
    sleep(Duration::from_secs(2)).await;
    // Each stream has a message that is not read; the third message is beyond the share.
    assert_eq!(net.server.endpoint().buffered_bytes(), 3 * LARGE);
    let options = isolated();
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let (greedy, options) = (greedy.clone(), options);
        calls.spawn(async move { greedy.call_with("take", vec![1; 100], options).await });
    }
    sleep(STALL / 2).await;
    let started = net.server.stats().calls_started;
    assert_eq!(started, 3, "the streams alone");
    // Other peers are not affected, and lanes go on.
    let other = net.connect("other", TransportConfig::lan()).await;
    assert_eq!(call_large(&other, 2, patient()).await, 2);
    assert_eq!(greedy.call("take", "small").await.unwrap(), "s");
    for reply in calls.join_all().await {
        assert_eq!(reply.expect("a reply").len(), 1);
    }
    let took = began.elapsed();
    assert!(took >= STALL - Duration::from_secs(2), "{took:?}");
    assert!(took <= STALL, "{took:?}");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(net.server.stats().stalled_calls, 3);
    assert_eq!(net.server.endpoint().buffered_bytes(), 0);
}

async fn unread(client: &RpcClient) -> Receiver<Raw> {
    let options = CallOptions::new().without_deadline();
    let stream = client.call_server_streaming_with("stream", &(), options);
    stream.await.expect("a stream")
}

#[tokio::test(start_paused = true)]
async fn a_stream_beyond_the_overdraft_ends_as_overloaded() {
    let net = Net::new(narrow());
    let greedy = net.connect("greedy", taking_little()).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(unread(&greedy).await);
    }
    sleep(3 * STALL).await;
    let mut ends = Vec::new();
    for mut stream in streams {
        // Streams that were reset have lost their messages; the others had none yet.
        let end = stream.message().await;
        ends.push(end.expect_err("no message").code());
    }
    let overloaded = ends.iter().filter(|code| **code == Code::Overloaded);
    assert_eq!(
        overloaded.count() as u64,
        net.server.stats().replies_dropped
    );
    assert!(ends.contains(&Code::Overloaded), "{ends:?}");
    assert!(!ends.contains(&Code::Cancelled), "{ends:?}");
    assert_eq!(net.server.endpoint().buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_wait_while_others_of_their_peer_are_read() {
    let net = Net::new(narrow());
    let client = net.connect("client", taking_little()).await;
    let mut reading = JoinSet::new();
    for _ in 0..20 {
        let mut stream = unread(&client).await;
        reading.spawn(async move {
            for _ in 0..3 {
                let message = stream.message().await.expect("a message");
                assert_eq!(message.expect("one more").0.len(), LARGE);
            }
        });
    }
    reading.join_all().await;
    assert_eq!(net.server.stats().replies_dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_behind_a_slow_link_is_not_rejected() {
    let net = Net::new(narrow().with_transfer_rate_min(NonZeroU32::new(16 * 1024).unwrap()));
    let client = net.connect("client", TransportConfig::lan()).await;
    // QUIC accepts all replies at once, and sends them concurrently, so that they end at the same
    // time: after more than the stall timeout.
    net.network.set_rate(NonZeroU64::new(25_000), 20_000);
    let began = Instant::now();
    let mut stream = unread(&client).await;
    let mut replies = JoinSet::new();
    for _ in 0..4 {
        let client = client.clone();
        replies.spawn(async move { client.call_with("large", "", patient()).await });
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(net.server.endpoint().buffered_bytes(), 4 * LARGE);
    let reply = client.call_with("take", vec![1; 100], isolated()).await;
    assert_eq!(reply.expect("a reply").len(), 1);
    assert!(began.elapsed() > STALL, "{:?}", began.elapsed());
    let message = stream.message().await.expect("a message");
    assert_eq!(message.expect("one more").0.len(), LARGE);
    for reply in replies.join_all().await {
        assert_eq!(reply.expect("a reply").len(), LARGE);
    }
    net.assert_none_stalled();
}

/// 3 MB/s.
const RATE: NonZeroU64 = NonZeroU64::new(3_000_000).unwrap();

#[tokio::test(start_paused = true)]
async fn concurrent_large_replies_on_a_slow_link_are_not_stalled() {
    let net = Net::new(TransportConfig::lan());
    let client = net.connect("client", TransportConfig::lan()).await;
    net.network.set_rate(Some(RATE), 250_000);
    let began = Instant::now();
    let calls = (0..12).map(|_| client.call_with("huge", "", patient()));
    for reply in join_all(calls).await {
        assert_eq!(reply.expect("a reply").len(), HUGE);
    }
    // The last ones wait for longer than that for a reservation of the reader.
    assert!(began.elapsed() > 2 * STALL, "{:?}", began.elapsed());
    assert_eq!(net.server.stats().stalled_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn concurrent_large_requests_on_a_slow_link_are_not_stalled() {
    let net = Net::new(TransportConfig::lan());
    let client = net.connect("client", TransportConfig::lan()).await;
    net.network.set_rate(Some(RATE), 250_000);
    let calls = (0..12).map(|_| client.call_with("take", vec![1; HUGE], patient()));
    for reply in join_all(calls).await {
        reply.expect("a reply");
    }
    net.assert_none_stalled();
}

#[tokio::test(start_paused = true)]
async fn concurrent_bodies_on_a_slow_link_have_the_transfer_time_of_all() {
    let net = Net::new(TransportConfig::lan());
    let client = net.connect("client", TransportConfig::lan()).await;
    // Each has a sixth of the minimum rate, and all together nine times the minimum rate.
    net.network.set_rate(NonZeroU64::new(600_000), 250_000);
    let began = Instant::now();
    let calls = (0..60).map(|_| client.call_with("mega", "", isolated()));
    for reply in join_all(calls).await {
        assert_eq!(reply.expect("a reply").len(), MEGA);
    }
    let calls = (0..60).map(|_| client.call_with("take", vec![1; MEGA], patient()));
    for reply in join_all(calls).await {
        reply.expect("a reply");
    }
    assert!(began.elapsed() > 3 * STALL, "{:?}", began.elapsed());
    assert_eq!(net.server.stats().stalled_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_reset_after_the_stall_timeout() {
    let net = Net::new(TransportConfig::lan());
    let greedy = net.connect("greedy", TransportConfig::lan()).await;
    let began = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(unread(&greedy).await);
    }
    while net.server.stats().stalled_calls < 4 {
        assert!(began.elapsed() < 2 * STALL);
        // Small calls do not show that the peer reads its large replies.
        assert_eq!(greedy.call("take", "small").await.unwrap(), "s");
        sleep(STALL / 300).await;
    }
    let took = began.elapsed();
    assert!(took < STALL + STALL / 10, "{took:?}");
}
