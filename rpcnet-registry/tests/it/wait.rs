//! Tests of waiting until enough nodes or workers are present.

use std::{
    future::{Future, pending, poll_fn, ready},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use futures::executor::block_on;
use rpcnet_registry::{
    ClusterEvent, LoadBalancingStrategy, NodeId, NodeInfo, NodeRegistry, SourceState,
    StaticMembership, WaitError, WorkerRegistry,
};

const WORKERS: Option<&str> = Some("role=worker");

fn node(name: &str) -> NodeInfo {
    NodeInfo::new(NodeId::new(name, 1), ([127, 0, 0, 1], 7000).into())
}

fn worker(name: &str) -> NodeInfo {
    node(name).with_tag("role", "worker")
}

fn workers(cluster: &StaticMembership) -> WorkerRegistry {
    let registry = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
    block_on(registry.start());
    registry
}

fn nodes(cluster: &StaticMembership) -> NodeRegistry {
    let registry = NodeRegistry::new(cluster.clone());
    block_on(registry.start());
    registry
}

struct Ignore;

impl Wake for Ignore {
    fn wake(self: Arc<Self>) {}
}

/// Polls once.
fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::new(Ignore));
    future.poll(&mut Context::from_waker(&waker))
}

#[test]
fn it_returns_at_once_if_there_are_enough() {
    let cluster: StaticMembership = [worker("a"), worker("b"), node("c")].into_iter().collect();
    let found = block_on(workers(&cluster).wait_for(WORKERS, 2, pending::<()>())).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].begin().in_flight(), 1, "only a call counts");
    // Enough takes precedence over the deadline.
    assert!(block_on(workers(&cluster).wait_for(None, 3, ready(()))).is_ok());
    assert!(block_on(workers(&cluster).wait_for(Some("role=cook"), 0, pending::<()>())).is_ok());
    let snapshot = block_on(nodes(&cluster).wait_for(None, 3, pending::<()>())).unwrap();
    assert_eq!(snapshot.len(), 3);
}

#[test]
fn it_waits_for_the_last_one() {
    let cluster: StaticMembership = [worker("a")].into_iter().collect();
    let (workers, nodes) = (workers(&cluster), nodes(&cluster));
    let mut for_workers = pin!(workers.wait_for(WORKERS, 2, pending::<()>()));
    let mut for_nodes = pin!(nodes.wait_for(WORKERS, 2, pending::<()>()));
    assert!(poll(for_workers.as_mut()).is_pending() && poll(for_nodes.as_mut()).is_pending());
    // Another role, and one that has failed by then, do not count.
    cluster.insert(node("b"));
    cluster.insert(worker("c"));
    cluster.fail("c");
    assert!(poll(for_workers.as_mut()).is_pending() && poll(for_nodes.as_mut()).is_pending());
    cluster.recover("c");
    assert_eq!(block_on(for_workers).unwrap().len(), 2);
    assert_eq!(block_on(for_nodes).unwrap().len(), 3);
}

#[test]
fn the_deadline_ends_the_wait() {
    let cluster: StaticMembership = [worker("a")].into_iter().collect();
    let expected = WaitError::DeadlineExceeded {
        filter: "role=worker".into(),
        wanted: 2,
        present: 1,
    };
    let error = block_on(workers(&cluster).wait_for(WORKERS, 2, ready(()))).unwrap_err();
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "deadline exceeded: found 1 of 2 nodes matching `role=worker`"
    );
    let error = block_on(nodes(&cluster).wait_for(WORKERS, 2, ready(()))).unwrap_err();
    assert_eq!(error, expected);
}

#[test]
fn the_last_look_is_at_the_deadline() {
    let cluster: StaticMembership = [worker("a")].into_iter().collect();
    let deadline = poll_fn(|_| {
        cluster.insert(worker("b"));
        Poll::Ready(())
    });
    let found = block_on(workers(&cluster).wait_for(WORKERS, 2, deadline)).unwrap();
    assert_eq!(found.len(), 2);
}

#[test]
fn a_wait_that_cannot_succeed_fails_at_once() {
    let cluster = StaticMembership::new();
    let registry = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
    let wait = |filter| block_on(registry.wait_for(filter, 1, ready(()))).unwrap_err();
    assert_eq!(wait(WORKERS), WaitError::NotStarted);
    assert!(matches!(wait(Some("role=")), WaitError::InvalidFilter(_)));
    let nodes = NodeRegistry::new(cluster.clone());
    let error = block_on(nodes.wait_for(None, 1, ready(()))).unwrap_err();
    assert_eq!(error, WaitError::NotStarted);
}

#[test]
fn the_end_of_the_source_ends_the_wait() {
    let cluster: StaticMembership = [worker("a")].into_iter().collect();
    let (workers, nodes) = (workers(&cluster), nodes(&cluster));
    let mut for_workers = pin!(workers.wait_for(WORKERS, 2, pending::<()>()));
    let mut for_nodes = pin!(nodes.wait_for(WORKERS, 2, pending::<()>()));
    assert!(poll(for_workers.as_mut()).is_pending() && poll(for_nodes.as_mut()).is_pending());
    cluster.announce(ClusterEvent::SourceChanged(SourceState::Stopped));
    let state = SourceState::Stopped;
    let expected = WaitError::SourceEnded { state };
    let error_of_workers = poll(for_workers.as_mut()).map(|found| found.unwrap_err());
    let error_of_nodes = poll(for_nodes.as_mut()).map(|found| found.unwrap_err());
    assert_eq!(error_of_workers, Poll::Ready(expected.clone()));
    assert_eq!(error_of_nodes, Poll::Ready(expected));
}

#[test]
fn the_wait_can_be_sent_between_threads() {
    fn sendable(_: &(impl Send + ?Sized)) {}
    let cluster = StaticMembership::new();
    let (workers, nodes) = (workers(&cluster), nodes(&cluster));
    sendable(&workers.wait_for(None, 1, pending::<()>()));
    sendable(&nodes.wait_for(None, 1, pending::<()>()));
}
