//! Worker table: the entries of a registry, changed by events and read when a group is built.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use rpcnet_balance::ExclusionFlags;

use super::worker_entry::WorkerEntry;
use crate::{Filter, NodeState, snapshot::NodeChange};

/// Table of all workers, in the order of their names. A change costs the same for any number of
/// them.
#[derive(Debug)]
pub(super) struct WorkerTable {
    entries: BTreeMap<Arc<str>, Arc<WorkerEntry>>,
    /// Whether the local node may be selected.
    is_local_selectable: bool,
    /// Whether the source is live; otherwise no worker is selected.
    is_live: bool,
    generation: u64,
    /// The workers that may be selected, until the next change.
    selectable: Option<Arc<[Arc<WorkerEntry>]>>,
}

/// The lock is held for a look-up or a copy, never while a group is built.
pub(super) type SharedWorkerTable = Arc<Mutex<WorkerTable>>;

/// Snapshot of the workers that may be selected.
#[derive(Debug, Clone)]
pub(super) struct WorkerSnapshot {
    pub(super) entries: Arc<[Arc<WorkerEntry>]>,
    pub(super) is_live: bool,
    /// A number that rises with every change.
    pub(super) generation: u64,
}

impl WorkerSnapshot {
    /// The number of workers that match and can be reached; none while the source is not live.
    pub(super) fn reachable(&self, filter: &Filter) -> usize {
        let entries = self.entries.iter().filter(|_| self.is_live);
        let reachable = entries.filter(|entry| match entry.node.state {
            NodeState::Alive | NodeState::Suspect | NodeState::Unreachable => true,
            NodeState::Draining | NodeState::Left | NodeState::Failed => false,
        });
        let matching = reachable.filter(|entry| filter.matches(&entry.node.tags));
        matching.count()
    }
}

impl WorkerTable {
    pub(super) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            is_local_selectable: false,
            is_live: true,
            generation: 0,
            selectable: None,
        }
    }

    /// Applies a change. An endpoint whose process is gone is flagged at once, so that older views
    /// do not pick it.
    pub(super) fn apply_change(&mut self, change: &NodeChange) {
        self.invalidate();
        match (&change.before, &change.after) {
            (_, Some(after)) => {
                let name = &after.id.name;
                let before = self.entries.get(name);
                let entry = WorkerEntry::successor(before, after);
                if let Some(before) = before
                    && !Arc::ptr_eq(&before.endpoint, &entry.endpoint)
                {
                    before.endpoint.set_flags(ExclusionFlags::GONE);
                }
                match after.state {
                    NodeState::Alive | NodeState::Suspect | NodeState::Unreachable => {
                        entry.endpoint.clear_flags(ExclusionFlags::GONE)
                    }
                    NodeState::Draining | NodeState::Left | NodeState::Failed => {
                        entry.endpoint.set_flags(ExclusionFlags::GONE)
                    }
                };
                self.entries.insert(Arc::clone(name), Arc::new(entry));
            }
            (Some(before), None) => {
                if let Some(entry) = self.entries.remove(&before.id.name) {
                    entry.endpoint.set_flags(ExclusionFlags::GONE);
                }
            }
            (None, None) => {}
        }
    }

    pub(super) fn set_local_selectable(&mut self, is_selectable: bool) {
        self.invalidate();
        self.is_local_selectable = is_selectable;
    }

    pub(super) fn set_live(&mut self, is_live: bool) {
        self.invalidate();
        self.is_live = is_live;
    }

    /// The worker of this name, if it may be selected.
    pub(super) fn entry(&self, name: &str) -> Option<&Arc<WorkerEntry>> {
        let entry = self.entries.get(name)?;
        self.is_selectable(entry).then_some(entry)
    }

    /// The worker of this name, whether it may be selected or not. If there is none, the name that
    /// differs from it only by case, white space or a final dot.
    pub(super) fn find_any(&self, name: &str) -> Result<&WorkerEntry, Option<&Arc<str>>> {
        if let Some(entry) = self.entries.get(name) {
            return Ok(entry);
        }
        let plain = |name: &str| {
            let name = name.trim();
            name.strip_suffix('.').unwrap_or(name).to_lowercase()
        };
        let wanted = plain(name);
        let mut names = self.entries.keys();
        Err(names.find(|known| plain(known) == wanted))
    }

    /// All workers, whether they may be selected or not.
    pub(super) fn all(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.entries.values().map(|entry| &**entry)
    }

    /// The first worker that may be selected and satisfies the predicate.
    pub(super) fn find_selectable(
        &self,
        is_it: impl Fn(&WorkerEntry) -> bool,
    ) -> Option<&Arc<WorkerEntry>> {
        let mut entries = self.entries.values();
        entries.find(|entry| is_it(entry) && self.is_selectable(entry))
    }

    /// All workers that may be selected. Copied once after a change.
    pub(super) fn snapshot(&mut self) -> WorkerSnapshot {
        let entries = self.selectable.take().unwrap_or_else(|| {
            let entries = self.entries.values();
            entries
                .filter(|one| self.is_selectable(one))
                .cloned()
                .collect()
        });
        self.selectable = Some(Arc::clone(&entries));
        WorkerSnapshot {
            entries,
            is_live: self.is_live,
            generation: self.generation,
        }
    }

    const fn is_selectable(&self, entry: &WorkerEntry) -> bool {
        entry.serves_methods && (self.is_local_selectable || !entry.is_local)
    }

    fn invalidate(&mut self) {
        self.generation += 1;
        self.selectable = None;
    }
}
