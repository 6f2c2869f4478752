//! Rejected methods: workers of another version that reject a method before running it.

use std::future::pending;

use futures::{StreamExt, future::join_all};
use parking_lot::Mutex;
use rpcnet_client::{
    Receiver, Sender,
    balance::{Outcome, OutcomeKind, PickContext, RoundRobin, View},
};

use super::*;

/// Calls under way at the same time.
const AT_ONCE: u64 = 8;

async fn with_strategy(strategy: LoadBalancingStrategy) -> TestCluster {
    TestCluster::with_balancer(strategy.balancer(), |config| config).await
}

/// Serves no method of this name, or reads its requests in another way.
fn older_version(cannot_read: bool) -> Router {
    if cannot_read {
        Router::new().typed("who", |n: (u64, u64)| async move { n.0 })
    } else {
        Router::new()
    }
}

async fn calls(cluster: &TestCluster, count: u64) -> u64 {
    let mut failed = 0;
    for _ in 0..count / AT_ONCE {
        let calls = (0..AT_ONCE).map(|_| cluster.call("who"));
        let replies = join_all(calls).await;
        failed += replies.iter().filter(|reply| reply.is_err()).count() as u64;
    }
    failed
}

#[tokio::test(start_paused = true)]
async fn every_strategy_passes_over_a_worker_that_rejects_the_method() {
    for &strategy in LoadBalancingStrategy::ALL {
        for cannot_read in [false, true] {
            let cluster = with_strategy(strategy).await;
            let _workers = ["a", "b", "c", "d"].map(|name| cluster.worker(name, identify(name)));
            let old = cluster.worker("old", older_version(cannot_read));
            assert_eq!(calls(&cluster, 160).await, 0, "{strategy:?}");
            let stats = old.stats();
            let rejected = stats.unknown_methods + stats.invalid_requests;
            assert!(
                rejected <= AT_ONCE + 3,
                "{strategy:?}: {rejected} rejections"
            );
            // No probe falls due while time stands still.
            assert_eq!(calls(&cluster, 160).await, 0, "{strategy:?}");
            let stats = old.stats();
            let more = stats.unknown_methods + stats.invalid_requests - rejected;
            assert_eq!(more, 0, "{strategy:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_unknown_to_all_workers_fails_at_once() {
    let cluster = TestCluster::new().await;
    let workers = ["a", "b", "c"].map(|name| cluster.worker(name, Router::new()));
    for attempts in [3, 1, 1] {
        let error = cluster.call("who").await.expect_err("all reject");
        let ClusterError::Rpc {
            error,
            attempts: made,
            stop_reason,
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Unimplemented, Processed::No)
        );
        assert_eq!(
            (made.len(), *stop_reason),
            (attempts, StopReason::NoEndpointLeft)
        );
    }
    // One of them learns it. The list has the same process as before, and the call that is sent
    // there anyway finds out.
    workers[1].endpoint().serve(identify("b"));
    let mut found = false;
    for _ in 0..100 {
        found |= cluster.call("who").await.is_ok();
    }
    assert!(found);
    // From then on all go there.
    assert_eq!(calls(&cluster, 16).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_process_or_tag_clears_a_rejected_method() {
    let cluster = TestCluster::new().await;
    let _blue = cluster.worker("blue", identify("blue"));
    let red = cluster.worker("red", Router::new());
    for _ in 0..4 {
        assert_eq!(&cluster.call("who").await.expect("a reply")[..4], "blue");
    }
    assert!(red.stats().unknown_methods >= 1);
    red.endpoint().serve(identify("red"));
    let id = NodeId::new("red", 1);
    let node = NodeInfo::new(id, red.local_addr()).with_tag("role", "worker");
    cluster.list.insert(node.with_tag("version", "2"));
    let found = async {
        while &cluster.call("who").await.expect("a reply")[..3] != "red" {
            sleep(Duration::from_millis(1)).await;
        }
    };
    within(found).await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_request_that_no_worker_serves_blames_no_worker() {
    let cluster = TestCluster::new().await;
    let typed = || Router::new().typed("double", |n: u32| async move { n * 2 });
    let workers = ["a", "b", "c"].map(|name| cluster.worker(name, typed()));
    let error = cluster.call("double").await.expect_err("no number");
    assert_eq!(error.attempts().len(), 3, "{error}");
    assert!(!error.is_retryable());
    assert_eq!(error.processed(), Processed::No);
    // No worker is passed over for it: three calls in turn go to all three.
    let rejected = || {
        workers
            .iter()
            .map(|one| one.stats().invalid_requests)
            .sum::<u64>()
    };
    assert_eq!(rejected(), 3);
    for n in 0..3_u32 {
        let reply = cluster.client.call_worker_typed("double", &n, None);
        let reply: u32 = within(reply).await.expect("a reply");
        assert_eq!(reply, 2 * n);
    }
    let served = workers.iter().map(|one| one.stats().calls_completed);
    assert!(served.into_iter().all(|calls| calls > 0));
    assert_eq!(cluster.client.stats().retries_unreadable, 2);
}

/// Round robin that records the kinds of outcomes.
#[derive(Debug)]
struct RecordingRoundRobin {
    turns: RoundRobin,
    kinds: Mutex<Vec<OutcomeKind>>,
}

impl Balancer for RecordingRoundRobin {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        self.turns.pick(view, cx)
    }

    fn on_outcome(&self, _: &View, _: usize, outcome: &Outcome) {
        self.kinds.lock().push(outcome.kind);
    }
}

async fn recording_cluster() -> (TestCluster, Arc<RecordingRoundRobin>) {
    let told = Arc::new(RecordingRoundRobin {
        turns: RoundRobin::seeded(1),
        kinds: Mutex::default(),
    });
    let balancer = Arc::clone(&told) as Arc<dyn Balancer>;
    let cluster = TestCluster::with_balancer(balancer, |config| config).await;
    (cluster, told)
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_not_reported_as_success() {
    let (cluster, told) = recording_cluster().await;
    let (router, _) = failing_router(Status::app(&7u32, "no luck"));
    let _red = cluster.worker("red", router.typed("double", |n: u32| async move { n * 2 }));
    let as_failures = WorkerCallOptions::new().with_application_errors_as_failures(true);
    let table = [
        ("who", WorkerCallOptions::new(), OutcomeKind::Success),
        ("who", as_failures, OutcomeKind::Failure),
        ("unknown", WorkerCallOptions::new(), OutcomeKind::Rejected),
        ("double", as_failures, OutcomeKind::Rejected),
    ];
    for (method, options, kind) in table {
        let error = cluster
            .call_with(method, options)
            .await
            .expect_err("it fails");
        assert_eq!(error.attempts().len(), 1, "{error}");
        assert_eq!(std::mem::take(&mut *told.kinds.lock()), [kind], "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_stream_message_reports_the_outcome() {
    let (cluster, told) = recording_cluster().await;
    let count = |_, upto: u32, mut replies: Sender<u32>| async move {
        for n in 0..upto {
            replies.send(n).await?;
        }
        Ok(())
    };
    let _red = cluster.worker("red", Router::new().server_streaming("count", count));
    let blue = cluster.worker("blue", Router::new());
    let (mut taken, mut rejected) = (0, 0);
    for _ in 0..10 {
        let options = WorkerCallOptions::new();
        let stream = cluster
            .client
            .call_worker_server_streaming("count", &2u32, None, options);
        let stream: rpcnet_client::WorkerStream<Receiver<u32>> =
            within(stream).await.expect("a stream");
        assert_eq!(
            told.kinds.lock().len(),
            taken + rejected,
            "nothing is known yet"
        );
        match within(stream.collect::<Vec<_>>()).await[..] {
            [Ok(0), Ok(1)] => taken += 1,
            [Err(ref error)] if error.code() == Code::Unimplemented => rejected += 1,
            ref other => panic!("{other:?}"),
        }
    }
    // One that was rejected is not begun anew, since its caller may have sent some of it; those
    // after it go elsewhere.
    assert_eq!((taken, rejected, blue.stats().unknown_methods), (9, 1, 1));
    let kinds = told.kinds.lock();
    let of = |kind| kinds.iter().filter(|one| **one == kind).count();
    assert_eq!(
        (of(OutcomeKind::StreamStarted), of(OutcomeKind::Rejected)),
        (9, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn unreadable_stream_requests_pass_over_the_worker() {
    let cluster = with_strategy(LoadBalancingStrategy::PowerOfTwo).await;
    let endless = |_, n: u32, mut replies: Sender<u32>| async move {
        replies.send(n).await?;
        pending().await
    };
    let reads_pairs = |_, _: (u64, u64), _: Sender<u32>| async { Ok(()) };
    let _workers = ["a", "b"]
        .map(|name| cluster.worker(name, Router::new().server_streaming("count", endless)));
    let old = Router::new().server_streaming("count", reads_pairs);
    let old = cluster.worker("old", old);
    // Rejections among the first forty, and among the others.
    let (mut streams, mut failed) = (Vec::new(), [0, 0]);
    // Streams that are not over make the workers that serve them look busier than one that rejects.
    for n in 0..80_u32 {
        let options = WorkerCallOptions::new();
        let stream = cluster
            .client
            .call_worker_server_streaming("count", &n, None, options);
        let mut stream: rpcnet_client::WorkerStream<Receiver<u32>> =
            within(stream).await.expect("a stream");
        match within(stream.message()).await {
            Ok(message) => {
                assert_eq!(message, Some(n));
                streams.push(stream);
            }
            Err(error) => {
                let told = (error.code(), error.processed());
                assert_eq!(told, (Code::InvalidRequest, Processed::No));
                failed[usize::from(n >= 40)] += 1;
            }
        }
    }
    // Three in a row, and until the random choice has let another worker serve the method. No probe
    // falls due while time stands still.
    assert!(failed[0] >= 1 && failed[1] == 0, "{failed:?}");
    assert_eq!(old.stats().invalid_requests, failed[0] + failed[1]);
}

#[tokio::test(start_paused = true)]
async fn malformed_stream_requests_pass_over_no_worker() {
    let cluster = with_strategy(LoadBalancingStrategy::RoundRobin).await;
    let echo = |_, n: (u64, u64), mut replies: Sender<u64>| async move {
        replies.send(n.0).await.map_err(Status::from)
    };
    let workers = ["a", "b", "c"]
        .map(|name| cluster.worker(name, Router::new().server_streaming("echo", echo)));
    // A stream is not begun anew, so a bad request fails at one worker alone: in turns, at the same
    // one.
    for n in 0..120_u64 {
        let options = WorkerCallOptions::new();
        let client = &cluster.client;
        let (is_bad, pair) = ((9..60).contains(&n) && n % 3 == 0, (n, n));
        let stream = if is_bad {
            let stream = client.call_worker_server_streaming("echo", &1u8, None, options);
            within(stream).await
        } else {
            let stream = client.call_worker_server_streaming("echo", &pair, None, options);
            within(stream).await
        };
        let stream: rpcnet_client::WorkerStream<Receiver<u64>> = stream.expect("a stream");
        let _ = within(stream.collect::<Vec<_>>()).await;
    }
    let served = workers.iter().map(|one| one.stats().calls_started);
    assert!(
        served.clone().all(|calls| calls >= 20),
        "{:?}",
        served.collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_request_is_not_hidden_by_a_transient_failure() {
    let cluster = TestCluster::new().await;
    let (busy, _) = failing_router(Status::overloaded("later").with_retry_after(4 * TEST_TIMEOUT));
    let _old = cluster.worker("old", older_version(true));
    let _busy = cluster.worker("busy", busy);
    // Whichever of the two is tried last.
    for _ in 0..4 {
        let error = cluster.call("who").await.expect_err("both reject");
        assert_eq!(error.attempts().len(), 2, "{error}");
        let ClusterError::Rpc { error: told, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(told.code(), Code::InvalidRequest, "{error}");
        assert_eq!(&*error.node().expect("a node").name, "old");
        assert!(!error.is_retryable(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_stream_message_is_no_failure_of_the_worker() {
    let (cluster, told) = recording_cluster().await;
    let count = |_, n: u32, mut replies: Sender<u32>| async move {
        replies.send(n).await?;
        Ok(())
    };
    let last = |_, mut numbers: Receiver<u32>| async move {
        let mut last = 0;
        while let Some(n) = numbers.message().await? {
            last = n;
        }
        Ok::<u32, Status>(last)
    };
    let router = Router::new().server_streaming("count", count);
    let _red = cluster.worker("red", router.client_streaming("last", last));
    let as_failures = WorkerCallOptions::new().with_application_errors_as_failures(true);
    for options in [WorkerCallOptions::new(), as_failures] {
        type Pair = (u32, u32);
        let client = &cluster.client;
        let stream = client.call_worker_server_streaming("count", &1u32, None, options);
        let mut stream: rpcnet_client::WorkerStream<Receiver<Pair>> =
            within(stream).await.expect("a stream");
        let error = within(stream.message()).await;
        let error = error.expect_err("one number is no pair");
        assert_eq!(error.code(), Code::Internal, "{error}");

        let upload = client.call_worker_client_streaming::<u32, Pair>("last", None, options);
        let mut upload = within(upload).await.expect("a stream");
        within(upload.send(1)).await.expect("it is taken");
        let error = within(upload.finish()).await;
        let error = error.expect_err("one number is no pair");
        assert_eq!(error.code(), Code::Internal, "{error}");
        let kinds = std::mem::take(&mut *told.kinds.lock());
        assert_eq!(kinds, [OutcomeKind::StreamStarted; 2]);
    }
}
