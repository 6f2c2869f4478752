//! Tests of the node registry.

use futures::executor::block_on;
use rpcnet_registry::{
    ClusterEvent, NodeId, NodeInfo, NodeRegistry, NodeState, StaticMembership, Tags,
};

fn node(name: &str, epoch: u64) -> NodeInfo {
    NodeInfo::new(NodeId::new(name, epoch), ([127, 0, 0, 1], 7000).into())
}

fn started(cluster: &StaticMembership) -> NodeRegistry {
    let registry = NodeRegistry::new(cluster.clone());
    block_on(registry.start());
    registry
}

#[test]
fn the_state_of_every_node_is_known() {
    let cluster: StaticMembership = ["d", "a", "c", "b"]
        .map(|name| node(name, 1))
        .into_iter()
        .collect();
    let registry = started(&cluster);
    cluster.suspect("a", 8.5);
    cluster.fail("b");
    cluster.drain("c");
    cluster.remove("d");
    let nodes = block_on(registry.nodes());
    let known: Vec<_> = nodes
        .iter()
        .map(|node| (node.id.name.as_ref(), node.state))
        .collect();
    assert_eq!(
        known,
        [
            ("a", NodeState::Suspect),
            ("b", NodeState::Failed),
            ("c", NodeState::Draining),
            ("d", NodeState::Left),
        ]
    );
    assert_eq!(nodes.node("a").unwrap().phi, Some(8.5));
    assert!(nodes.node("e").is_none());
    assert_eq!(nodes.alive().count(), 0);
}

#[test]
fn a_snapshot_does_not_change() {
    let cluster: StaticMembership = [node("a", 1)].into_iter().collect();
    let registry = started(&cluster);
    let before = registry.snapshot();
    cluster.fail("a");
    assert_eq!(before[0].state, NodeState::Alive);
    let after = registry.snapshot();
    assert_eq!(after[0].state, NodeState::Failed);
    assert!(after.generation() > before.generation());
}

#[test]
fn every_change_is_reported_in_order() {
    let cluster: StaticMembership = [node("a", 1)].into_iter().collect();
    let registry = NodeRegistry::new(cluster.clone());
    let mut events = registry.subscribe();
    block_on(registry.start());
    block_on(registry.start());

    cluster.suspect("a", 9.0);
    cluster.recover("a");
    cluster.set_tags("a", Tags::from([("role", "worker")]));
    cluster.fail("a");
    cluster.insert(node("a", 2));
    assert!(!cluster.insert(node("a", 1)));
    cluster.announce(ClusterEvent::PartitionHealed);
    cluster.remove("a");

    let told: Vec<String> = std::iter::from_fn(|| events.try_recv())
        .map(|event| {
            let name = format!("{event:?}");
            name.split(['(', ' ', '{']).next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        told,
        [
            "NodeJoined",
            "NodeSuspect",
            "NodeRecovered",
            "NodeUpdated",
            "NodeFailed",
            "NodeJoined",
            "PartitionHealed",
            "NodeLeft",
        ]
    );
    drop(registry);
    assert!(block_on(events.recv()).is_none());
}

#[test]
fn a_slow_subscriber_receives_the_number_of_missed_events() {
    let cluster: StaticMembership = [node("a", 1)].into_iter().collect();
    let registry = NodeRegistry::new(cluster.clone()).with_event_capacity(4);
    block_on(registry.start());
    let mut events = registry.subscribe();
    for step in 0..10 {
        cluster.suspect("a", f64::from(step));
    }
    let Some(ClusterEvent::Lagged(6)) = block_on(events.recv()) else {
        panic!("no event")
    };
    for step in 6..10 {
        let event = block_on(events.recv());
        let Some(ClusterEvent::NodeSuspect { phi, .. }) = event else {
            panic!("{event:?}")
        };
        assert_eq!(phi, f64::from(step));
    }
    assert!(events.try_recv().is_none());
}

#[test]
fn the_event_capacity_has_a_bound() {
    let cluster: StaticMembership = [node("a", 1)].into_iter().collect();
    let registry = NodeRegistry::new(cluster.clone()).with_event_capacity(usize::MAX);
    block_on(registry.start());
    let mut events = registry.subscribe();
    for _ in 0..=65_536 {
        cluster.slow("a");
    }
    let first = events.try_recv();
    assert!(matches!(first, Some(ClusterEvent::Lagged(1))), "{first:?}");
}

#[test]
fn nodes_that_left_or_failed_are_remembered_up_to_a_bound() {
    let cluster: StaticMembership = [node("stays", 1)].into_iter().collect();
    let registry = started(&cluster);
    for index in 0..1000 {
        let name = format!("passing-{index:04}");
        cluster.insert(node(&name, 1));
        cluster.remove(&name);
    }
    let nodes = registry.snapshot();
    assert_eq!(nodes.len(), 257);
    assert!(nodes.node("stays").is_some() && nodes.node("passing-0999").is_some());
    assert!(nodes.node("passing-0000").is_none());
}

#[test]
fn dropping_a_registry_ends_its_watch() {
    let cluster: StaticMembership = [node("a", 1)].into_iter().collect();
    let (first, second) = (started(&cluster), started(&cluster));
    assert!(format!("{cluster:?}").contains("observers: 2"));
    drop(first);
    assert!(format!("{cluster:?}").contains("observers: 1"));
    cluster.fail("a");
    assert_eq!(second.snapshot()[0].state, NodeState::Failed);
}
