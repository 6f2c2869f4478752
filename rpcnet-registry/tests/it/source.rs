//! Registries whose source has ended, is superseded, or starts over.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::executor::block_on;
use rpcnet_registry::{
    ClusterEvent, Events, LoadBalancingStrategy, Membership, NodeId, NodeInfo, NodeRegistry,
    NodeState, Observer, SelectError, SourceState, StaticMembership, Watch, WorkerRegistry,
};
use rpcnet_swim::{ClusterConfig, ClusterMembership};
use rpcnet_testing::within;

async fn node(name: &str) -> ClusterMembership {
    ClusterMembership::new(ClusterConfig::local().with_name(name))
        .await
        .unwrap()
}

/// The next change of the source's state.
async fn source_change(events: &mut Events) -> SourceState {
    within(async {
        loop {
            match events.recv().await {
                Some(ClusterEvent::SourceChanged(state)) => break state,
                Some(_) => {}
                None => panic!("the registry is there"),
            }
        }
    })
    .await
}

fn two() -> StaticMembership {
    ["a", "b"]
        .map(|name| NodeInfo::new(NodeId::new(name, 1), ([127, 0, 0, 1], 7000).into()))
        .into_iter()
        .collect()
}

#[test]
fn a_source_that_is_not_live_marks_the_view_and_ends_selection() {
    let cluster = two();
    let nodes = NodeRegistry::new(cluster.clone());
    let workers = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
    block_on(nodes.start());
    block_on(workers.start());
    let mut events = workers.subscribe();
    assert!(nodes.snapshot().source().is_live());
    assert!(block_on(workers.select_worker(None)).is_ok());

    let superseded = SourceState::Superseded {
        by: NodeId::new("me", 2),
        addr: ([127, 0, 0, 1], 7001).into(),
    };
    let generation = nodes.snapshot().generation();
    cluster.announce(ClusterEvent::SourceChanged(superseded.clone()));
    cluster.announce(ClusterEvent::SourceChanged(superseded.clone()));
    assert_eq!(*nodes.snapshot().source(), superseded);
    assert!(nodes.snapshot().generation() > generation);
    assert_eq!(nodes.snapshot().len(), 2, "what was known last is there");
    // With a filter that was used before and with one that was not, for one and for all.
    for filter in [None, Some("!role")] {
        let error = block_on(workers.select_worker(filter)).unwrap_err();
        let state = superseded.clone();
        assert_eq!(error, SelectError::SourceEnded { state });
        assert!(error.is_retryable());
        assert!(workers.select_all(filter).is_err());
    }
    assert_eq!(workers.workers(None).unwrap().len(), 2);
    assert!(matches!(events.try_recv(), Some(ClusterEvent::SourceChanged(s)) if s == superseded));
    assert!(events.try_recv().is_none(), "reported once");

    cluster.announce(ClusterEvent::SourceChanged(SourceState::Live));
    assert!(block_on(workers.select_worker(None)).is_ok());
    // What is over stays over.
    cluster.announce(ClusterEvent::SourceChanged(SourceState::Left));
    cluster.announce(ClusterEvent::SourceChanged(SourceState::Live));
    let error = block_on(workers.select_worker(None)).unwrap_err();
    assert!(
        !error.is_retryable() && error.to_string().contains("left the cluster"),
        "{error}"
    );
}

/// A source whose observer the test calls by hand.
#[derive(Clone, Default)]
struct ManualMembership(Arc<Mutex<Option<Arc<dyn Observer>>>>);

impl Membership for ManualMembership {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        *self.0.lock().unwrap() = Some(observer);
        Watch::new(|| ())
    }
}

#[test]
fn a_source_that_restarts_reports_no_node_as_left() {
    let puppet = ManualMembership::default();
    let nodes = NodeRegistry::new(puppet.clone());
    block_on(nodes.start());
    let observer = puppet.0.lock().unwrap().clone().expect("it is watched");
    let node = |name| NodeInfo::new(NodeId::new(name, 1), ([127, 0, 0, 1], 7000).into());
    observer.on_snapshot(vec![node("a"), node("b")]);
    let mut events = nodes.subscribe();
    let by = NodeId::new("me", 2);
    let addr = ([127, 0, 0, 1], 7001).into();
    observer.on_event(ClusterEvent::SourceChanged(SourceState::Superseded {
        by,
        addr,
    }));
    observer.on_snapshot(vec![node("a")]);
    observer.on_event(ClusterEvent::SourceChanged(SourceState::Live));
    assert!(nodes.snapshot().node("b").is_none());
    observer.on_event(ClusterEvent::NodeJoined(Arc::new(node("b"))));
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv()).collect();
    let has_left = |event: &ClusterEvent| matches!(event, ClusterEvent::NodeLeft(_));
    assert!(!told.iter().any(has_left), "{told:?}");
    assert!(matches!(told.last(), Some(ClusterEvent::NodeJoined(node)) if &*node.id.name == "b"));
    // Live, what it lists no more has left.
    observer.on_snapshot(vec![node("a")]);
    assert!(events.try_recv().is_some_and(|event| has_left(&event)));
}

#[test]
fn changes_that_happened_together_are_in_the_snapshot_before_the_first_event() {
    let membership = ManualMembership::default();
    let nodes = NodeRegistry::new(membership.clone());
    block_on(nodes.start());
    let observer = membership.0.lock().unwrap().clone().expect("it is watched");
    let node = |name| NodeInfo::new(NodeId::new(name, 1), ([127, 0, 0, 1], 7000).into());
    observer.on_snapshot(vec![node("a")]);
    let mut events = nodes.subscribe();
    let joined = |name| ClusterEvent::NodeJoined(Arc::new(node(name)));
    let left = ClusterEvent::NodeLeft(Arc::new(node("a")));
    observer.on_events(vec![joined("b"), left, joined("c")]);
    let snapshot = nodes.snapshot();
    assert!(snapshot.node("b").is_some() && snapshot.node("c").is_some());
    assert_eq!(
        snapshot.node("a").map(|node| node.state),
        Some(NodeState::Left)
    );
    let names: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .filter_map(|event| event.node().map(|node| node.id.name.to_string()))
        .collect();
    assert_eq!(names, ["b", "a", "c"]);
    observer.on_events(Vec::new());
    assert_eq!(nodes.snapshot().generation(), snapshot.generation());
}

#[test]
fn a_static_source_stays_live_when_its_nodes_change() {
    let cluster = two();
    let nodes = NodeRegistry::new(cluster.clone());
    block_on(nodes.start());
    cluster.fail("a");
    cluster.remove("b");
    assert!(nodes.snapshot().source().is_live());
}

#[tokio::test]
async fn a_node_that_leaves_ends_the_registries_that_follow_it() {
    let me = node("me").await;
    let nodes = NodeRegistry::new(me.clone());
    let workers =
        WorkerRegistry::new(me.clone(), LoadBalancingStrategy::RoundRobin).with_local(true);
    nodes.start().await;
    workers.start().await;
    let mut events = [nodes.subscribe(), workers.subscribe()];
    assert!(workers.select_worker(None).await.is_ok());
    me.leave().await.unwrap();
    for events in &mut events {
        assert_eq!(source_change(events).await, SourceState::Left);
    }
    assert_eq!(*nodes.snapshot().source(), SourceState::Left);
    let error = workers.select_worker(None).await.unwrap_err();
    assert!(matches!(error, SelectError::SourceEnded { .. }), "{error}");
    // One that begins to follow it now hears so at once.
    let late = NodeRegistry::new(me.clone());
    late.start().await;
    assert_eq!(*late.snapshot().source(), SourceState::Left);
}

#[test]
fn a_runtime_that_ends_ends_the_registries_with_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (me, nodes, mut events) = runtime.block_on(async {
        let me = node("me").await;
        let nodes = NodeRegistry::new(me.clone());
        nodes.start().await;
        let events = nodes.subscribe();
        (me, nodes, events)
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    let here = tokio::runtime::Runtime::new().unwrap();
    let state = here.block_on(source_change(&mut events));
    assert_eq!(state, SourceState::Stopped);
    assert_eq!(*nodes.snapshot().source(), SourceState::Stopped);
    drop(me);
}

#[tokio::test]
async fn the_local_node_stays_local_while_its_epoch_rises() {
    let first = node("first").await;
    let older = node("me").await;
    older.join([first.local_addr().to_string()]).await.unwrap();
    let registry = NodeRegistry::new(older.clone());
    let workers = WorkerRegistry::new(older.clone(), LoadBalancingStrategy::RoundRobin);
    registry.start().await;
    workers.start().await;
    let mut events = registry.subscribe();
    let before = older.local_id().epoch;

    // A newer one takes the name and goes; then this one has it again, with a newer epoch.
    let newer = node("me").await;
    newer.join([first.local_addr().to_string()]).await.unwrap();
    assert!(matches!(
        source_change(&mut events).await,
        SourceState::Superseded { .. }
    ));
    newer.leave().await.unwrap();
    assert_eq!(source_change(&mut events).await, SourceState::Live);
    within(older.join([""; 0])).await.unwrap();
    // Some of the events are from before the epoch rose.
    older.set_tag("n", "1").unwrap();
    within(async {
        loop {
            let me = registry.snapshot().node("me").cloned();
            if let Some(me) = me {
                assert!(me.is_local, "{me:?}");
                if me.tags.value("n") == Some("1") && me.id.epoch > before {
                    break;
                }
            }
            events.recv().await.expect("the registry is there");
        }
    })
    .await;
    assert!(workers.node("me").is_none(), "it does not select itself");
}
