//! Lifecycle: nodes join, leave, fail, restart and change tags.

use rpcnet_client::{
    ClusterEvent,
    swim::{PartitionStatus, SplitBrainPolicy},
};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_killed_node_fails_everywhere_and_its_restart_takes_its_place() {
    let cluster = TestCluster::seeded(1);
    let nodes = workers(&cluster, 5).await;
    let (victim, others) = nodes.split_last().expect("five nodes");
    let first_life = victim.node().id().clone();
    victim.kill();
    let all_see = |state| others.iter().all(|node| node.sees(victim) == Some(state));
    cluster.eventually(|| all_see(NodeState::Failed)).await;

    victim.restart().await;
    let second_life = victim.node().id().clone();
    assert!(second_life.epoch > first_life.epoch);
    let known_as = |node: &TestNode, id| {
        let snapshot = node.node().nodes().snapshot();
        let known = snapshot.node("w4").expect("it is known");
        (&known.id, known.state) == (id, NodeState::Alive)
    };
    let all_know = |id| others.iter().all(|node| known_as(node, id));
    cluster.eventually(|| all_know(&second_life)).await;

    // Again, at another address, and so soon that no member has noticed: it takes over all the
    // same.
    victim.kill();
    let tls = cluster.issue("w4");
    let moved = move |builder: NodeBuilder| in_memory_worker(builder.tls(tls.clone()));
    let third = cluster.start("w4-moved", moved).await;
    let (third_life, addr) = (third.node().id().clone(), third.addr());
    assert!(third_life.epoch > second_life.epoch && addr != victim.addr());
    cluster.eventually(|| all_know(&third_life)).await;
    let caller = nodes[0].node();
    let is_selected = || {
        let all = caller.workers().select_all(Some("role=worker"));
        all.is_ok_and(|all| all.iter().any(|one| one.addr == addr))
    };
    cluster.eventually(is_selected).await;
    let replies = caller.client().call_all_workers("who", Bytes::new(), None);
    let replies = replies.await.expect("workers");
    assert_eq!(replies.len(), 4);
    for (id, reply) in replies {
        let reply = reply.expect("a reply");
        assert!(reply.starts_with(id.name.as_bytes()), "{id}: {reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down_has_left_and_not_failed() {
    let cluster = TestCluster::seeded(2);
    let nodes = workers(&cluster, 5).await;
    let (leaver, others) = nodes.split_last().expect("five nodes");
    let mut events = nodes[0].node().nodes().subscribe();
    let report = leaver.node().shutdown(Duration::from_secs(10)).await;
    assert!(report.left && report.acknowledged > 0, "{report:?}");
    loop {
        match events.recv().await.expect("the registry is there") {
            ClusterEvent::NodeLeft(node) => break assert_eq!(&*node.id.name, "w4"),
            ClusterEvent::NodeFailed(node) => panic!("{} failed", node.id),
            _ => {}
        }
    }
    let has_left = |node: &TestNode| matches!(node.sees(leaver), None | Some(NodeState::Left));
    cluster.eventually(|| others.iter().all(has_left)).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_tag_reaches_selection() {
    let cluster = TestCluster::seeded(3);
    let nodes = workers(&cluster, 3).await;
    let (caller, tagged) = (nodes[0].node(), nodes[2].node());
    let select = |filter: &str| caller.workers().select(Some(filter), &Default::default());
    assert!(select("zone=eu-1").is_err());
    tagged.membership().set_tag("zone", "eu-1").expect("room");
    cluster.eventually(|| select("zone=eu-1").is_ok()).await;
    assert_eq!(select("zone=eu-1").expect("one").addr, tagged.addr());
    tagged.membership().remove_tag("role");
    let is_passed_over = || {
        let all = caller.workers().select_all(Some("role=worker"));
        all.is_ok_and(|all| all.len() == 1)
    };
    cluster.eventually(is_passed_over).await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_seen_on_both_sides_and_heals() {
    let cluster = TestCluster::seeded(4);
    let nodes = workers(&cluster, 5).await;
    let (few, many) = nodes.split_at(2);
    cluster.partition(few, many);
    let are_apart =
        || few.iter().all(|node| node.alive() == 2) && many.iter().all(|node| node.alive() == 3);
    cluster.eventually(are_apart).await;
    let status = |node: &TestNode| node.node().membership().partition_status();
    let minority = PartitionStatus::Partitioned {
        reachable: 2,
        expected: 5,
        minority: true,
    };
    cluster
        .eventually(|| few.iter().all(|node| status(node) == minority))
        .await;
    // Each side knows whether it may go on.
    let majority = SplitBrainPolicy::keep_majority();
    let may_serve = |node: &TestNode| node.node().may_serve(&majority).is_allowed();
    assert!(!few.iter().any(may_serve));
    assert!(many.iter().all(may_serve));
    // Selection keeps to its side.
    let others = few[0].node().workers().select_all(None).expect("one");
    let addrs: Vec<_> = others.iter().map(|one| one.addr).collect();
    assert_eq!(addrs, [few[1].addr()]);

    cluster.heal();
    cluster.eventually(|| cluster.has_converged()).await;
    let is_healthy = |node: &TestNode| status(node) == PartitionStatus::Healthy;
    cluster.eventually(|| nodes.iter().all(is_healthy)).await;
}

#[tokio::test(start_paused = true)]
async fn ten_nodes_discover_each_other_and_a_failure_in_seconds() {
    let cluster = TestCluster::seeded(5);
    let nodes = workers(&cluster, 10).await;
    assert!(
        cluster.elapsed() < Duration::from_secs(2),
        "{:?}",
        cluster.elapsed()
    );
    let (victim, others) = nodes.split_last().expect("ten nodes");
    victim.kill();
    let is_known = || {
        others
            .iter()
            .all(|node| node.sees(victim) == Some(NodeState::Failed))
    };
    cluster
        .eventually_within(Duration::from_secs(8), is_known)
        .await;
}

/// On loopback: the port is one of the system.
#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_a_node_is_free_after_its_shutdown() {
    let seed = start(worker("seed"), &[]).await;
    let mut addr = loopback();
    let mut held = Vec::new();
    for round in 0..8 {
        let again = worker("again").bind(addr);
        let again = again.seeds([seed.addr().to_string()]).require_join(true);
        let node = within(again.start()).await;
        let node = node.unwrap_or_else(|error| panic!("round {round}: {error}"));
        addr = node.addr();
        who(&node).await.expect("an answer");
        within(node.shutdown(Duration::from_secs(10))).await;
        held.push(node);
    }
}
