//! Routes: calls by a prepared filter, and what they notice.

use rpcnet_client::{Method, WorkerRoute};
use rpcnet_testing::until_some;

use super::*;

const SQUARE: Method<u64, u64> = Method::new("square");

/// The workers that so many calls over a route are served by, in order, without repetitions.
async fn served_by(route: &WorkerRoute, calls: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..calls {
        let reply = within(route.call("who", "")).await.expect("a reply");
        let reply = String::from_utf8(reply.to_vec()).expect("text");
        names.push(reply.split(' ').next().expect("a name").to_owned());
    }
    names.sort_unstable();
    names.dedup();
    names
}

#[tokio::test(start_paused = true)]
async fn a_route_notices_at_once_that_workers_join_and_leave() {
    let cluster = TestCluster::new().await;
    let route = cluster.client.route("role=worker");
    let error = within(route.call("who", "")).await.expect_err("no worker");
    assert!(
        matches!(error, ClusterError::Select(SelectError::NoMatch { .. })),
        "{error}"
    );
    let _red = cluster.worker("red", identify("red"));
    assert_eq!(served_by(&route, 3).await, ["red"]);
    let _blue = cluster.worker("blue", identify("blue"));
    assert_eq!(served_by(&route, 6).await, ["blue", "red"]);
    cluster.list.fail("red");
    assert_eq!(served_by(&route, 6).await, ["blue"]);
    cluster.list.remove("blue");
    let error = within(route.call("who", "")).await.expect_err("no worker");
    assert!(matches!(error, ClusterError::Select(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_route_uses_the_next_connection_after_one_was_lost() {
    let cluster = TestCluster::new().await;
    let red = cluster.worker("red", identify("red"));
    let route = cluster.client.route("role=worker");
    assert_eq!(served_by(&route, 3).await, ["red"]);
    assert_eq!(cluster.handshakes(), 1);
    let addr = red.local_addr();
    within(red.shutdown(Duration::ZERO)).await;
    let again = until_some("the address is free", async || {
        cluster.bind_at("red", addr).ok()
    });
    let red = again.await;
    let _red = red.serve(identify("red"));
    assert_eq!(served_by(&route, 3).await, ["red"]);
    assert_eq!(cluster.handshakes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_route_makes_all_calls_of_its_filter() {
    let cluster = TestCluster::new().await;
    let router = || {
        identify("one")
            .typed("double", |n: u32| async move { 2 * n })
            .method(SQUARE, |n| async move { n * n })
    };
    let _servers = ["red", "blue"].map(|name| cluster.worker(name, router()));
    let route = cluster.client.route("role=worker");
    assert_eq!(route.filter(), Some("role=worker"));
    let doubled: u32 = within(route.call_typed("double", &21_u32))
        .await
        .expect("a reply");
    assert_eq!(doubled, 42);
    let options = WorkerCallOptions::new().with_idempotent(true);
    let call = route.call_typed_with("double", &4_u32, options);
    let doubled: u32 = within(call).await.expect("a reply");
    assert_eq!(doubled, 8);
    let reply = within(route.call_with("who", "", options)).await;
    assert_eq!(&reply.expect("a reply")[..], b"one 0");
    let replies = within(route.call_all("who", "")).await.expect("workers");
    assert_eq!(replies.len(), 2);
    let squared = within(SQUARE.call(&route.channel(), &7)).await;
    assert_eq!(squared.expect("a reply"), 49);
    // The same calls by the client count the same.
    assert_eq!(cluster.call("who").await.expect("a reply"), "one 0");
    let stats = cluster.client.stats();
    assert_eq!((stats.calls, stats.extra_attempts()), (7, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_of_more_filters_than_are_kept_are_made_too() {
    let cluster = TestCluster::new().await;
    let _red = cluster.worker("red", identify("red"));
    for number in 0..200 {
        let filter = format!("role=worker,!tag-{number}");
        let call = cluster.client.call_worker("who", "", Some(&filter));
        assert_eq!(
            &within(call).await.expect("a reply")[..],
            b"red 0",
            "{filter}"
        );
        let route = cluster.client.route(&filter);
        assert_eq!(served_by(&route, 1).await, ["red"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_failed_is_passed_over_by_the_next_call_of_a_route() {
    let cluster = TestCluster::new().await;
    let red = cluster.worker("red", identify("red"));
    let _blue = cluster.worker("blue", identify("blue"));
    let route = cluster.client.route("role=worker");
    assert_eq!(served_by(&route, 4).await, ["blue", "red"]);
    within(red.shutdown(Duration::ZERO)).await;
    // The first of them may find out.
    assert_eq!(served_by(&route, 8).await, ["blue"]);
}
