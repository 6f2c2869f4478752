//! Gossip as a source: nodes discovered by `rpcnet-swim`.

use std::sync::Arc;

use rpcnet_swim::{
    ClusterMembership, Engine, Event, Member, MemberState, MembershipObserver, MembershipState,
    Time,
};

use crate::{ClusterEvent, Membership, NodeId, NodeInfo, NodeState, Observer, SourceState, Watch};

/// Changes come within the call of the node that makes them, with no task in between: when
/// [`ClusterMembership::join`] or [`ClusterMembership::set_tag`] returns, the registries that
/// follow the node have it.
///
/// The watch holds a handle of the node, so the node runs for as long as a registry follows it.
impl Membership for ClusterMembership {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        observer.defer_log();
        let observation = self.observe(Arc::new(SwimObserver { observer }));
        let node = self.clone();
        Watch::new(move || {
            drop(observation);
            drop(node);
        })
    }
}

/// Translation of a node's view into what a registry observes.
struct SwimObserver {
    observer: Arc<dyn Observer>,
}

impl MembershipObserver for SwimObserver {
    fn on_view(&self, engine: &Engine, now: Time) {
        self.observer.on_snapshot(snapshot(engine, now));
        let state = source_state(engine.state());
        if !state.is_live() {
            self.observer.on_event(ClusterEvent::SourceChanged(state));
        }
    }

    fn on_events(&self, engine: &Engine, now: Time, events: &[Event]) {
        let mut batch = Vec::with_capacity(events.len());
        for event in events {
            match event {
                Event::Lagged(missed) => {
                    // In this order: a subscriber that reads the snapshot finds in it what was
                    // missed.
                    self.hand_over(&mut batch);
                    self.observer.on_snapshot(snapshot(engine, now));
                    batch.push(ClusterEvent::Lagged(*missed));
                    batch.push(ClusterEvent::SourceChanged(source_state(engine.state())));
                }
                Event::SupersessionEnded { .. } => {
                    // The nodes known before are of the past.
                    self.hand_over(&mut batch);
                    self.observer.on_snapshot(snapshot(engine, now));
                    batch.push(ClusterEvent::SourceChanged(SourceState::Live));
                }
                event => batch.extend(translate(engine, now, event)),
            }
        }
        self.hand_over(&mut batch);
    }

    fn on_end(&self, state: MembershipState) {
        let state = source_state(state);
        self.observer.on_event(ClusterEvent::SourceChanged(state));
    }

    fn after_events(&self) {
        self.observer.after_events();
    }
}

impl SwimObserver {
    /// Hands over the events of a batch, if it has any.
    fn hand_over(&self, batch: &mut Vec<ClusterEvent>) {
        if !batch.is_empty() {
            self.observer.on_events(std::mem::take(batch));
        }
    }
}

/// Whether a node's view is that of a member.
fn source_state(state: MembershipState) -> SourceState {
    match state {
        MembershipState::Superseded { by, addr } => SourceState::Superseded {
            by: NodeId::from(&by),
            addr,
        },
        MembershipState::Left => SourceState::Left,
        MembershipState::Stopped => SourceState::Stopped,
        _ => SourceState::Live,
    }
}

/// The registry's event for one of gossip; `None` for events about clocks and the like, which a
/// registry does not keep.
fn translate(engine: &Engine, now: Time, event: &Event) -> Option<ClusterEvent> {
    let node = |member| Arc::new(node_info(engine, now, member));
    Some(match event {
        Event::NodeJoined(member) => ClusterEvent::NodeJoined(node(member)),
        Event::NodeLeft(member) => ClusterEvent::NodeLeft(node(member)),
        Event::NodeFailed(member) => ClusterEvent::NodeFailed(node(member)),
        Event::NodeSuspect { member, phi } => ClusterEvent::NodeSuspect {
            node: node(member),
            phi: *phi,
        },
        Event::NodeRecovered(member) => ClusterEvent::NodeRecovered(node(member)),
        Event::NodeUpdated(member) => ClusterEvent::NodeUpdated(node(member)),
        Event::NodeSlow(member) => ClusterEvent::NodeSlow(node(member)),
        Event::NodeResponsive(member) => ClusterEvent::NodeResponsive(node(member)),
        Event::NodeUnreachable(member) => ClusterEvent::NodeUnreachable(node(member)),
        Event::NodeReachable(member) => ClusterEvent::NodeReachable(node(member)),
        Event::AddressUnreachable { addr, observed } => ClusterEvent::AddressUnreachable {
            addr: *addr,
            observed: *observed,
        },
        Event::AddressReachable { addr } => ClusterEvent::AddressReachable { addr: *addr },
        Event::AddressConflict { addr, older, newer } => ClusterEvent::AddressConflict {
            addr: *addr,
            older: older.clone(),
            newer: newer.clone(),
        },
        Event::Isolated { expected } => ClusterEvent::Isolated {
            expected: *expected,
        },
        Event::IsolationEnded => ClusterEvent::IsolationEnded,
        Event::PartitionDetected {
            reachable,
            expected,
            minority,
        } => ClusterEvent::PartitionDetected {
            reachable: *reachable,
            expected: *expected,
            minority: *minority,
        },
        Event::PartitionHealed => ClusterEvent::PartitionHealed,
        Event::Left { .. } => ClusterEvent::NodeLeft(node(&engine.local_member())),
        Event::NameConflict { name, older, newer } => ClusterEvent::NameConflict {
            name: name.as_str().into(),
            older: *older,
            newer: *newer,
        },
        Event::Superseded { by, addr } => ClusterEvent::SourceChanged(SourceState::Superseded {
            by: NodeId::from(by),
            addr: *addr,
        }),
        _ => return None,
    })
}

fn snapshot(engine: &Engine, now: Time) -> Vec<NodeInfo> {
    std::iter::once(engine.local_member())
        .chain(engine.members())
        .map(|member| node_info(engine, now, &member))
        .collect()
}

fn node_info(engine: &Engine, now: Time, member: &Member) -> NodeInfo {
    let state = match member.state {
        MemberState::Failed => NodeState::Failed,
        MemberState::Left => NodeState::Left,
        // It takes no new calls, whether it is suspect or not.
        _ if member.draining => NodeState::Draining,
        // Suspicion and refutation alternate there, and mean nothing.
        _ if member.unreachable => NodeState::Unreachable,
        MemberState::Suspect => NodeState::Suspect,
        _ => NodeState::Alive,
    };
    // The health of a healthy member says nothing that routing would use.
    let health = if state == NodeState::Suspect || member.slow {
        engine.health(&member.id, now)
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
        // By the name alone, which no other node in this view has: the epoch may have been raised
        // since.
        .with_local(member.id.name == engine.id().name)
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
    use std::{sync::Mutex, time::Duration};

    use rpcnet_swim::ClusterConfig;

    use super::*;

    /// Observer that keeps how many events each batch has, and `None` for a snapshot.
    #[derive(Default)]
    struct Batches(Mutex<Vec<Option<usize>>>);

    impl Observer for Batches {
        fn on_snapshot(&self, _: Vec<NodeInfo>) {
            self.0.lock().unwrap().push(None);
        }

        fn on_event(&self, _: ClusterEvent) {
            self.on_events(Vec::new());
        }

        fn on_events(&self, events: Vec<ClusterEvent>) {
            self.0.lock().unwrap().push(Some(events.len()));
        }
    }

    #[test]
    fn no_batch_is_empty() {
        let id = rpcnet_swim::NodeId::new("me", 7);
        let addr = ([127, 0, 0, 1], 7946).into();
        let engine = Engine::new(ClusterConfig::local(), id, addr, Time::ZERO, 1).unwrap();
        let batches = Arc::new(Batches::default());
        let observer = SwimObserver {
            observer: Arc::clone(&batches) as Arc<dyn Observer>,
        };
        let not_kept = Event::ClockSkew {
            addr,
            ahead: Duration::from_secs(1),
            is_own: true,
        };
        observer.on_events(&engine, Time::ZERO, &[not_kept]);
        assert!(batches.0.lock().unwrap().is_empty());
        observer.on_events(&engine, Time::ZERO, &[Event::Lagged(1)]);
        assert_eq!(*batches.0.lock().unwrap(), [None, Some(2)]);
    }

    #[test]
    fn a_record_of_this_node_from_before_its_epoch_rose_is_local() {
        let id = rpcnet_swim::NodeId::new("me", 7);
        let addr = ([127, 0, 0, 1], 7946).into();
        let engine = Engine::new(ClusterConfig::local(), id, addr, Time::ZERO, 1).unwrap();
        let mut before = engine.local_member();
        before.id.epoch -= 1;
        assert!(node_info(&engine, Time::ZERO, &before).is_local);
        before.id.name = "other".into();
        assert!(!node_info(&engine, Time::ZERO, &before).is_local);
    }
}
