//! Lifecycle: nodes join, leave, fail, restart and change tags.

use rpcnet_client::{
    ClusterEvent, NodeState,
    swim::{PartitionStatus, SplitBrainPolicy},
};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_fails_everywhere_and_its_restart_takes_its_place() {
    let mut nodes = cluster(5).await;
    let victim = nodes.pop().expect("five nodes");
    let (first_life, addr) = (victim.id().clone(), victim.addr());
    drop(victim);
    until("all hold it for dead", || {
        nodes
            .iter()
            .all(|node| state("w4", node) == Some(NodeState::Failed))
    })
    .await;

    // On the same port, once that is free.
    let seed = nodes[0].addr().to_string();
    let restart = async {
        loop {
            let again = worker("w4").bind(addr).seeds([seed.clone()]).start().await;
            match again {
                Ok(node) => break node,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let second = within(restart).await;
    assert_eq!(second.addr(), addr);
    let second_life = second.id().clone();
    assert!(second_life.epoch > first_life.epoch);
    let known_as = |node: &Node, id| {
        let snapshot = node.nodes().snapshot();
        let known = snapshot.node("w4").expect("it is known");
        (&known.id, known.state) == (id, NodeState::Alive)
    };
    until("all know its second life", || {
        nodes.iter().all(|node| known_as(node, &second_life))
    })
    .await;

    // Again, on another port, and so soon that no member has noticed: it takes over all the same.
    drop(second);
    let third = start(worker("w4"), &nodes).await;
    until("all know its third life", || {
        nodes.iter().all(|node| known_as(node, third.id()))
    })
    .await;
    until("calls reach it", || {
        let all = nodes[0].workers().select_all(Some("role=worker"));
        all.is_ok_and(|all| all.iter().any(|one| one.addr == third.addr()))
    })
    .await;
    let replies = within(
        nodes[0]
            .client()
            .call_all_workers("who", Bytes::new(), None),
    )
    .await
    .expect("workers");
    assert_eq!(replies.len(), 4);
    for (id, reply) in replies {
        let reply = reply.expect("a reply");
        assert!(reply.starts_with(id.name.as_bytes()), "{id}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shuts_down_has_left_and_not_failed() {
    let mut nodes = cluster(5).await;
    let leaver = nodes.pop().expect("five nodes");
    let mut events = nodes[0].nodes().subscribe();
    let report = within(leaver.shutdown(Duration::from_secs(10))).await;
    assert!(report.left && report.acknowledged > 0, "{report:?}");
    within(async {
        loop {
            match events.recv().await.expect("the registry is there") {
                ClusterEvent::NodeLeft(node) => break assert_eq!(&*node.id.name, "w4"),
                ClusterEvent::NodeFailed(node) => panic!("{} failed", node.id),
                _ => {}
            }
        }
    })
    .await;
    until("all know that it left", || {
        nodes
            .iter()
            .all(|node| matches!(state("w4", node), None | Some(NodeState::Left)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_tag_reaches_selection() {
    let nodes = cluster(3).await;
    let select = |filter: &str| nodes[0].workers().select(Some(filter), &Default::default());
    assert!(select("zone=eu-1").is_err());
    nodes[2].membership().set_tag("zone", "eu-1").expect("room");
    until("selection by the new tag", || select("zone=eu-1").is_ok()).await;
    assert_eq!(select("zone=eu-1").expect("one").addr, nodes[2].addr());
    nodes[2].membership().remove_tag("role");
    until("selection without it", || {
        let all = nodes[0].workers().select_all(Some("role=worker"));
        all.is_ok_and(|all| all.len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_seen_on_both_sides_and_heals() {
    let mut nodes = Vec::new();
    let mut cuts = Vec::new();
    for index in 0..5 {
        let partition = Partition::default();
        nodes.push(start(partition.wrap(worker(&format!("w{index}"))), &nodes).await);
        cuts.push(partition);
    }
    let all_alive = |nodes: &[Node]| nodes.iter().all(|node| alive(node) == 5);
    until("all know all", || all_alive(&nodes)).await;

    let (few, many) = nodes.split_at(2);
    for partition in &cuts[..2] {
        partition.from(many);
    }
    for partition in &cuts[2..] {
        partition.from(few);
    }
    until("both sides are on their own", || {
        few.iter().all(|node| alive(node) == 2) && many.iter().all(|node| alive(node) == 3)
    })
    .await;
    until("the minority knows that it is one", || {
        few.iter().all(|node| {
            node.membership().partition_status()
                == PartitionStatus::Partitioned {
                    reachable: 2,
                    expected: 5,
                    minority: true,
                }
        })
    })
    .await;
    // Each side knows whether it may go on.
    let majority = SplitBrainPolicy::keep_majority();
    assert!(
        few.iter()
            .all(|node| !node.may_serve(&majority).is_allowed())
    );
    assert!(
        many.iter()
            .all(|node| node.may_serve(&majority).is_allowed())
    );
    // Selection keeps to its side.
    let others = few[0].workers().select_all(None).expect("one");
    assert_eq!(
        others.iter().map(|one| one.addr).collect::<Vec<_>>(),
        [few[1].addr()]
    );

    cuts.iter().for_each(Partition::heal);
    until("they are one cluster again", || all_alive(&nodes)).await;
    until("and say so", || {
        nodes
            .iter()
            .all(|node| node.membership().partition_status() == PartitionStatus::Healthy)
    })
    .await;
}

/// At default settings. How soon is measured in virtual time: this clock is shared with whatever
/// else the machine does.
#[tokio::test(flavor = "multi_thread")]
async fn ten_nodes_discover_each_other_and_a_failure() {
    let lan = |name: &str| worker(name).cluster_config(ClusterConfig::lan());
    let mut nodes: Vec<Node> = Vec::new();
    for index in 0..10 {
        nodes.push(start(lan(&format!("w{index}")), &nodes).await);
    }
    until("all know all ten", || {
        nodes.iter().all(|node| alive(node) == 10)
    })
    .await;
    drop(nodes.pop());
    until("all know of the death", || {
        nodes
            .iter()
            .all(|node| state("w9", node) == Some(NodeState::Failed))
    })
    .await;
}

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
