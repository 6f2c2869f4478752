//! Waiting for conditions, and what a failing test says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Message of the panic of a test.
fn message_of(test: impl AsyncFn(TestCluster)) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let run = || runtime.block_on(async { test(TestCluster::seeded(21)).await });
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("the test fails");
    let message = panic.downcast::<String>().expect("a formatted message");
    *message
}

#[test]
fn a_condition_that_does_not_hold_in_time_fails_with_log_views_and_command() {
    let message = message_of(async |cluster| {
        let nodes = started(&cluster, 2).await;
        nodes[1].kill();
        cluster.note("a note of the test");
        let began = cluster.elapsed();
        let impossible = cluster.eventually_within(7 * SECOND, || {
            assert!(cluster.elapsed() - began <= 8 * SECOND);
            nodes[0].alive() == 3
        });
        impossible.await;
    });
    let first = message.lines().next().expect("a line");
    assert!(first.starts_with("not within 7s, at "), "{first}");
    assert!(first.contains("waiting.rs:"), "{first}");
    for part in [
        "s  cluster with seed 21",
        "s  node-1 killed",
        "s  a note of the test",
        "s  node-0: node-1 failed",
        "\n  node-0: sees node-0 alive, node-1 failed\n",
        "\n  node-1: does not run\n",
        "to repeat: RPCNET_TEST_SEED=21 cargo test -p rpcnet-client testing::waiting::a_condition_",
    ] {
        assert!(message.contains(part), "{part:?} is not in:\n{message}");
    }
}

#[test]
fn an_attempt_that_never_succeeds_fails_with_its_last_error() {
    let message = message_of(async |cluster| {
        let nodes = started(&cluster, 2).await;
        nodes[1].stop();
        let call = cluster.eventually_ok(async || call::<String>(&nodes[0], &nodes[1], "no").await);
        call.await;
    });
    let first = message.lines().next().expect("a line");
    assert!(
        first.starts_with("no success within 60s, last error: "),
        "{first}"
    );
    assert!(message.contains("node-1: stopped, sees "), "{message}");
}

#[test]
fn a_condition_that_breaks_fails_at_once() {
    let message = message_of(async |cluster| {
        let nodes = started(&cluster, 2).await;
        nodes[1].kill();
        cluster
            .holds_for(60 * SECOND, || nodes[0].alive() == 2)
            .await;
    });
    let first = message.lines().next().expect("a line");
    assert!(first.starts_with("broken after "), "{first}");
}

#[tokio::test]
#[should_panic(expected = "the time of the runtime is not paused")]
async fn a_cluster_needs_paused_time() {
    let _ = TestCluster::seeded(22);
}

#[tokio::test(start_paused = true)]
async fn waiting_takes_virtual_time_alone() {
    let cluster = TestCluster::seeded(23);
    let mut checks = 0;
    cluster
        .eventually(|| {
            checks += 1;
            checks == 100
        })
        .await;
    assert!(cluster.elapsed() < 2 * SECOND);
    cluster.holds_for(5 * SECOND, || true).await;
    assert!(cluster.elapsed() >= 5 * SECOND);
    let mut attempts = 0;
    let third = cluster.eventually_ok(async || {
        attempts += 1;
        if attempts == 3 {
            Ok(attempts)
        } else {
            Err("not yet")
        }
    });
    assert_eq!(third.await, 3);
}
