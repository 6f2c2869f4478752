//! Registries that follow nodes discovered by gossip, over real sockets.

#![cfg(feature = "swim")]

use std::{future::Future, time::Duration};

use rpcnet_registry::{
    ClusterEvent, LoadBalancingStrategy, NodeRegistry, NodeState, SelectError, WorkerRegistry,
};
use rpcnet_swim::{ClusterConfig, ClusterMembership};
use tokio::time::timeout;

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), work)
        .await
        .unwrap_or_else(|_| panic!("{what}: too late"))
}

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
    let nobody = workers
        .select_worker(Some("role=worker"))
        .await
        .unwrap_err();
    assert!(matches!(nobody, SelectError::NoMatch { .. }), "{nobody}");

    let worker = node("worker", Some(&me)).await;
    worker.set_tag("role", "worker").unwrap();
    let selected = within("selection", async {
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
    within("draining", async {
        while workers.select_worker(Some("role=worker")).await.is_ok() {
            changes.recv().await.expect("the registry is there");
        }
    })
    .await;
    let nobody = workers
        .select_worker(Some("role=worker"))
        .await
        .unwrap_err();
    assert!(
        matches!(nobody, SelectError::NoneReachable { matching: 1, .. }),
        "{nobody}"
    );

    worker.leave().await.unwrap();
    within("leaving", async {
        while !matches!(changes.recv().await, Some(ClusterEvent::NodeLeft(_))) {}
    })
    .await;
    let nobody = workers
        .select_worker(Some("role=worker"))
        .await
        .unwrap_err();
    assert!(matches!(nobody, SelectError::NoMatch { .. }), "{nobody}");
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
    within("arrival", async {
        while workers.select_all(None).map_or(0, |all| all.len()) < 2 {
            changes.recv().await.expect("the registry is there");
        }
    })
    .await;

    // To the others this looks like a crash.
    drop(worker);
    let phi = within("suspicion and failure", async {
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

#[tokio::test]
async fn who_is_told_of_missed_events_finds_in_the_snapshot_what_they_said() {
    let config = ClusterConfig::local()
        .with_name("me")
        .with_event_capacity(1);
    let me = ClusterMembership::new(config).await.unwrap();
    let registry = NodeRegistry::new(me.clone());
    registry.start().await;
    let mut events = registry.subscribe();
    // Nothing else runs meanwhile, so most of it is missed.
    for n in 0..10 {
        me.set_tag("n", &n.to_string()).unwrap();
    }
    let last = within("lagging", async {
        let mut last = None;
        loop {
            match events.recv().await.expect("the registry is there") {
                ClusterEvent::Lagged(_) => break last,
                ClusterEvent::NodeUpdated(node) => last = node.tags.value("n").map(str::to_owned),
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(last.as_deref(), Some("9"));
}
