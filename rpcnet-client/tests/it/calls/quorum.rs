//! Broadcasts with a stream of replies, and quorum calls.

use futures::{Stream, StreamExt};
use rpcnet_client::{
    QuorumError,
    client::{QuorumCall, QuorumFailure},
};

use super::*;

const WORKERS: Option<&str> = Some("role=worker");

fn options() -> WorkerCallOptions {
    WorkerCallOptions::new()
}

/// A call that so many workers of the cluster must answer.
fn quorum(cluster: &TestCluster, required: usize) -> QuorumCall<'_> {
    cluster.client.quorum(required).filter(WORKERS)
}

fn names<'a>(ids: impl IntoIterator<Item = &'a NodeId>) -> Vec<&'a str> {
    let mut names: Vec<_> = ids.into_iter().map(|id| &*id.name).collect();
    names.sort_unstable();
    names
}

#[tokio::test(start_paused = true)]
async fn broadcast_replies_are_streamed_as_they_arrive() {
    let cluster = TestCluster::new().await;
    let (router, _) = hanging_router();
    let (no_luck, _) = failing_router(Status::app(&7u32, "no luck"));
    let _servers = [
        cluster.worker("a", router),
        cluster.worker("b", identify("b")),
        cluster.worker("c", no_luck),
    ];
    let replies = cluster
        .client
        .call_all_workers_stream("who", "", WORKERS, options());
    let mut replies = replies.expect("workers");
    assert_eq!(
        (replies.remaining(), replies.size_hint()),
        (3, (3, Some(3)))
    );
    let mut told = Vec::new();
    for _ in 0..2 {
        let next = within(replies.next()).await;
        let (node, reply) = next.expect("one more");
        told.push((node.name.to_string(), reply.ok()));
    }
    told.sort();
    let reply = Bytes::from_static(b"b 0");
    assert_eq!(
        told,
        [("b".to_owned(), Some(reply)), ("c".to_owned(), None)]
    );
    assert_eq!((replies.remaining(), cluster.in_flight("a")), (1, 1));
    drop(replies);
    assert_eq!(cluster.in_flight("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn workers_beyond_the_broadcast_concurrency_are_not_in_flight() {
    let one = std::num::NonZeroUsize::MIN;
    let cluster = TestCluster::with(|config| config.with_broadcast_concurrency_max(one)).await;
    let (router, runs) = hanging_router();
    let _servers = ["a", "b", "c"].map(|name| cluster.worker(name, router.clone()));
    let all = || {
        ["a", "b", "c"]
            .map(|name| cluster.in_flight(name))
            .iter()
            .sum::<u32>()
    };
    let called = async |count| {
        until("one is called", || runs.load(SeqCst) == count).await;
        all()
    };
    let call = cluster.client.call_all_workers("who", "", WORKERS);
    let counted = tokio::select! {
        _ = call => panic!("it hangs"),
        counted = called(1) => counted,
    };
    assert_eq!((counted, all()), (1, 0));
    let replies = cluster
        .client
        .call_all_workers_stream("who", "", WORKERS, options());
    let mut replies = replies.expect("workers");
    assert_eq!(all(), 0);
    let counted = tokio::select! {
        _ = replies.next() => panic!("it hangs"),
        counted = called(2) => counted,
    };
    assert_eq!(counted, 1);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_broadcast_stream_covers_all_workers() {
    let one = std::num::NonZeroUsize::MIN;
    let cluster = TestCluster::with(|config| config.with_broadcast_concurrency_max(one)).await;
    let (router, runs) = hanging_router();
    let _servers = ["a", "b", "c"].map(|name| cluster.worker(name, router.clone()));
    let begun = Instant::now();
    let time = Duration::from_millis(400);
    let replies =
        cluster
            .client
            .call_all_workers_stream("who", "", WORKERS, options().with_timeout(time));
    let replies = replies.expect("workers").collect::<Vec<_>>();
    let replies = within(replies).await;
    assert_eq!(begun.elapsed(), time);
    assert_eq!(replies.len(), 3);
    for (_, reply) in &replies {
        let error = reply.as_ref().expect_err("they hang");
        assert!(
            matches!(error, ClusterError::DeadlineExceeded { .. }),
            "{error}"
        );
    }
    // One at a time, so there was none left for the others.
    assert_eq!(runs.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn typed_broadcast_replies_are_decoded() {
    let cluster = TestCluster::new().await;
    let twice = Router::new().typed("twice", |number: u32| async move { 2 * number });
    let wrong = Router::new().raw("twice", |_, _| async { Ok(Bytes::new()) });
    let _servers = [
        cluster.worker("a", twice.clone()),
        cluster.worker("b", wrong),
        cluster.worker("c", twice),
    ];
    let replies =
        cluster
            .client
            .call_all_workers_stream_typed::<u32, u32>("twice", &21, WORKERS, options());
    let replies = replies.expect("workers").collect::<Vec<_>>();
    let mut replies = within(replies).await;
    replies.sort_by(|one, other| one.0.name.cmp(&other.0.name));
    assert!(
        matches!(
            &replies[..],
            [
                (_, Ok(42)),
                (_, Err(ClusterError::Decode { .. })),
                (_, Ok(42))
            ]
        ),
        "{replies:?}"
    );

    let call = quorum(&cluster, 2).call_typed("twice", &21u32);
    let two: Vec<(NodeId, u32)> = within(call).await.expect("a and c");
    assert_eq!(names(two.iter().map(|(id, _)| id)), ["a", "c"]);
    assert!(two.iter().all(|(_, reply)| *reply == 42));
    let call = quorum(&cluster, 1).call_typed_where("twice", &21u32, |_, reply: &u32| *reply > 42);
    let error = within(call).await.expect_err("42 is not more");
    let QuorumError::NotReached { failed, .. } = error else {
        panic!("{error}");
    };
    let rejected = failed
        .iter()
        .filter(|(_, why)| matches!(why, QuorumFailure::NotAccepted));
    assert_eq!((failed.len(), rejected.count()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_quorum_does_not_wait_for_the_rest() {
    let cluster = TestCluster::new().await;
    let (router, runs) = hanging_router();
    let slow = [
        cluster.worker("a", router.clone()),
        cluster.worker("b", router),
    ];
    let _servers = ["c", "d", "e"].map(|name| cluster.worker(name, identify(name)));
    until("it is known", || cluster.in_flight("e") == 0).await;
    let call = quorum(&cluster, 3).call("who", "");
    let replies = within(call).await.expect("a quorum");
    assert_eq!(names(replies.iter().map(|(id, _)| id)), ["c", "d", "e"]);
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(cluster.in_flight(name), 0);
    }
    assert!(runs.load(SeqCst) <= 2);
    until("the rest is cancelled", || {
        slow.iter().all(|one| one.in_flight() == 0)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_quorum_fails_at_once() {
    let cluster = TestCluster::new().await;
    let (no_luck, _) = failing_router(Status::internal("broken"));
    let _servers = [
        cluster.worker("a", hanging_router().0),
        cluster.worker("b", no_luck.clone()),
        cluster.worker("c", identify("c")),
        cluster.worker("d", no_luck),
    ];
    let call = quorum(&cluster, 3).call("who", "");
    let error = within(call).await.expect_err("two are broken");
    let told = error.to_string();
    let QuorumError::NotReached {
        required,
        accepted,
        failed,
        pending,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(required, 3);
    assert_eq!(names(failed.iter().map(|(id, _)| id)), ["b", "d"]);
    assert!(
        failed
            .iter()
            .all(|(_, why)| matches!(why, QuorumFailure::Failed(ClusterError::Rpc { .. })))
    );
    // The good one may not have come that far.
    assert_eq!(names(accepted.iter().chain(&pending)), ["a", "c"]);
    assert!(
        told.contains("3 workers must reply") && told.contains("b: the call"),
        "{told}"
    );
    for name in ["a", "b", "c", "d"] {
        assert_eq!(cluster.in_flight(name), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_quorum_call_goes_by_its_options() {
    let cluster = TestCluster::new().await;
    let (router, runs) = hanging_router();
    let _servers = [
        cluster.worker("a", router.clone()),
        cluster.worker("b", router),
    ];
    let short = options().with_timeout(Duration::ZERO);
    let call = quorum(&cluster, 2).options(short).call("who", "");
    let error = within(call).await.expect_err("no time");
    let QuorumError::NotReached { failed, .. } = error else {
        panic!("{error}");
    };
    let late = |(_, why): &_| {
        matches!(
            why,
            QuorumFailure::Failed(ClusterError::DeadlineExceeded { .. })
        )
    };
    assert!(!failed.is_empty() && failed.iter().all(late), "{failed:?}");
    assert_eq!(runs.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_quorum_larger_than_the_cluster_calls_no_worker() {
    let cluster = TestCluster::new().await;
    let (router, runs) = hanging_router();
    let _servers = [
        cluster.worker("a", router.clone()),
        cluster.worker("b", router),
    ];
    let call = quorum(&cluster, 3).call("who", "");
    let error = within(call).await.expect_err("two are there");
    assert!(
        matches!(
            error,
            QuorumError::TooFewWorkers {
                required: 3,
                reachable: 2
            }
        ),
        "{error}"
    );
    let call = quorum(&cluster, 0).call("who", "");
    assert!(within(call).await.expect("at once").is_empty());
    let call = cluster
        .client
        .quorum(1)
        .filter(Some("role=none"))
        .call("who", "");
    let error = within(call).await.expect_err("no worker");
    assert!(
        matches!(error, QuorumError::Select(SelectError::NoMatch { .. })),
        "{error}"
    );
    assert_eq!((runs.load(SeqCst), cluster.client.stats().calls), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn only_accepted_replies_count_toward_a_quorum() {
    let cluster = TestCluster::new().await;
    let _servers = ["a", "b", "c"].map(|name| cluster.worker(name, identify(name)));
    let not_b = |node: &NodeId, reply: &Bytes| {
        assert!(reply.starts_with(node.name.as_bytes()));
        &*node.name != "b"
    };
    let call = quorum(&cluster, 2).call_where("who", "", not_b);
    let replies = within(call).await.expect("a quorum");
    assert_eq!(names(replies.iter().map(|(id, _)| id)), ["a", "c"]);
    let call = quorum(&cluster, 3).call_where("who", "", not_b);
    let error = within(call).await.expect_err("b is not accepted");
    assert!(matches!(error, QuorumError::NotReached { .. }), "{error}");
}
