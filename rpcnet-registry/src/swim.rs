//! Nodes discovered by gossip.

use std::sync::Arc;

use rpcnet_swim::{ClusterMembership, Event, EventStream, Member, MemberState};

use crate::{ClusterEvent, Membership, Node, NodeId, NodeState, Observer, Watch};

/// Follows the events of the node in a task of the tokio runtime.
///
/// The watch holds a handle of the node, so the node goes on for as long as a registry follows it.
///
/// # Panics
///
/// [`watch`](Membership::watch) panics outside of a tokio runtime.
impl Membership for ClusterMembership {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        // Subscribed before reading: what happens in between is told twice rather than never.
        let events = self.subscribe();
        observer.on_snapshot(snapshot(self));
        let task = tokio::spawn(follow(self.clone(), events, observer));
        Watch::new(move || task.abort())
    }
}

async fn follow(cluster: ClusterMembership, mut events: EventStream, observer: Arc<dyn Observer>) {
    while let Some(event) = events.recv().await {
        let node = |member| Arc::new(node(&cluster, &member));
        let event = match event {
            Event::NodeJoined(member) => ClusterEvent::NodeJoined(node(member)),
            Event::NodeLeft(member) => ClusterEvent::NodeLeft(node(member)),
            Event::NodeFailed(member) => ClusterEvent::NodeFailed(node(member)),
            Event::NodeSuspect { member, phi } => ClusterEvent::NodeSuspect {
                node: node(member),
                phi,
            },
            Event::NodeRecovered(member) => ClusterEvent::NodeRecovered(node(member)),
            Event::NodeUpdated(member) => ClusterEvent::NodeUpdated(node(member)),
            Event::NodeSlow(member) => ClusterEvent::NodeSlow(node(member)),
            Event::NodeResponsive(member) => ClusterEvent::NodeResponsive(node(member)),
            Event::NodeUnreachable(member) => ClusterEvent::NodeUnreachable(node(member)),
            Event::NodeReachable(member) => ClusterEvent::NodeReachable(node(member)),
            Event::AddressUnreachable { addr, observed } => {
                ClusterEvent::AddressUnreachable { addr, observed }
            }
            Event::AddressReachable { addr } => ClusterEvent::AddressReachable { addr },
            Event::AddressConflict { addr, older, newer } => {
                ClusterEvent::AddressConflict { addr, older, newer }
            }
            Event::Isolated { expected } => ClusterEvent::Isolated { expected },
            Event::IsolationEnded => ClusterEvent::IsolationEnded,
            Event::PartitionDetected {
                reachable,
                expected,
                minority,
            } => ClusterEvent::PartitionDetected {
                reachable,
                expected,
                minority,
            },
            Event::PartitionHealed => ClusterEvent::PartitionHealed,
            Event::Left { .. } => ClusterEvent::NodeLeft(node(cluster.me())),
            Event::Lagged(missed) => {
                // In this order: who is told to read the snapshot finds in it what was missed.
                observer.on_snapshot(snapshot(&cluster));
                observer.on_event(ClusterEvent::Lagged(missed));
                continue;
            }
            // About names, and the like: nothing that a registry keeps.
            _ => continue,
        };
        observer.on_event(event);
    }
}

fn snapshot(cluster: &ClusterMembership) -> Vec<Node> {
    cluster
        .members()
        .iter()
        .map(|member| node(cluster, member))
        .collect()
}

fn node(cluster: &ClusterMembership, member: &Member) -> Node {
    let state = match member.state {
        MemberState::Failed => NodeState::Failed,
        MemberState::Left => NodeState::Left,
        // It takes nothing new, whether it is under suspicion or not.
        _ if member.draining => NodeState::Leaving,
        // Suspicion and refutation alternate there, and say nothing.
        _ if member.unreachable => NodeState::Unreachable,
        MemberState::Suspect => NodeState::Suspect,
        MemberState::Alive => NodeState::Alive,
    };
    // Of members that are well it says nothing that routing would go by.
    let health = if state == NodeState::Suspect || member.slow {
        cluster.health(&member.id)
    } else {
        None
    };
    let phi = health.filter(|_| state == NodeState::Suspect);
    Node::new(NodeId::from(&member.id), member.addr)
        .with_tags(member.tags.iter().collect())
        .with_state(state)
        .with_incarnation(member.incarnation)
        .with_phi(phi.map(|health| health.phi))
        .with_slow(member.slow)
        .with_round_trip(health.and_then(|health| health.round_trip))
        .with_local(member.id == cluster.local_id())
}

impl From<&rpcnet_swim::NodeId> for NodeId {
    fn from(id: &rpcnet_swim::NodeId) -> Self {
        Self::new(Arc::clone(&id.name), id.epoch)
    }
}

impl From<&NodeId> for rpcnet_swim::NodeId {
    fn from(id: &NodeId) -> Self {
        Self::new(Arc::clone(&id.name), id.epoch)
    }
}
