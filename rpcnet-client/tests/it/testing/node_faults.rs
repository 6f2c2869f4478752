//! Faults of one node.

use rpcnet_client::{NodeError, NodeState, Router, swim::JoinError};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_killed_node_loses_its_calls_and_is_found_failed() {
    let cluster = TestCluster::seeded(1);
    let nodes = started(&cluster, 3).await;
    let handle = nodes[2].node();
    let (caller, callee) = (nodes[0].clone(), nodes[2].clone());
    let hanging = tokio::spawn(async move { call::<()>(&caller, &callee, "sleep").await });
    let serves = || handle.endpoint().in_flight() == 1;
    cluster.eventually(serves).await;

    let began = cluster.elapsed();
    nodes[2].kill();
    assert!(!nodes[2].is_running());
    assert_eq!(nodes[2].alive(), 0);
    let error = hanging
        .await
        .expect("no panic")
        .expect_err("its worker is gone");
    assert!(
        cluster.elapsed() - began > SECOND,
        "no one was told: {error}"
    );
    assert_eq!(error.processed(), rpcnet_client::Processed::Maybe);
    cluster
        .eventually(|| nodes[0].sees(&nodes[2]) == Some(NodeState::Failed))
        .await;
    // A handle that the test has kept does nothing more.
    assert_eq!(handle.endpoint().in_flight(), 0);
    let filter = Some("node=node-0");
    let called = handle
        .client()
        .call_worker_typed::<_, String>("name", &(), filter)
        .await;
    called.expect_err("it does not run");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_has_a_new_memory_and_the_same_name_and_address() {
    let cluster = TestCluster::seeded(2);
    let nodes = started(&cluster, 3).await;
    let before = nodes[1].node().id().clone();
    assert_eq!(
        call::<u64>(&nodes[0], &nodes[1], "count")
            .await
            .expect("a reply"),
        1
    );
    assert_eq!(
        call::<u64>(&nodes[0], &nodes[1], "count")
            .await
            .expect("a reply"),
        2
    );
    nodes[1].restart().await;
    let after = nodes[1].node().id().clone();
    assert_eq!(after.name, before.name);
    assert!(after.epoch > before.epoch);
    assert_eq!(nodes[1].node().addr(), nodes[1].addr());
    cluster.eventually(|| cluster.has_converged()).await;
    let counted = cluster.eventually_ok(async || call::<u64>(&nodes[0], &nodes[1], "count").await);
    assert_eq!(counted.await, 1_u64);
}

#[tokio::test(start_paused = true)]
async fn restarts_in_a_row_have_rising_epochs() {
    let cluster = TestCluster::seeded(2);
    let nodes = started(&cluster, 1).await;
    let mut epoch = nodes[0].node().id().epoch;
    for _ in 0..5 {
        nodes[0].restart().await;
        let next = nodes[0].node().id().epoch;
        assert!(next > epoch, "{next} after {epoch}");
        epoch = next;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_node_finds_the_others_again_when_it_restarts() {
    let cluster = TestCluster::seeded(3);
    let nodes = started(&cluster, 3).await;
    nodes[0].kill();
    cluster.eventually(|| cluster.has_converged()).await;
    nodes[0].restart().await;
    cluster.eventually(|| cluster.has_converged()).await;
    assert_eq!(nodes[0].alive(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_node_answers_nothing_and_keeps_its_memory() {
    let cluster = TestCluster::seeded(4);
    let nodes = started(&cluster, 3).await;
    let before = nodes[1].node().id().clone();
    assert_eq!(
        call::<u64>(&nodes[0], &nodes[1], "count")
            .await
            .expect("a reply"),
        1
    );
    nodes[1].stop();
    call::<u64>(&nodes[0], &nodes[1], "count")
        .await
        .expect_err("no answer");
    call::<u64>(&nodes[1], &nodes[0], "count")
        .await
        .expect_err("nothing is sent");
    cluster
        .eventually(|| nodes[0].sees(&nodes[1]) == Some(NodeState::Failed))
        .await;
    assert!(nodes[1].is_running());

    nodes[1].resume();
    cluster.eventually(|| cluster.has_converged()).await;
    assert_eq!(nodes[1].node().id(), &before);
    let counted = cluster.eventually_ok(async || call::<u64>(&nodes[0], &nodes[1], "count").await);
    assert_eq!(counted.await, 2_u64);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_is_days_ahead_is_not_let_in() {
    let cluster = TestCluster::seeded(5);
    let nodes = started(&cluster, 2).await;
    let skewed = cluster
        .start("skewed", |node| node.require_join(true))
        .await;
    skewed.skew_ahead(48 * 3600 * SECOND);
    let refused = skewed
        .try_restart()
        .await
        .expect_err("the others refuse its epoch");
    let is_skew = matches!(refused, NodeError::Join(JoinError::ClockSkew { .. }));
    assert!(is_skew, "{refused}");
    assert!(!skewed.is_running());
    skewed.skew_ahead(Duration::ZERO);
    skewed.restart().await;
    cluster.eventually(|| cluster.has_converged()).await;
    assert_eq!(nodes[0].alive(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_is_behind_takes_certificates_for_not_yet_valid() {
    let cluster = TestCluster::seeded(6);
    let nodes = started(&cluster, 2).await;
    nodes[1].skew_behind(2 * 3600 * SECOND);
    let refused = call::<String>(&nodes[1], &nodes[0], "name").await;
    let text = refused
        .expect_err("made in the future, by its clock")
        .to_string();
    assert!(
        text.contains("not valid yet") || text.contains("certificate"),
        "{text}"
    );
    nodes[1].skew_behind(Duration::ZERO);
    let name = cluster.eventually_ok(async || call::<String>(&nodes[1], &nodes[0], "name").await);
    assert_eq!(name.await, "node-0".to_owned());
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_node_serves_another_router_and_no_call_fails_meanwhile() {
    let cluster = TestCluster::seeded(7);
    let nodes = started(&cluster, 3).await;
    let caller = cluster.start("caller", |node| node).await;
    let all_known = || caller.alive() == 4;
    cluster.eventually(all_known).await;
    let calls = tokio::spawn({
        let caller = caller.clone();
        async move {
            for _ in 0..200 {
                let client = caller.client();
                let called = client
                    .call_worker_typed::<_, String>("name", &(), None)
                    .await;
                called.expect("a reply");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    for node in &nodes {
        node.upgrade(|builder| {
            let later = Router::new().typed("added", |(): ()| async { "later".to_owned() });
            serving(builder).serve(later)
        })
        .await;
    }
    calls.await.expect("no call fails");
    let added = call::<String>(&caller, &nodes[1], "added").await;
    assert_eq!(added.expect("a reply"), "later");
    // Later restarts have the new router too.
    nodes[1].restart().await;
    let added = cluster.eventually_ok(async || call::<String>(&caller, &nodes[1], "added").await);
    assert_eq!(added.await, "later");
    assert_eq!(nodes[1].name(), "node-1");
}

#[tokio::test(start_paused = true)]
async fn a_node_drains_resumes_and_reloads_its_certificate() {
    let cluster = TestCluster::seeded(8);
    let nodes = started(&cluster, 2).await;
    let node = nodes[1].node();
    let drained = node.drain(10 * SECOND).await;
    assert_eq!(drained.remaining, 0);
    assert!(!node.is_ready());
    cluster
        .eventually(|| nodes[0].sees(&nodes[1]) == Some(NodeState::Draining))
        .await;
    call::<String>(&nodes[0], &nodes[1], "name")
        .await
        .expect_err("it drains");
    node.resume();
    assert!(node.is_ready());
    cluster.eventually(|| cluster.has_converged()).await;
    let name = cluster.eventually_ok(async || call::<String>(&nodes[0], &nodes[1], "name").await);
    assert_eq!(name.await, "node-1");

    node.endpoint()
        .reload_tls(cluster.issue("node-1"))
        .expect("it is valid");
    assert_eq!(node.endpoint().stats().tls_reloads, 1);
    nodes[0].restart().await;
    cluster.eventually(|| cluster.has_converged()).await;
    let name = cluster.eventually_ok(async || call::<String>(&nodes[0], &nodes[1], "name").await);
    assert_eq!(name.await, "node-1");
}
