//! Worker table: the entries of a registry, changed by events and read when a group is built.

use std::sync::Arc;

use parking_lot::Mutex;

use super::worker_entry::WorkerEntry;
use crate::{Filter, NodeState, snapshot::NodeTable};

/// Table of all workers, in the order of their names. A change costs the same for any number of
/// them.
#[derive(Debug)]
pub(super) struct WorkerTable {
    pub(super) nodes: NodeTable<Arc<WorkerEntry>>,
    /// Whether the local node may be selected.
    is_local_selectable: bool,
    /// The latest snapshot, current until the next change.
    latest: Option<WorkerSnapshot>,
}

/// The lock is held for a lookup or a copy, never while a group is built.
pub(super) type SharedWorkerTable = Arc<Mutex<WorkerTable>>;

/// Snapshot of the workers that may be selected.
#[derive(Debug, Clone)]
pub(super) struct WorkerSnapshot {
    pub(super) entries: Arc<[Arc<WorkerEntry>]>,
    /// Whether the source is live; otherwise no worker is selected.
    pub(super) is_live: bool,
    /// A number that rises with every change.
    pub(super) generation: u64,
}

impl WorkerSnapshot {
    /// The number of workers that match and that the source lists as alive, suspect or unreachable;
    /// none while the source is not live.
    pub(super) fn candidate_count(&self, filter: &Filter) -> usize {
        let entries = self.entries.iter().filter(|_| self.is_live);
        let candidates = entries.filter(|entry| match entry.node.state {
            NodeState::Alive | NodeState::Suspect | NodeState::Unreachable => true,
            NodeState::Draining | NodeState::Left | NodeState::Failed => false,
        });
        let matching = candidates.filter(|entry| filter.matches(&entry.node.tags));
        matching.count()
    }
}

impl WorkerTable {
    pub(super) const fn new() -> Self {
        Self {
            nodes: NodeTable::new(),
            is_local_selectable: false,
            latest: None,
        }
    }

    pub(super) fn set_local_selectable(&mut self, is_selectable: bool) {
        self.is_local_selectable = is_selectable;
        self.nodes.advance_generation();
    }

    /// The worker of this name, if it may be selected.
    pub(super) fn entry(&self, name: &str) -> Option<&Arc<WorkerEntry>> {
        let entry = self.nodes.entries().get(name)?;
        self.is_selectable(entry).then_some(entry)
    }

    /// The worker of this name, whether it may be selected or not. If there is none, the name that
    /// differs from it only by case, white space or a final dot.
    pub(super) fn find_any(&self, name: &str) -> Result<&WorkerEntry, Option<&Arc<str>>> {
        if let Some(entry) = self.nodes.entries().get(name) {
            return Ok(entry);
        }
        let plain = |name: &str| {
            let name = name.trim();
            name.strip_suffix('.').unwrap_or(name).to_lowercase()
        };
        let wanted = plain(name);
        let mut names = self.nodes.entries().keys();
        Err(names.find(|known| plain(known) == wanted))
    }

    /// All workers, whether they may be selected or not.
    pub(super) fn all(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.nodes.entries().values().map(|entry| &**entry)
    }

    /// The first worker that may be selected and satisfies the predicate.
    pub(super) fn find_selectable(
        &self,
        is_it: impl Fn(&WorkerEntry) -> bool,
    ) -> Option<&Arc<WorkerEntry>> {
        let mut entries = self.nodes.entries().values();
        entries.find(|entry| is_it(entry) && self.is_selectable(entry))
    }

    /// All workers that may be selected. Copied once after a change.
    pub(super) fn snapshot(&mut self) -> WorkerSnapshot {
        let generation = self.nodes.generation();
        let latest = self.latest.take();
        let latest = latest.filter(|latest| latest.generation == generation);
        let snapshot = latest.unwrap_or_else(|| {
            let entries = self.nodes.entries().values();
            let selectable = entries.filter(|entry| self.is_selectable(entry));
            WorkerSnapshot {
                entries: selectable.cloned().collect(),
                is_live: self.nodes.source().is_live(),
                generation,
            }
        });
        self.latest = Some(snapshot.clone());
        snapshot
    }

    const fn is_selectable(&self, entry: &WorkerEntry) -> bool {
        entry.serves_methods && (self.is_local_selectable || !entry.is_local)
    }
}
