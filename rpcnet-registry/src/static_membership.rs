//! Static membership: a list of nodes that is changed by hand.

mod list_observers;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use self::list_observers::{CalledObservers, ListObservers};
use crate::{ClusterEvent, Membership, NodeInfo, NodeState, Observer, Tags, Watch};

/// A list of nodes that is changed by hand: for programs that know their nodes by other means, and
/// for tests.
///
/// Clones share the list. Observers are called within the call that makes the change, while the
/// list is locked; their log lines follow without the lock. An observer that panics is removed,
/// which is logged as an error, and receives [`SourceState::Stopped`](crate::SourceState::Stopped);
/// the list and its other observers go on.
///
/// ```
/// use rpcnet_registry::{NodeInfo, NodeId, StaticMembership};
///
/// let cluster: StaticMembership = [("a", 7001), ("b", 7002)]
///     .map(|(name, port)| NodeInfo::new(NodeId::new(name, 1), ([10, 0, 0, 1], port).into()))
///     .into_iter()
///     .collect();
/// assert!(cluster.fail("a"));
/// assert!(!cluster.fail("c")); // no node has that name
/// ```
#[derive(Clone, Default)]
pub struct StaticMembership {
    list: Arc<Mutex<NodeList>>,
}

impl StaticMembership {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Inserts a node: it joins, or, if a node of the same name and epoch is there, is updated.
    ///
    /// A node with a higher epoch replaces the one before. A node with a lower epoch is out of
    /// date: it is not inserted, and `false` is returned.
    pub fn insert(&self, node: NodeInfo) -> bool {
        self.update(|nodes| {
            let event = match nodes.get(&node.id.name) {
                Some(before) if before.id.epoch > node.id.epoch => return None,
                Some(before) if before.id == node.id && !before.state.is_gone() => {
                    ClusterEvent::NodeUpdated
                }
                _ => ClusterEvent::NodeJoined,
            };
            let node = Arc::new(node);
            nodes.insert(Arc::clone(&node.id.name), Arc::clone(&node));
            Some(event(node))
        })
    }

    /// Removes a node: it has left. Like the methods below it returns `false` if no node has the
    /// name.
    pub fn remove(&self, name: &str) -> bool {
        self.update(|nodes| {
            let mut node = nodes.remove(name)?;
            Arc::make_mut(&mut node).state = NodeState::Left;
            Some(ClusterEvent::NodeLeft(node))
        })
    }

    /// Marks a node as failed. It stays on the list.
    pub fn fail(&self, name: &str) -> bool {
        let failed = |node: &mut NodeInfo| (node.state, node.phi) = (NodeState::Failed, None);
        self.change(name, failed, ClusterEvent::NodeFailed)
    }

    /// Marks a node as suspect, with this phi.
    pub fn suspect(&self, name: &str, phi: f64) -> bool {
        let suspect =
            |node: &mut NodeInfo| (node.state, node.phi) = (NodeState::Suspect, Some(phi));
        self.change(name, suspect, |node| ClusterEvent::NodeSuspect {
            node,
            phi,
        })
    }

    /// Marks a node as alive after a suspicion or a failure.
    pub fn recover(&self, name: &str) -> bool {
        let alive = |node: &mut NodeInfo| (node.state, node.phi) = (NodeState::Alive, None);
        self.change(name, alive, ClusterEvent::NodeRecovered)
    }

    /// Marks a node as alive by its own word and unreachable.
    pub fn unreachable(&self, name: &str) -> bool {
        let unreachable =
            |node: &mut NodeInfo| (node.state, node.phi) = (NodeState::Unreachable, None);
        self.change(name, unreachable, ClusterEvent::NodeUnreachable)
    }

    /// Marks an unreachable node as reachable again.
    pub fn reachable(&self, name: &str) -> bool {
        let alive = |node: &mut NodeInfo| (node.state, node.phi) = (NodeState::Alive, None);
        self.change(name, alive, ClusterEvent::NodeReachable)
    }

    /// Marks a node as slow.
    pub fn slow(&self, name: &str) -> bool {
        self.change(name, |node| node.is_slow = true, ClusterEvent::NodeSlow)
    }

    /// Marks a slow node as responsive again.
    pub fn responsive(&self, name: &str) -> bool {
        let prompt = |node: &mut NodeInfo| node.is_slow = false;
        self.change(name, prompt, ClusterEvent::NodeResponsive)
    }

    /// Marks a node as draining: it takes no more calls.
    pub fn drain(&self, name: &str) -> bool {
        let draining = |node: &mut NodeInfo| (node.state, node.phi) = (NodeState::Draining, None);
        self.change(name, draining, ClusterEvent::NodeUpdated)
    }

    /// Replaces the tags of a node.
    pub fn set_tags(&self, name: &str, tags: Tags) -> bool {
        self.change(name, |node| node.tags = tags, ClusterEvent::NodeUpdated)
    }

    /// Hands observers an event that is not about one node; others are ignored.
    pub fn announce(&self, event: ClusterEvent) {
        self.update(|_| event.node().is_none().then_some(event));
    }

    fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut NodeInfo),
        event: impl FnOnce(Arc<NodeInfo>) -> ClusterEvent,
    ) -> bool {
        self.update(|nodes| {
            let node = nodes.get_mut(name)?;
            change(Arc::make_mut(node));
            Some(event(Arc::clone(node)))
        })
    }

    /// Changes the list and hands the observers the event, if there is one. What they defer is done
    /// without the lock.
    fn update(&self, change: impl FnOnce(&mut Nodes) -> Option<ClusterEvent>) -> bool {
        let mut list = self.list.lock();
        let Some(event) = change(&mut list.nodes) else {
            return false;
        };
        let called = list
            .observers
            .notify(|observer| observer.on_event(event.clone()));
        drop(list);
        self.after_events(called);
        true
    }

    /// Calls `after_events` of the observers, without the lock, and logs which of them panicked.
    fn after_events(&self, called: CalledObservers) {
        called.after_events(|id| self.list.lock().observers.remove(id));
    }
}

impl Membership for StaticMembership {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        let mut list = self.list.lock();
        let NodeList { nodes, observers } = &mut *list;
        let (id, called) = observers.add(observer, |observer| {
            observer.defer_log();
            observer.on_snapshot(nodes.values().map(|node| NodeInfo::clone(node)).collect());
        });
        drop(list);
        self.after_events(called);

        let list = Arc::downgrade(&self.list);
        Watch::new(move || {
            let observer = Weak::upgrade(&list).and_then(|list| list.lock().observers.remove(id));
            // Dropped only now, without the lock: it may own another watch of this list.
            drop(observer);
        })
    }
}

impl FromIterator<NodeInfo> for StaticMembership {
    fn from_iter<I: IntoIterator<Item = NodeInfo>>(nodes: I) -> Self {
        let list = Self::new();
        for node in nodes {
            list.insert(node);
        }
        list
    }
}

impl fmt::Debug for StaticMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = self.list.lock();
        f.debug_struct("StaticMembership")
            .field("nodes", &list.nodes.values())
            .field("observers", &list.observers.len())
            .finish()
    }
}

type Nodes = BTreeMap<Arc<str>, Arc<NodeInfo>>;

#[derive(Default)]
struct NodeList {
    nodes: Nodes,
    observers: ListObservers,
}
