//! Nodes discovered by gossip.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rpcnet_swim::{ClusterMembership, Event, EventStream, Member, MemberState, MembershipState};

use crate::{ClusterEvent, Membership, NodeId, NodeInfo, NodeState, Observer, SourceState, Watch};

/// Follows the events of the node in a task of the tokio runtime.
///
/// The watch holds a handle of the node, so the node goes on for as long as a registry follows it.
impl Membership for ClusterMembership {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        // Subscribed before reading: what happens in between is told twice rather than never.
        let events = self.subscribe();
        observer.on_snapshot(snapshot(self));
        if !state(self).is_live() {
            observer.on_event(ClusterEvent::SourceChanged(state(self)));
        }
        let is_watched = Arc::new(AtomicBool::new(true));
        let end = End {
            cluster: self.clone(),
            observer: Arc::clone(&observer),
            is_watched: Arc::clone(&is_watched),
        };
        let following = follow(self.clone(), events, observer, end);
        let task = self.runtime().spawn(following);
        Watch::new(move || {
            is_watched.store(false, Ordering::Relaxed);
            task.abort();
        })
    }
}

/// Tells when there is nothing to follow any more, however that came: the node has left, or the task was dropped with its
/// runtime.
struct End {
    cluster: ClusterMembership,
    observer: Arc<dyn Observer>,
    is_watched: Arc<AtomicBool>,
}

impl Drop for End {
    fn drop(&mut self) {
        if self.is_watched.load(Ordering::Relaxed) {
            let state = match state(&self.cluster) {
                SourceState::Left => SourceState::Left,
                _ => SourceState::Stopped,
            };
            self.observer.on_event(ClusterEvent::SourceChanged(state));
        }
    }
}

/// Whether a node's view is that of a member.
fn state(cluster: &ClusterMembership) -> SourceState {
    match cluster.state() {
        MembershipState::Superseded { by, addr } => SourceState::Superseded {
            by: NodeId::from(&by),
            addr,
        },
        MembershipState::Left => SourceState::Left,
        MembershipState::Stopped => SourceState::Stopped,
        _ => SourceState::Live,
    }
}

async fn follow(
    cluster: ClusterMembership,
    mut events: EventStream,
    observer: Arc<dyn Observer>,
    end: End,
) {
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
            Event::Left { .. } => ClusterEvent::NodeLeft(node(cluster.local_member())),
            Event::Lagged(missed) => {
                // In this order: who is told to read the snapshot finds in it what was missed.
                observer.on_snapshot(snapshot(&cluster));
                observer.on_event(ClusterEvent::Lagged(missed));
                observer.on_event(ClusterEvent::SourceChanged(state(&cluster)));
                continue;
            }
            Event::NameConflict { name, older, newer } => ClusterEvent::NameConflict {
                name: name.into(),
                older,
                newer,
            },
            Event::Superseded { by, addr } => {
                let by = NodeId::from(&by);
                ClusterEvent::SourceChanged(SourceState::Superseded { by, addr })
            }
            Event::SupersessionEnded { .. } => {
                // Those known before are of the past.
                observer.on_snapshot(snapshot(&cluster));
                ClusterEvent::SourceChanged(SourceState::Live)
            }
            // About clocks, and the like: nothing that a registry keeps.
            _ => continue,
        };
        observer.on_event(event);
    }
    drop(end);
}

fn snapshot(cluster: &ClusterMembership) -> Vec<NodeInfo> {
    cluster
        .members()
        .iter()
        .map(|member| node(cluster, member))
        .collect()
}

fn node(cluster: &ClusterMembership, member: &Member) -> NodeInfo {
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
    NodeInfo::new(NodeId::from(&member.id), member.addr)
        .with_tags(member.tags.iter().collect())
        .with_state(state)
        .with_incarnation(member.incarnation)
        .with_phi(phi.map(|health| health.phi))
        .with_slow(member.slow)
        .with_round_trip(health.and_then(|health| health.round_trip))
        // Not by its epoch, which may have been raised since: nobody else in this view has its name.
        .with_local(member.id.name == cluster.local_id().name)
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

#[cfg(test)]
mod tests {
    use rpcnet_swim::ClusterConfig;

    use super::*;

    #[tokio::test]
    async fn what_this_node_said_before_its_epoch_rose_is_of_this_node() {
        let config = ClusterConfig::local().with_name("me");
        let cluster = ClusterMembership::new(config).await.unwrap();
        let mut before = cluster.local_member();
        before.id.epoch -= 1;
        assert!(node(&cluster, &before).is_local);
        before.id.name = "other".into();
        assert!(!node(&cluster, &before).is_local);
    }
}
