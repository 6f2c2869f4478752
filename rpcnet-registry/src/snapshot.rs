//! Snapshot of all nodes, and the node table that it is taken from.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Deref,
    sync::Arc,
};

use crate::{ClusterEvent, Filter, NodeInfo, NodeState, SourceState};

/// Immutable snapshot of all nodes, in the order of their names.
///
/// It is a slice of [`NodeInfo`]s with some queries. Nodes that left or failed are included, in
/// that state, until the source forgets them; the registry keeps the latest 256 of them at most.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: Box<[Arc<NodeInfo>]>,
    generation: u64,
    source: SourceState,
}

impl Snapshot {
    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        let found = self
            .nodes
            .binary_search_by(|node| node.id.name.as_ref().cmp(name));
        found.ok().map(|index| &self.nodes[index])
    }

    /// The nodes whose tags match, in any state.
    pub fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Arc<NodeInfo>> {
        self.nodes.iter().filter(|node| filter.matches(&node.tags))
    }

    /// The nodes that are alive.
    pub fn alive(&self) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.nodes
            .iter()
            .filter(|node| node.state == NodeState::Alive)
    }

    /// The state of the source. If it was not live, the snapshot is its last state, and nodes may
    /// have come and gone since.
    #[must_use]
    pub const fn source(&self) -> &SourceState {
        &self.source
    }

    /// A number that rises with every change.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

impl Deref for Snapshot {
    type Target = [Arc<NodeInfo>];

    fn deref(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }
}

impl<'a> IntoIterator for &'a Snapshot {
    type Item = &'a Arc<NodeInfo>;
    type IntoIter = std::slice::Iter<'a, Arc<NodeInfo>>;

    fn into_iter(self) -> Self::IntoIter {
        self.nodes.iter()
    }
}

/// Table of nodes that the events of a source are applied to.
#[derive(Debug)]
pub(crate) struct NodeTable<E = Arc<NodeInfo>> {
    entries: BTreeMap<Arc<str>, E>,
    /// Names of the nodes that left or failed, the longest gone first.
    departed: VecDeque<Arc<str>>,
    generation: u64,
    source: SourceState,
}

/// Entry of a node table: a node, with what belongs to it.
pub(crate) trait NodeEntry {
    /// The entry for `node` in place of the previous one of that name.
    fn successor(before: Option<&Self>, node: &Arc<NodeInfo>) -> Self;

    fn node(&self) -> &Arc<NodeInfo>;

    /// The node is forgotten.
    fn on_removed(&self) {}
}

impl NodeEntry for Arc<NodeInfo> {
    fn successor(_before: Option<&Self>, node: &Arc<NodeInfo>) -> Self {
        Self::clone(node)
    }

    fn node(&self) -> &Arc<NodeInfo> {
        self
    }
}

/// Change of a node: before and after; at least one of them is present.
#[derive(Debug)]
pub(crate) struct NodeChange {
    pub(crate) before: Option<Arc<NodeInfo>>,
    pub(crate) after: Option<Arc<NodeInfo>>,
}

impl NodeTable {
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            nodes: self.entries.values().cloned().collect(),
            generation: self.generation,
            source: self.source.clone(),
        }
    }
}

impl<E: NodeEntry> NodeTable<E> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            departed: VecDeque::new(),
            generation: 0,
            source: SourceState::Live,
        }
    }

    /// The entries by the names of their nodes.
    pub(crate) const fn entries(&self) -> &BTreeMap<Arc<str>, E> {
        &self.entries
    }

    /// A number that rises with every change.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Counts a change of what its user makes of the entries.
    pub(crate) const fn advance_generation(&mut self) {
        self.generation += 1;
    }

    pub(crate) const fn source(&self) -> &SourceState {
        &self.source
    }

    /// Applies an event about the source; `None` for other events. Whether the state of the source
    /// has changed.
    pub(crate) fn apply_source_event(&mut self, event: &ClusterEvent) -> Option<bool> {
        let ClusterEvent::SourceChanged(source) = event else {
            return None;
        };
        // A source that has ended does not come back.
        let is_news = self.source != *source && !self.source.is_terminal();
        if is_news {
            self.generation += 1;
            self.source = source.clone();
        }
        Some(is_news)
    }

    /// Applies an event. The changes are empty when it is not about a node, or about a former
    /// process of one.
    pub(crate) fn apply(&mut self, event: ClusterEvent) -> (ClusterEvent, Vec<NodeChange>) {
        let (event, node) = with_event_state(event);
        let Some(node) = node else {
            return (event, Vec::new());
        };
        // Late news of a former process. But a node that joins is there now, even if its clock, and
        // so its epoch, went back.
        let known = self.entries.get(&node.id.name);
        let late = known.is_some_and(|known| known.node().id.epoch > node.id.epoch)
            && !matches!(event, ClusterEvent::NodeJoined(_));
        let changes = if late { Vec::new() } else { self.insert(node) };
        (event, changes)
    }

    /// Replaces all nodes by a full list: the events and the changes that result.
    pub(crate) fn replace(&mut self, nodes: Vec<NodeInfo>) -> (Vec<ClusterEvent>, Vec<NodeChange>) {
        let mut listed = BTreeMap::new();
        for node in nodes {
            // If a name occurs twice, the later epoch counts.
            let entry = listed
                .entry(Arc::clone(&node.id.name))
                .or_insert_with(|| node.clone());
            if entry.id.epoch < node.id.epoch {
                *entry = node;
            }
        }
        let (mut events, mut changes) = (Vec::new(), Vec::new());
        // A source that is not live and starts over says nothing about the nodes that it does not
        // list: it has yet to find them.
        let has_left = self.source.is_live();
        let vanished: Vec<Arc<str>> = self
            .entries
            .keys()
            .filter(|name| !listed.contains_key(*name))
            .cloned()
            .collect();
        for name in vanished {
            let Some(before) = self.remove(&name) else {
                continue;
            };
            if has_left && !before.state.is_gone() {
                let left = NodeInfo::clone(&before).with_state(NodeState::Left);
                events.push(ClusterEvent::NodeLeft(Arc::new(left)));
            }
            changes.push(NodeChange {
                before: Some(before),
                after: None,
            });
        }
        for node in listed.into_values().map(Arc::new) {
            let before = self.entries.get(&node.id.name).map(E::node);
            events.extend(event_for_difference(before.map(Arc::as_ref), &node));
            changes.extend(self.insert(node));
        }
        (events, changes)
    }

    fn insert(&mut self, node: Arc<NodeInfo>) -> Vec<NodeChange> {
        let name = Arc::clone(&node.id.name);
        self.generation += 1;
        let gone = node.state.is_gone();
        let entry = E::successor(self.entries.get(&name), &node);
        let before = self.entries.insert(Arc::clone(&name), entry);
        let mut changes = vec![NodeChange {
            before: before.map(|before| Arc::clone(before.node())),
            after: Some(node),
        }];

        self.departed.retain(|other| *other != name);
        if gone {
            self.departed.push_back(name);
        }
        if self.departed.len() > DEPARTED_MAX {
            let longest = self.departed.pop_front();
            let before = longest.and_then(|name| self.remove(&name));
            changes.push(NodeChange {
                before,
                after: None,
            });
        }
        changes
    }

    fn remove(&mut self, name: &str) -> Option<Arc<NodeInfo>> {
        self.generation += 1;
        self.departed.retain(|other| **other != *name);
        let removed = self.entries.remove(name)?;
        removed.on_removed();
        Some(Arc::clone(removed.node()))
    }
}

/// The event with its node in the state that the event reports.
fn with_event_state(event: ClusterEvent) -> (ClusterEvent, Option<Arc<NodeInfo>>) {
    let state = match &event {
        ClusterEvent::NodeLeft(_) => NodeState::Left,
        ClusterEvent::NodeFailed(_) => NodeState::Failed,
        ClusterEvent::NodeSuspect { .. } => NodeState::Suspect,
        _ => {
            let node = event.node().cloned();
            return (event, node);
        }
    };
    let Some(mut node) = event.node().cloned() else {
        return (event, None);
    };
    let known = (
        state,
        if let ClusterEvent::NodeSuspect { phi, .. } = event {
            Some(phi)
        } else {
            None
        },
    );
    // A node that drains or is unreachable takes no calls anyway, suspect or not.
    let worse = matches!(node.state, NodeState::Draining | NodeState::Unreachable);
    let is_worse = state == NodeState::Suspect && worse;
    if !is_worse && (node.state, node.phi) != known {
        let node = Arc::make_mut(&mut node);
        (node.state, node.phi) = known;
    }
    let event = match event {
        ClusterEvent::NodeLeft(_) => ClusterEvent::NodeLeft(Arc::clone(&node)),
        ClusterEvent::NodeFailed(_) => ClusterEvent::NodeFailed(Arc::clone(&node)),
        ClusterEvent::NodeSuspect { phi, .. } => ClusterEvent::NodeSuspect {
            node: Arc::clone(&node),
            phi,
        },
        other => other,
    };
    (event, Some(node))
}

/// The event for a node that is listed like this and was like `before`.
fn event_for_difference(before: Option<&NodeInfo>, node: &Arc<NodeInfo>) -> Option<ClusterEvent> {
    let after = Arc::clone(node);
    let same_process = before.filter(|before| before.id == node.id);
    let Some(before) = same_process else {
        return (!node.state.is_gone()).then_some(ClusterEvent::NodeJoined(after));
    };
    if before.state != node.state {
        return Some(match node.state {
            NodeState::Alive if before.state == NodeState::Unreachable => {
                ClusterEvent::NodeReachable(after)
            }
            NodeState::Unreachable => ClusterEvent::NodeUnreachable(after),
            NodeState::Alive => ClusterEvent::NodeRecovered(after),
            NodeState::Suspect => {
                let phi = node.phi.unwrap_or(0.0);
                ClusterEvent::NodeSuspect { node: after, phi }
            }
            NodeState::Draining => ClusterEvent::NodeUpdated(after),
            NodeState::Left => ClusterEvent::NodeLeft(after),
            NodeState::Failed => ClusterEvent::NodeFailed(after),
        });
    }
    if before.is_slow != node.is_slow {
        return Some(if node.is_slow {
            ClusterEvent::NodeSlow(after)
        } else {
            ClusterEvent::NodeResponsive(after)
        });
    }
    let changed = before.tags != node.tags || before.addr != node.addr;
    changed.then_some(ClusterEvent::NodeUpdated(after))
}

/// The number of nodes that left or failed and are remembered: names may differ after every start.
pub(crate) const DEPARTED_MAX: usize = 256;
