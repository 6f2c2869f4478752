//! Selection state: shared between the source that reports changes and the callers that select.
//!
//! An event changes the worker table, flags the endpoints that are gone and marks the groups that
//! it affects; it builds nothing. The first selection by a filter after a change builds its group,
//! once for any number of changes. Callers that select meanwhile pick from the previous group, in
//! which endpoints that are gone are flagged.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Release},
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rpcnet_balance::Balancer;

use super::{
    group::{BuildGuard, Group},
    health_tracker::HealthTracker,
    invalid_tag_log::InvalidTagLog,
    weight,
    worker_table::{SharedWorkerTable, WorkerTable},
};
use crate::{
    ClusterEvent, Filter, FilterError, NodeInfo, NodeState, Observer, SourceState,
    event::{EVENT_CAPACITY, EventBroadcast},
    schema_tag::changes_schemas,
    snapshot::NodeChange,
};

pub(super) struct SelectionState {
    /// Locked while an event is applied, and while a group is published.
    event_log: Mutex<InvalidTagLog>,
    pub(super) table: SharedWorkerTable,
    pub(super) selection: ArcSwap<SelectionTables>,
    balancer: Arc<dyn Balancer>,
    pub(super) events: EventBroadcast,
    /// Number that rises with each change of the schemas that workers announce.
    pub(super) schema_version: AtomicU64,
}

/// Immutable tables that a selection reads.
#[derive(Debug, Clone)]
pub(super) struct SelectionTables {
    /// Groups by the text of their filter. They are few, so comparing texts is faster than hashing.
    pub(super) groups: BTreeMap<Arc<str>, Arc<Group>>,
    pub(super) health: Arc<HealthTracker>,
    pub(super) source: SourceState,
    /// A number that rises when all groups are dropped at once.
    epoch: u64,
    /// Filter that was last evicted although it was used: the next one follows it.
    evicted: Arc<str>,
}

impl SelectionTables {
    /// Second-chance eviction: removes the filters that were not used since the last time; if all
    /// were, one of them, each in its turn.
    fn evict_unused(&mut self) {
        if self.groups.len() < FILTERS_MAX {
            return;
        }
        self.groups.retain(|_, group| {
            let is_used = group.build_state.take_used();
            if !is_used {
                // Callers may keep it, and it is not marked by changes any more.
                group.build_state.mark_stale();
            }
            is_used
        });
        if self.groups.len() < FILTERS_MAX {
            return;
        }
        let following = (Bound::Excluded(&*self.evicted), Bound::Unbounded);
        let following = self.groups.range::<str, _>(following).next();
        let victim = following.or_else(|| self.groups.first_key_value());
        if let Some(text) = victim.map(|(text, _)| Arc::clone(text)) {
            if let Some(group) = self.groups.remove(&text) {
                group.build_state.mark_stale();
            }
            self.evicted = text;
        }
    }
}

impl SelectionState {
    pub(super) fn new(balancer: Arc<dyn Balancer>) -> Self {
        let table = Arc::new(Mutex::new(WorkerTable::new()));
        let selection = SelectionTables {
            groups: BTreeMap::new(),
            health: Arc::new(HealthTracker::new(Arc::clone(&table))),
            source: SourceState::Live,
            epoch: 0,
            evicted: Arc::from(""),
        };
        Self {
            event_log: Mutex::new(InvalidTagLog::new()),
            table,
            selection: ArcSwap::from_pointee(selection),
            balancer,
            events: EventBroadcast::new(EVENT_CAPACITY),
            schema_version: AtomicU64::new(0),
        }
    }

    /// The group of a filter with every change that is known by now. While another caller builds
    /// it, the previous one, unless it `must` be the latest.
    #[cold]
    pub(super) fn latest_group(&self, text: &str, must: bool) -> Result<Arc<Group>, FilterError> {
        loop {
            let group = self.current_group(text)?;
            let build = if must || !group.is_built {
                group.build_state.lock_build()
            } else if let Some(build) = group.build_state.try_lock_build() {
                build
            } else {
                return Ok(group);
            };
            if let Some(built) = self.build_group(text, build) {
                return Ok(built);
            }
        }
    }

    /// The workers that match a filter, with every change that is known by now; not to be picked
    /// from. Waits for no other caller: while one builds the group, it is partitioned here too.
    pub(super) fn group_for_listing(&self, text: &str) -> Result<Arc<Group>, FilterError> {
        loop {
            let known = self.current_group(text)?;
            if known.build_state.is_up_to_date() {
                let selection = self.selection.load();
                let latest = selection.groups.get(text);
                match latest.filter(|latest| Arc::ptr_eq(&latest.build_state, &known.build_state)) {
                    Some(latest) => return Ok(Arc::clone(latest)),
                    None => continue,
                }
            }
            let Some(build) = known.build_state.try_lock_build() else {
                let snapshot = self.table.lock().snapshot();
                return Ok(Arc::new(known.preview(&snapshot)));
            };
            if let Some(built) = self.build_group(text, build) {
                return Ok(built);
            }
        }
    }

    fn current_group(&self, text: &str) -> Result<Arc<Group>, FilterError> {
        let known = self.selection.load().groups.get(text).cloned();
        known.map_or_else(|| self.add_group(text), Ok)
    }

    /// Builds the latest group, unless another caller was faster. `None` if its entry is gone.
    fn build_group(&self, text: &str, mut build: BuildGuard<'_>) -> Option<Arc<Group>> {
        let selection = self.selection.load_full();
        let latest = selection.groups.get(text);
        let latest = latest.filter(|latest| build.is_of(latest))?;
        if !build.claim_changes() {
            return Some(Arc::clone(latest));
        }
        let snapshot = self.table.lock().snapshot();
        let built = Arc::new(latest.successor(&snapshot));
        let is_published = self.publish(text, &built, selection.epoch);
        is_published.then(|| {
            build.finish();
            built
        })
    }

    /// Adds the placeholder for the group of a new filter.
    fn add_group(&self, text: &str) -> Result<Arc<Group>, FilterError> {
        let filter: Filter = text.parse()?;
        let _guard = self.event_log.lock();
        let current = self.selection.load();
        // Another caller may have added it while this one waited for the lock.
        if let Some(group) = current.groups.get(text) {
            return Ok(Arc::clone(group));
        }
        let text: Arc<str> = text.into();
        let group = Arc::new(Group::placeholder(
            filter,
            &text,
            &self.balancer,
            &current.health,
        ));
        let mut next = SelectionTables::clone(&current);
        next.evict_unused();
        next.groups.insert(text, Arc::clone(&group));
        self.selection.store(Arc::new(next));
        Ok(group)
    }

    /// Publishes a group in place of the previous one. `false` if its entry is gone: then it may be
    /// out of date.
    fn publish(&self, text: &str, built: &Arc<Group>, epoch: u64) -> bool {
        let _guard = self.event_log.lock();
        let current = self.selection.load();
        let is_mine = |before: &Arc<Group>| Arc::ptr_eq(&before.build_state, &built.build_state);
        if current.epoch != epoch || !current.groups.get(text).is_some_and(is_mine) {
            return false;
        }
        let mut next = SelectionTables::clone(&current);
        if let Some(slot) = next.groups.get_mut(text) {
            *slot = Arc::clone(built);
        }
        self.selection.store(Arc::new(next));
        built.build_state.on_published(built);
        true
    }

    /// Drops all groups, for a change that affects every one.
    pub(super) fn reset_groups(&self, change: impl FnOnce(&mut SelectionTables)) {
        let _guard = self.event_log.lock();
        self.reset_groups_locked(change);
    }

    fn reset_groups_locked(&self, change: impl FnOnce(&mut SelectionTables)) {
        let mut next = SelectionTables::clone(&self.selection.load());
        // Callers may keep them.
        next.groups
            .values()
            .for_each(|group| group.build_state.mark_stale());
        next.groups.clear();
        next.epoch += 1;
        change(&mut next);
        next.health.on_table_changed();
        self.selection.store(Arc::new(next));
    }

    /// Marks the groups that are affected by changes of the worker table. Returns the events about
    /// invalid tags.
    fn on_changes(&self, log: &mut InvalidTagLog, changes: &[NodeChange]) -> Vec<ClusterEvent> {
        let selection = self.selection.load();
        for group in selection.groups.values() {
            if !group.build_state.is_stale() && affects(&group.filter, changes) {
                group.build_state.mark_stale();
            }
        }
        if !changes.is_empty() {
            selection.health.on_table_changed();
        }
        let mut changed = changes.iter();
        if changed.any(|one| changes_schemas(one.before.as_deref(), one.after.as_deref())) {
            self.schema_version.fetch_add(1, Release);
        }
        let invalid: Vec<_> = changes.iter().filter_map(invalid_tag_event).collect();
        log.add(&invalid, selection.health.now());
        invalid
    }

    /// Applies an event that suggests that a node is healthy: it is tried again at once. A refuted
    /// suspicion is the node's own word, through other nodes, and says nothing about the connection
    /// to it: what calls found out stays.
    fn on_node_event(&self, event: &ClusterEvent, changes: &[NodeChange]) {
        use ClusterEvent::{NodeJoined, NodeReachable, NodeRecovered, NodeUpdated};
        let Some(node) = event.node() else {
            return;
        };
        let entry = self.table.lock().entry(&node.id.name).cloned();
        let Some(entry) = entry.filter(|entry| entry.node.state == NodeState::Alive) else {
            return;
        };
        let health = Arc::clone(&self.selection.load().health);
        match event {
            NodeJoined(_) | NodeUpdated(_) => {
                health.on_reachable(&entry.endpoint);
                health.set_draining(&entry.endpoint, false);
            }
            NodeRecovered(_) | NodeReachable(_) => {
                let before = changes.iter().find_map(|change| change.before.as_ref());
                if before.is_none_or(|before| before.state != NodeState::Suspect) {
                    health.request_probe(&entry.endpoint);
                }
            }
            _ => {}
        }
    }
}

impl Observer for SelectionState {
    fn on_snapshot(&self, nodes: Vec<NodeInfo>) {
        let mut log = self.event_log.lock();
        let (events, changes) = self.table.lock().nodes.replace(nodes);
        let invalid = self.on_changes(&mut log, &changes);
        let events = events.into_iter().chain(invalid);
        events.for_each(|event| self.events.send(event));
        let lines = log.take_due();
        drop(log);
        lines.write();
    }

    fn on_event(&self, event: ClusterEvent) {
        let mut log = self.event_log.lock();
        let mut table = self.table.lock();
        match table.nodes.apply_source_event(&event) {
            Some(false) => return,
            Some(true) => {
                let source = table.nodes.source().clone();
                drop(table);
                self.reset_groups_locked(|selection| selection.source = source);
                return self.events.send(event);
            }
            None => {}
        }
        let (event, changes) = table.nodes.apply(event);
        drop(table);
        let invalid = self.on_changes(&mut log, &changes);
        if !changes.is_empty() {
            self.on_node_event(&event, &changes);
        }
        self.events.send(event);
        invalid
            .into_iter()
            .for_each(|event| self.events.send(event));
        let lines = log.take_due();
        drop(log);
        lines.write();
    }

    fn defer_log(&self) {
        self.event_log.lock().defer();
    }

    fn after_events(&self) {
        let lines = self.event_log.lock().take();
        lines.write();
    }
}

/// Whether the filter matches a node before or after a change.
fn affects(filter: &Filter, changes: &[NodeChange]) -> bool {
    let nodes = changes.iter().flat_map(|one| [&one.before, &one.after]);
    nodes.flatten().any(|node| filter.matches(&node.tags))
}

/// The event about an invalid tag of a node that has changed.
fn invalid_tag_event(change: &NodeChange) -> Option<ClusterEvent> {
    let node = change.after.as_ref()?;
    let is_news = weight::has_changed(change.before.as_deref(), node);
    let tag = weight::invalid_tag(node).filter(|_| is_news)?;
    Some(ClusterEvent::InvalidTag {
        node: tag.node,
        key: tag.key,
        value: tag.value,
        effective: tag.effective,
    })
}

/// The number of filters that are kept parsed and matched.
pub(super) const FILTERS_MAX: usize = 256;
