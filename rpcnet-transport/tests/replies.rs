//! Bodies that are large for the rate of their link, in memory and in virtual time.

use std::{net::Ipv4Addr, num::NonZeroU64, sync::LazyLock, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use rpcnet_transport::{
    CallOptions, DevCa, Endpoint, MemoryNetwork, Raw, Receiver, Router, RpcClient, RpcServer,
    Sender, TransportConfig,
};
use tokio::time::{Instant, sleep};

/// One authority for all tests: making keys takes time.
static CA: LazyLock<DevCa> = LazyLock::new(|| DevCa::new("replies"));

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
                // Until those that come at the same time have begun.
                sleep(Duration::from_secs(1)).await;
                loop {
                    out.send(Raw(vec![7; LARGE].into())).await?;
                }
            });
        let server = bind(&network, "server", config).serve(router);
        Self { network, server }
    }

    async fn connect(&self, name: &str, config: TransportConfig) -> RpcClient {
        let node = bind(&self.network, name, config);
        let client = node.connect(self.server.local_addr(), "server").await;
        client.expect("a connection")
    }
}

fn bind(network: &MemoryNetwork, name: &str, config: TransportConfig) -> Endpoint {
    let any = (Ipv4Addr::UNSPECIFIED, 0).into();
    let tls = CA.issue(name).expect("a node name");
    network.bind(any, config, tls).expect("a free address")
}

fn patient() -> CallOptions {
    CallOptions::new().with_timeout(Duration::from_secs(600))
}

/// Calls with streams of their own.
fn isolated() -> CallOptions {
    patient().with_isolated(true)
}

async fn unread(client: &RpcClient) -> Receiver<Raw> {
    let options = CallOptions::new().without_deadline();
    let stream = client.call_server_streaming_with("stream", &(), options);
    stream.await.expect("a stream")
}

/// 3 MB/s.
const RATE: NonZeroU64 = NonZeroU64::new(3_000_000).unwrap();

#[tokio::test(start_paused = true)]
async fn large_replies_side_by_side_on_a_slow_link_are_not_stalled() {
    let net = Net::new(TransportConfig::lan());
    let client = net.connect("client", TransportConfig::lan()).await;
    net.network.set_rate(Some(RATE), 250_000);
    for options in [patient(), isolated()] {
        let began = Instant::now();
        let calls = (0..12).map(|_| client.call_with("huge", "", options));
        for reply in join_all(calls).await {
            assert_eq!(reply.expect("a reply").len(), HUGE);
        }
        // The last ones wait for longer than that for room at the reader.
        assert!(began.elapsed() > 2 * STALL, "{:?}", began.elapsed());
    }
    assert_eq!(net.server.stats().stalled_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn large_requests_side_by_side_on_a_slow_link_are_not_stalled() {
    let net = Net::new(TransportConfig::lan());
    let client = net.connect("client", TransportConfig::lan()).await;
    net.network.set_rate(Some(RATE), 250_000);
    let calls = (0..12).map(|_| client.call_with("take", vec![1; HUGE], patient()));
    for reply in join_all(calls).await {
        reply.expect("a reply");
    }
    let stats = net.server.stats();
    assert_eq!(
        (stats.stalled_calls, stats.calls_refused_overloaded),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn many_bodies_side_by_side_on_a_slow_link_have_the_time_of_all() {
    let net = Net::new(TransportConfig::lan());
    let client = net.connect("client", TransportConfig::lan()).await;
    // Each has a third of the least rate, and all together twenty times as much.
    net.network.set_rate(NonZeroU64::new(1_200_000), 250_000);
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
async fn a_peer_that_takes_nothing_is_cut_after_the_stall_timeout() {
    let net = Net::new(TransportConfig::lan());
    let greedy = net.connect("greedy", TransportConfig::lan()).await;
    let began = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(unread(&greedy).await);
    }
    while net.server.stats().stalled_calls < 4 {
        assert!(began.elapsed() < 2 * STALL);
        // Small calls are no sign that it takes them.
        assert_eq!(greedy.call("take", "small").await.unwrap(), "s");
        sleep(STALL / 300).await;
    }
    let took = began.elapsed();
    assert!(took < STALL + STALL / 10, "{took:?}");
}
