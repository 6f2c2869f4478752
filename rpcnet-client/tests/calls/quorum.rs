//! Calls to all workers whose replies come as they come, and calls that so many must answer.

use futures::{Stream, StreamExt};
use rpcnet_client::{QuorumError, QuorumFailure};

use super::*;

const WORKERS: Option<&str> = Some("role=worker");

fn options() -> WorkerCallOptions {
    WorkerCallOptions::new()
}

fn names<'a>(ids: impl IntoIterator<Item = &'a NodeId>) -> Vec<&'a str> {
    let mut names: Vec<_> = ids.into_iter().map(|id| &*id.name).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_come_as_they_come() {
    let bench = Bench::new().await;
    let (router, _) = hanging();
    let (no_luck, _) = failing(Status::app(&7u32, "no luck"));
    let _servers = [
        bench.worker("a", router),
        bench.worker("b", who("b")),
        bench.worker("c", no_luck),
    ];
    let replies = bench
        .client
        .call_all_workers_stream("who", "", WORKERS, options());
    let mut replies = replies.expect("workers");
    assert_eq!(
        (replies.remaining(), replies.size_hint()),
        (3, (3, Some(3)))
    );
    let mut told = Vec::new();
    for _ in 0..2 {
        let next = within("a reply", replies.next()).await;
        let (node, reply) = next.expect("one more");
        told.push((node.name.to_string(), reply.ok()));
    }
    told.sort();
    let reply = Bytes::from_static(b"b 0");
    assert_eq!(
        told,
        [("b".to_owned(), Some(reply)), ("c".to_owned(), None)]
    );
    assert_eq!((replies.remaining(), bench.in_flight("a")), (1, 1));
    drop(replies);
    assert_eq!(bench.in_flight("a"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_wait_for_their_turn_are_not_in_flight() {
    let one = std::num::NonZeroUsize::MIN;
    let bench = Bench::with(|config| config.with_broadcast_concurrency_max(one)).await;
    let (router, runs) = hanging();
    let _servers = ["a", "b", "c"].map(|name| bench.worker(name, router.clone()));
    let all = || {
        ["a", "b", "c"]
            .map(|name| bench.in_flight(name))
            .iter()
            .sum::<u32>()
    };
    let called = async |count| {
        until("one is called", || runs.load(SeqCst) == count).await;
        all()
    };
    let call = bench.client.call_all_workers("who", "", WORKERS);
    let counted = tokio::select! {
        _ = call => panic!("it hangs"),
        counted = called(1) => counted,
    };
    assert_eq!((counted, all()), (1, 0));
    let replies = bench
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

#[tokio::test(flavor = "multi_thread")]
async fn the_time_is_for_all_of_them() {
    let one = std::num::NonZeroUsize::MIN;
    let bench = Bench::with(|config| config.with_broadcast_concurrency_max(one)).await;
    let (router, runs) = hanging();
    let _servers = ["a", "b", "c"].map(|name| bench.worker(name, router.clone()));
    let begun = Instant::now();
    let time = Duration::from_millis(400);
    let replies =
        bench
            .client
            .call_all_workers_stream("who", "", WORKERS, options().with_timeout(time));
    let replies = replies.expect("workers").collect::<Vec<_>>();
    let replies = within("the replies", replies).await;
    assert!(begun.elapsed() >= time);
    assert_eq!(replies.len(), 3);
    for (_, reply) in &replies {
        let error = reply.as_ref().expect_err("they hang");
        assert!(
            matches!(error, ClusterError::DeadlineExceeded { .. }),
            "{error}"
        );
    }
    // One at a time, so there was none left for the others.
    assert!(runs.load(SeqCst) <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_decoded() {
    let bench = Bench::new().await;
    let twice = Router::new().typed("twice", |number: u32| async move { 2 * number });
    let wrong = Router::new().raw("twice", |_, _| async { Ok(Bytes::new()) });
    let _servers = [
        bench.worker("a", twice.clone()),
        bench.worker("b", wrong),
        bench.worker("c", twice),
    ];
    let replies =
        bench
            .client
            .call_all_workers_stream_typed::<u32, u32>("twice", &21, WORKERS, options());
    let replies = replies.expect("workers").collect::<Vec<_>>();
    let mut replies = within("the replies", replies).await;
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

    let call = bench
        .client
        .call_quorum_typed("twice", &21u32, WORKERS, 2, options());
    let two: Vec<(NodeId, u32)> = within("two of three", call).await.expect("a and c");
    assert_eq!(names(two.iter().map(|(id, _)| id)), ["a", "c"]);
    assert!(two.iter().all(|(_, reply)| *reply == 42));
    let call = bench.client.call_quorum_typed_where(
        "twice",
        &21u32,
        WORKERS,
        1,
        options(),
        |_, reply: &u32| *reply > 42,
    );
    let error = within("none of three", call)
        .await
        .expect_err("42 is not more");
    let QuorumError::NotReached { failed, .. } = error else {
        panic!("{error}");
    };
    let rejected = failed
        .iter()
        .filter(|(_, why)| matches!(why, QuorumFailure::Rejected));
    assert_eq!((failed.len(), rejected.count()), (3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_does_not_wait_for_the_rest() {
    let bench = Bench::new().await;
    let (router, runs) = hanging();
    let slow = [bench.worker("a", router.clone()), bench.worker("b", router)];
    let _servers = ["c", "d", "e"].map(|name| bench.worker(name, who(name)));
    until("it is known", || bench.in_flight("e") == 0).await;
    let call = bench.client.call_quorum("who", "", WORKERS, 3, options());
    let replies = within("three of five", call).await.expect("a quorum");
    assert_eq!(names(replies.iter().map(|(id, _)| id)), ["c", "d", "e"]);
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(bench.in_flight(name), 0);
    }
    assert!(runs.load(SeqCst) <= 2);
    until("the rest is cancelled", || {
        slow.iter().all(|one| one.in_flight() == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_that_cannot_be_reached_fails_at_once() {
    let bench = Bench::new().await;
    let (no_luck, _) = failing(Status::internal("broken"));
    let _servers = [
        bench.worker("a", hanging().0),
        bench.worker("b", no_luck.clone()),
        bench.worker("c", who("c")),
        bench.worker("d", no_luck),
    ];
    let call = bench.client.call_quorum("who", "", WORKERS, 3, options());
    let error = within("three of four", call)
        .await
        .expect_err("two are broken");
    let told = error.to_string();
    let QuorumError::NotReached {
        wanted,
        accepted,
        failed,
        pending,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(wanted, 3);
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
        assert_eq!(bench.in_flight(name), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_of_more_than_there_are_asks_nobody() {
    let bench = Bench::new().await;
    let (router, runs) = hanging();
    let _servers = [bench.worker("a", router.clone()), bench.worker("b", router)];
    let call = bench.client.call_quorum("who", "", WORKERS, 3, options());
    let error = within("three of two", call)
        .await
        .expect_err("two are there");
    assert!(
        matches!(
            error,
            QuorumError::TooFewWorkers {
                wanted: 3,
                reachable: 2
            }
        ),
        "{error}"
    );
    let call = bench.client.call_quorum("who", "", WORKERS, 0, options());
    assert!(within("none", call).await.expect("at once").is_empty());
    let call = bench
        .client
        .call_quorum("who", "", Some("role=none"), 1, options());
    let error = within("nobody", call).await.expect_err("nobody is there");
    assert!(
        matches!(error, QuorumError::Select(SelectError::NoMatch { .. })),
        "{error}"
    );
    assert_eq!((runs.load(SeqCst), bench.client.stats().calls), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_replies_that_are_accepted_count() {
    let bench = Bench::new().await;
    let _servers = ["a", "b", "c"].map(|name| bench.worker(name, who(name)));
    let not_b = |node: &NodeId, reply: &Bytes| {
        assert!(reply.starts_with(node.name.as_bytes()));
        &*node.name != "b"
    };
    let call = bench
        .client
        .call_quorum_where("who", "", WORKERS, 2, options(), not_b);
    let replies = within("two of three", call).await.expect("a quorum");
    assert_eq!(names(replies.iter().map(|(id, _)| id)), ["a", "c"]);
    let call = bench
        .client
        .call_quorum_where("who", "", WORKERS, 3, options(), not_b);
    let error = within("three of three", call)
        .await
        .expect_err("b is not accepted");
    assert!(matches!(error, QuorumError::NotReached { .. }), "{error}");
}
