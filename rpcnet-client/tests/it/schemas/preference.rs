//! Which workers calls pass over, and which checks find out about them.

use bytes::Bytes;
use rpcnet_client::{ClusterError, Code, Method, Processed, Router, transport::UntypedMethod};
use rpcnet_testing::LogCapture;
use tracing::Level;

use super::{
    services::{first, second, third},
    *,
};

#[tokio::test(start_paused = true)]
async fn no_call_is_sent_to_an_incompatible_worker_and_one_check_tells() {
    let cluster = TestCluster::seeded(1);
    let new = start(&cluster, ["new-0", "new-1", "new-2"], third::router).await;
    let old = start(&cluster, ["old-0", "old-1"], first::router).await;
    let caller = caller(&cluster).await;
    let log = LogCapture::start(Level::WARN);
    // Many at once, before anything is known.
    for call in join_all((0..50).map(|_| third::call(&caller))).await {
        call.expect("a new worker is there");
    }
    cluster.eventually(|| rejections(&old) > 0).await;
    for _ in 0..50 {
        third::call(&caller).await.expect("a new worker");
        third::stream(&caller).await.expect("a new worker");
    }
    // One check of each method; that of the stream is one of the same types.
    assert!(rejections(&old) <= 2, "{}", rejections(&old));
    let lines: Vec<_> = log.take().into_iter().map(|line| line.text).collect();
    let told = lines
        .iter()
        .filter(|line| line.contains("announce the same types"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 2, "{lines:?}");
    for part in ["Render/frame", "request", "string", "u64", "old-"] {
        assert!(told[0].contains(part), "{part} in {}", told[0]);
    }
    // Another one of them joins, and a long time passes.
    let before = rejections(&old);
    let late = start(&cluster, ["old-2"], first::router).await;
    cluster.eventually(|| cluster.has_converged()).await;
    for _ in 0..60 {
        tokio::time::sleep(10 * SECOND).await;
        third::call(&caller).await.expect("a new worker");
        third::stream(&caller).await.expect("a new worker");
    }
    // Checks come back after 1, 3 and 7 min, to another worker of the same types each time; a
    // connection knows the answer.
    let again = rejections(&old) - before + rejections(&late);
    assert!((1..=4).contains(&again), "{again} checks more");
    assert_eq!((served(&old), served(&late)), (0, 0));
    assert_eq!(served(&new), 50 + 100 + 120);
    let stats = caller.client().stats();
    assert_eq!(stats.extra_attempts(), 0, "{stats:?}");
    assert!(stats.schema_mismatches >= 120, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_no_worker_can_serve_end_incompatible_until_one_can() {
    let cluster = TestCluster::seeded(2);
    let old = start(&cluster, ["old-0", "old-1", "old-2"], first::router).await;
    let caller = caller(&cluster).await;
    for _ in 0..5 {
        let error = third::call(&caller).await.expect_err("all are old");
        assert_eq!(error.code(), Code::Incompatible, "{error}");
        assert_eq!(error.processed(), Processed::No);
        let error = ClusterError::of(&error).expect("an error of the cluster");
        // What one said is true of the others.
        assert_eq!(error.attempts().len(), 1, "{error}");
        let answer = error.rpc().and_then(|error| error.incompatibility());
        assert_eq!(answer.expect("an explanation").part(), "request");
    }
    // A connection knows the answer: each worker was asked once at most.
    assert!(rejections(&old) <= 3, "{}", rejections(&old));
    let new = start(&cluster, ["new"], third::router).await;
    cluster.eventually(|| cluster.has_converged()).await;
    for _ in 0..10 {
        third::call(&caller).await.expect("the new worker");
    }
    assert_eq!((served(&old), served(&new)), (0, 10));
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_a_later_version_than_all_workers_is_served_at_once() {
    let cluster = TestCluster::seeded(3);
    let old = start(&cluster, ["old-0", "old-1"], first::router).await;
    let caller = caller(&cluster).await;
    for _ in 0..10 {
        second::call(&caller).await.expect("they are compatible");
        second::stream(&caller).await.expect("they are compatible");
    }
    assert_eq!(served(&old), 20);
    assert_eq!(caller.client().stats().extra_attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_an_earlier_version_than_all_workers_is_served_at_once() {
    let cluster = TestCluster::seeded(3);
    let new = start(&cluster, ["new-0", "new-1"], second::router).await;
    let caller = caller(&cluster).await;
    for _ in 0..10 {
        first::call(&caller).await.expect("they are compatible");
        first::stream(&caller).await.expect("they are compatible");
    }
    assert_eq!(served(&new), 20);
    assert_eq!(caller.client().stats().extra_attempts(), 0);
}

/// Calls of a caller of the second version to one worker of its version and four of the first, or
/// the other way round.
async fn check_shares(strategy: LoadBalancingStrategy, seed: u64) {
    for is_caller_new in [true, false] {
        let cluster = TestCluster::seeded(seed);
        let one = start(&cluster, ["second"], second::router).await;
        let names = ["first-0", "first-1", "first-2", "first-3"];
        let four = start(&cluster, names, first::router).await;
        let build = move |builder: NodeBuilder| builder.strategy(strategy);
        let caller = cluster.start("caller", build).await;
        cluster.eventually(|| cluster.has_converged()).await;
        // Connections first: a call that waits for its connection takes longer than the others.
        for _ in 0..20 {
            let replies = caller
                .client()
                .call_all_workers("ping", Bytes::new(), None)
                .await;
            assert_eq!(replies.expect("five workers").len(), 5);
        }
        let calls = (0..10).map(|_| async {
            for _ in 0..200 {
                match is_caller_new {
                    true => second::call(&caller).await,
                    false => first::call(&caller).await,
                }
                .expect("all are compatible");
            }
        });
        join_all(calls).await;
        let shares: Vec<u64> = one
            .iter()
            .chain(&four)
            .map(|one| one.1.load(SeqCst))
            .collect();
        let (least, most) = (shares.iter().min(), shares.iter().max());
        let is_even = most
            .zip(least)
            .is_some_and(|(most, least)| *most <= 2 * least);
        assert!(is_even, "{strategy:?}, new {is_caller_new}: {shares:?}");
        assert_eq!(shares.iter().sum::<u64>(), 2_000);
        assert_eq!(caller.client().stats().extra_attempts(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn compatible_workers_of_another_version_have_their_share_under_peak_ewma() {
    check_shares(LoadBalancingStrategy::PeakEwma, 4).await;
}

#[tokio::test(start_paused = true)]
async fn compatible_workers_of_another_version_have_their_share_under_least_connections() {
    check_shares(LoadBalancingStrategy::LeastConnections, 5).await;
}

#[tokio::test(start_paused = true)]
async fn compatible_workers_of_another_version_have_their_share_under_round_robin() {
    check_shares(LoadBalancingStrategy::RoundRobin, 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_reaches_no_worker_is_repeated_and_delays_no_call() {
    let cluster = TestCluster::seeded(7);
    let new = start(&cluster, ["new"], second::router).await;
    let old = start(&cluster, ["old"], first::router).await;
    let caller = caller(&cluster).await;
    // Too short for gossip to find it failed.
    cluster.partition([&caller], [&old[0].0]);
    let began = cluster.elapsed();
    for _ in 0..20 {
        second::call(&caller).await.expect("the new worker");
    }
    assert!(cluster.elapsed() - began < SECOND);
    cluster.heal();
    let is_shared = async || {
        second::call(&caller)
            .await
            .map_err(|error| error.to_string())?;
        if served(&old) == 0 {
            Err("none there".to_owned())
        } else {
            Ok(())
        }
    };
    cluster.eventually_ok(is_shared).await;
    assert!(served(&new) >= 20);
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_unknown_types_is_called_if_no_other_is_left() {
    let cluster = TestCluster::seeded(8);
    let new = start(&cluster, ["new"], second::router).await;
    let old = start(&cluster, ["old"], first::router).await;
    let caller = caller(&cluster).await;
    new[0].0.kill();
    let idempotent = async || second::call(&caller).await;
    cluster.eventually_ok(idempotent).await;
    assert!(served(&old) > 0);
}

const LIST: Method<u64, u64> = Method::new("Shop/list").in_service(shop);
const ORDER: Method<u64, u64> = Method::new("Shop/order").in_service(shop);

fn shop() -> &'static [UntypedMethod] {
    const { &[LIST.untyped(), ORDER.untyped()] }
}

#[tokio::test(start_paused = true)]
async fn no_call_of_a_new_method_is_sent_to_a_worker_that_lacks_it() {
    let cluster = TestCluster::seeded(9);
    let list = || Router::new().method(LIST, |n| async move { n });
    let both = move || list().method(ORDER, |n| async move { n + 1 });
    let old = ["old-0", "old-1"].map(|name| {
        let build = move |builder: NodeBuilder| builder.serve(list());
        cluster.start(name, build)
    });
    let old = join_all(old).await;
    let build = move |builder: NodeBuilder| builder.serve(both());
    let _new = cluster.start("new", build).await;
    let caller = caller(&cluster).await;
    let workers = caller.client().workers(None);
    for _ in 0..60 {
        assert_eq!(ORDER.call(&workers, &1).await.expect("the new one"), 2);
        LIST.call(&workers, &1).await.expect("all have it");
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(caller.client().stats().extra_attempts(), 0);
    for worker in &old {
        let stats = worker.node().endpoint().stats();
        // By checks, which come ever later.
        assert!(stats.unknown_methods <= 6, "{stats:?}");
        assert!(stats.calls_completed >= 10, "{stats:?}");
    }
}
