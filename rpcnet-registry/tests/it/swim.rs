//! Registries that follow nodes discovered by gossip, over real sockets.

use std::time::Duration;

use rpcnet_registry::{
    ClusterEvent, LoadBalancingStrategy, NodeRegistry, NodeState, SelectError, SourceState,
    WorkerRegistry,
};
use rpcnet_swim::{ClusterConfig, ClusterMembership};
use rpcnet_testing::within;

async fn node(name: &str, seed: Option<&ClusterMembership>) -> ClusterMembership {
    let node = ClusterMembership::new(ClusterConfig::local().with_name(name))
        .await
        .unwrap();
    if let Some(seed) = seed {
        node.join([seed.local_addr().to_string()]).await.unwrap();
    }
    node
}

#[tokio::test]
async fn a_worker_is_followed_through_its_life() {
    let me = node("me", None).await;
    let registry = NodeRegistry::new(me.clone());
    let workers = WorkerRegistry::new(me.clone(), LoadBalancingStrategy::LeastConnections);
    registry.start().await;
    workers.start().await;
    let mut changes = workers.subscribe();
    assert!(registry.snapshot().node("me").unwrap().is_local);
    let error = workers
        .select_worker(Some("role=worker"))
        .await
        .unwrap_err();
    assert!(matches!(error, SelectError::NoMatch { .. }), "{error}");

    let worker = node("worker", Some(&me)).await;
    worker.set_tag("role", "worker").unwrap();
    let selected = within(async {
        loop {
            if let Ok(selected) = workers.select_worker(Some("role=worker")).await {
                break selected;
            }
            changes.recv().await.expect("the registry is there");
        }
    })
    .await;
    assert_eq!(selected.addr, worker.local_addr());
    assert_eq!(&*selected.label, "worker");

    worker.set_draining(true);
    within(async {
        while workers.select_worker(Some("role=worker")).await.is_ok() {
            changes.recv().await.expect("the registry is there");
        }
    })
    .await;
    let error = workers
        .select_worker(Some("role=worker"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SelectError::NoneReachable { matching: 1, .. }),
        "{error}"
    );

    worker.leave().await.unwrap();
    within(async { while !matches!(changes.recv().await, Some(ClusterEvent::NodeLeft(_))) {} })
        .await;
    let error = workers
        .select_worker(Some("role=worker"))
        .await
        .unwrap_err();
    assert!(matches!(error, SelectError::NoMatch { .. }), "{error}");
}

#[tokio::test]
async fn a_dead_worker_is_gone_from_selection_when_its_failure_is_told() {
    let me = node("me", None).await;
    let worker = node("worker", Some(&me)).await;
    let other = node("other", Some(&me)).await;
    let registry = NodeRegistry::new(me.clone());
    let workers = WorkerRegistry::new(me.clone(), LoadBalancingStrategy::RoundRobin);
    registry.start().await;
    workers.start().await;
    let mut changes = workers.subscribe();
    within(async {
        while workers.select_all(None).map_or(0, |all| all.len()) < 2 {
            changes.recv().await.expect("the registry is there");
        }
    })
    .await;

    // To the others this looks like a crash.
    drop(worker);
    let phi = within(async {
        let mut highest = 0.0_f64;
        loop {
            match changes.recv().await.expect("the registry is there") {
                ClusterEvent::NodeSuspect { node, phi } if &*node.id.name == "worker" => {
                    highest = highest.max(phi);
                }
                ClusterEvent::NodeFailed(node) if &*node.id.name == "worker" => break highest,
                _ => {}
            }
        }
    })
    .await;
    assert!(phi > 0.0);
    let left = workers.select_all(None).unwrap();
    assert_eq!(
        left.iter().map(|one| one.addr).collect::<Vec<_>>(),
        [other.local_addr()]
    );
    let known = workers.workers(None).unwrap();
    let dead = known.iter().find(|one| &*one.label == "worker").unwrap();
    assert_eq!(dead.node.state, NodeState::Failed);
}

/// On a runtime of one thread nothing else runs between the calls, so this takes no task.
#[tokio::test]
async fn a_tag_is_in_the_registries_when_set_tag_returns() {
    // Room for one event: a registry that read a subscription would miss most of them.
    let config = ClusterConfig::local()
        .with_name("me")
        .with_event_capacity(1);
    let me = ClusterMembership::new(config).await.unwrap();
    let nodes = NodeRegistry::new(me.clone());
    let workers =
        WorkerRegistry::new(me.clone(), LoadBalancingStrategy::RoundRobin).with_local(true);
    nodes.start().await;
    workers.start().await;
    let mut events = nodes.subscribe();
    for n in 0..100 {
        let value = n.to_string();
        me.set_tag("n", &value).unwrap();
        let snapshot = nodes.snapshot();
        let node = snapshot.node("me").expect("this node");
        assert_eq!(node.tags.value("n"), Some(value.as_str()));
        let selected = workers.select_worker(Some(&format!("n={n}"))).await;
        assert_eq!(&*selected.expect("selected by its new tag").label, "me");
    }
    let mut seen: Vec<i32> = Vec::new();
    while let Some(event) = events.try_recv() {
        match event {
            ClusterEvent::NodeUpdated(node) => {
                seen.push(node.tags.value("n").unwrap().parse().unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registries_know_every_member_when_join_returns() {
    let first = node("first", None).await;
    let second = node("second", Some(&first)).await;
    for round in 0..5 {
        let name = format!("joiner-{round}");
        let joiner = node(&name, None).await;
        let nodes = NodeRegistry::new(joiner.clone());
        let workers = WorkerRegistry::new(joiner.clone(), LoadBalancingStrategy::RoundRobin);
        nodes.start().await;
        workers.start().await;
        joiner.join([first.local_addr().to_string()]).await.unwrap();
        for member in joiner.members() {
            assert!(nodes.snapshot().node(&member.id.name).is_some());
        }
        let known: Vec<_> = workers.select_all(None).unwrap();
        let mut addrs: Vec<_> = known.iter().map(|worker| worker.addr).collect();
        addrs.retain(|addr| [first.local_addr(), second.local_addr()].contains(addr));
        assert_eq!(addrs.len(), 2);
        // The others may not know it yet, so it does not wait for them.
        let _ = joiner.leave_within(Duration::ZERO).await;
        assert_eq!(*nodes.snapshot().source(), SourceState::Left);
    }
}

#[tokio::test]
async fn a_dropped_registry_gets_no_more_events() {
    let me = node("me", None).await;
    let nodes = NodeRegistry::new(me.clone());
    nodes.start().await;
    let mut events = nodes.subscribe();
    me.set_tag("n", "1").unwrap();
    drop(nodes);
    me.set_tag("n", "2").unwrap();
    assert!(matches!(
        events.recv().await,
        Some(ClusterEvent::NodeUpdated(_))
    ));
    assert!(events.recv().await.is_none());
}
