//! Scaling of connections to a worker, up by saturation and down by idle time.

use std::{
    num::{NonZeroU8, NonZeroU32, NonZeroUsize},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use rpcnet_client::Sender;
use tokio::{sync::Semaphore, task::JoinHandle};

use super::*;

const ONE: NonZeroU32 = NonZeroU32::MIN;

async fn cluster(
    change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig,
) -> Arc<TestCluster> {
    cluster_on(MemoryNetwork::new(), change).await
}

async fn cluster_on(
    network: MemoryNetwork,
    change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig,
) -> Arc<TestCluster> {
    let one_lane = TransportConfig::default().with_lanes(NonZeroU8::MIN);
    let health = HealthConfig::new();
    let cluster = TestCluster::on(Some(network), round_robin(), health, one_lane, change);
    Arc::new(cluster.await)
}

/// The gate at which calls to [`gated_router`] wait.
struct Gate {
    permits: Semaphore,
    /// How many calls wait. [`RpcServer::in_flight`] counts one too many while a lane is being
    /// read.
    waiting: AtomicUsize,
}

impl Gate {
    fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    fn open(&self) {
        self.permits.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}

/// A method that ends when the gate opens.
fn gated_router() -> (Router, Arc<Gate>) {
    let gate = Arc::new(Gate {
        permits: Semaphore::new(0),
        waiting: AtomicUsize::new(0),
    });
    let closed = Arc::clone(&gate);
    let router = Router::new().raw("who", move |_, body| {
        let gate = Arc::clone(&closed);
        async move {
            gate.waiting.fetch_add(1, SeqCst);
            gate.permits.acquire().await.expect("it stays").forget();
            gate.waiting.fetch_sub(1, SeqCst);
            Ok(body)
        }
    });
    (router, gate)
}

fn call(cluster: &Arc<TestCluster>) -> JoinHandle<Result<String, ClusterError>> {
    let cluster = Arc::clone(cluster);
    tokio::spawn(async move { cluster.call("who").await })
}

async fn assert_replies(calls: impl IntoIterator<Item = JoinHandle<Result<String, ClusterError>>>) {
    for call in calls {
        let reply = within(call).await.expect("no panic");
        reply.expect("a reply");
    }
}

/// Calls until as many are served at a time: those that wait stay where they are, so each step
/// takes another call.
async fn saturate(
    cluster: &Arc<TestCluster>,
    gate: &Gate,
    upto: usize,
) -> Vec<JoinHandle<Result<String, ClusterError>>> {
    let mut calls = Vec::new();
    for wanted in 1..=upto {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while gate.waiting() < wanted {
            assert!(Instant::now() < deadline, "{wanted} at a time");
            let before = gate.waiting();
            calls.push(call(cluster));
            let patience = Instant::now() + Duration::from_millis(50);
            while gate.waiting() == before && Instant::now() < patience {
                sleep(Duration::from_millis(2)).await;
            }
        }
    }
    calls
}

#[tokio::test(start_paused = true)]
async fn saturated_connections_scale_up_to_the_limit_and_down_when_idle() {
    let idle_timeout = Duration::from_millis(400);
    let network = MemoryNetwork::new();
    // Calls take time, or virtual time would stand still while one follows the other.
    network.set_delay(Duration::from_millis(1));
    let cluster = cluster_on(network, |config| {
        config
            .with_connections_per_worker_max(NonZeroUsize::new(3).unwrap())
            .with_surplus_idle_timeout(idle_timeout)
    })
    .await;
    let (router, gate) = gated_router();
    let four = NonZeroU32::new(4).unwrap();
    let config = TransportConfig::default().with_lane_calls_max(four);
    let _server = cluster.worker_with("red", router, config);

    // Four calls on each connection, and further ones wait; that is all there may be.
    let calls = saturate(&cluster, &gate, 12).await;
    assert_eq!(cluster.client.connections(), 3);
    let more: Vec<_> = (0..20).map(|_| call(&cluster)).collect();
    // Virtual time: three times as long as a connection must be saturated.
    sleep(Duration::from_millis(300)).await;
    assert_eq!((cluster.client.connections(), gate.waiting()), (3, 12));
    assert_eq!(cluster.handshakes(), 3);

    gate.open();
    assert_replies(calls.into_iter().chain(more)).await;
    // Calls go on, one at a time, for which one connection is enough.
    let begun = Instant::now();
    while cluster.client.connections() > 1 {
        assert!(begun.elapsed() < TEST_TIMEOUT, "surplus connections go");
        cluster.call("who").await.expect("a reply");
    }
    assert!(begun.elapsed() >= idle_timeout, "not at once");
    cluster.call("who").await.expect("a reply");
    assert_eq!(cluster.handshakes(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_unsaturated_connection_does_not_scale_up() {
    let cluster = cluster(|config| config).await;
    let (router, gate) = gated_router();
    let _server = cluster.worker("red", router);
    let calls: Vec<_> = (0..500).map(|_| call(&cluster)).collect();
    until("all are served", || gate.waiting() == 500).await;
    // Virtual time: three times as long as a connection must be saturated.
    let mut more = Vec::new();
    for _ in 0..30 {
        more.push(call(&cluster));
        sleep(Duration::from_millis(10)).await;
    }
    gate.open();
    assert_replies(calls.into_iter().chain(more)).await;
    assert_eq!((cluster.client.connections(), cluster.handshakes()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn streams_that_saturate_a_connection_scale_it_up() {
    let cluster = cluster(|config| config).await;
    let router =
        Router::new().server_streaming("feed", |_, (): (), mut out: Sender<u8>| async move {
            out.send(1).await?;
            std::future::pending().await
        });
    let two = NonZeroU32::new(2).unwrap();
    let server = cluster.worker_with(
        "red",
        router,
        TransportConfig::default().with_streams_max(two),
    );
    let open = || {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            let options = WorkerCallOptions::new().without_deadline();
            let feed =
                cluster
                    .client
                    .call_worker_server_streaming::<(), u8>("feed", &(), None, options);
            let mut feed = feed.await.expect("a stream");
            assert_eq!(feed.message().await.expect("a message"), Some(1));
            feed
        })
    };
    let mut feeds = Vec::new();
    // The third waits for one of the two, and makes it known.
    feeds.extend([open(), open(), open()]);
    until("two are served", || server.in_flight() == 2).await;
    until("there is a second connection", || {
        cluster.client.connections() == 2
    })
    .await;
    // Those that come before it stands wait too, and stay where they are.
    let deadline = Instant::now() + TEST_TIMEOUT;
    while server.in_flight() < 4 {
        assert!(Instant::now() < deadline, "four are served");
        feeds.push(open());
        sleep(Duration::from_millis(50)).await;
    }
    for feed in feeds {
        feed.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn all_connections_to_a_failed_worker_are_closed() {
    let cluster = cluster(|config| config).await;
    let (router, gate) = gated_router();
    let config = TransportConfig::default().with_lane_calls_max(ONE);
    let server = cluster.worker_with("red", router, config);
    let calls = saturate(&cluster, &gate, 2).await;
    assert_eq!(cluster.client.connections(), 2);
    let _blue = cluster.worker("blue", identify("blue"));
    cluster.list.fail("red");
    until("it has heard", || server.in_flight() == 0).await;
    // Those that ran there may have run; those that waited for a place have not, so another worker
    // does them.
    let (mut cut, mut moved) = (0, 0);
    for call in calls {
        match within(call).await.expect("no panic") {
            Ok(reply) => {
                assert!(reply.starts_with("blue"), "{reply}");
                moved += 1;
            }
            Err(error) => {
                assert_eq!(error.processed(), Processed::Maybe, "{error}");
                cut += 1;
            }
        }
    }
    assert!(cut == 2 && moved > 0, "{cut} cut, {moved} moved");
}

/// What the worker has no room for is not its fault: it is not avoided.
#[tokio::test(start_paused = true)]
async fn a_refused_extra_connection_does_not_mark_the_worker() {
    let cluster = cluster(|config| config).await;
    let (router, gate) = gated_router();
    let config = TransportConfig::default()
        .with_lane_calls_max(ONE)
        .with_connections_max(NonZeroUsize::MIN);
    let server = cluster.worker_with("red", router, config);
    let first = call(&cluster);
    until("it runs", || gate.waiting() == 1).await;
    let second = call(&cluster);
    until("another connection is refused", || {
        server.stats().handshakes_refused > 0
    })
    .await;
    gate.permits.add_permits(3);
    for call in [first, second, call(&cluster)] {
        within(call).await.expect("no panic").expect("a reply");
    }
    assert_eq!((cluster.client.connections(), cluster.handshakes()), (1, 1));
}
