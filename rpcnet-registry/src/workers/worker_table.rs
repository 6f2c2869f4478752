//! Roster: the members of a registry, changed by events and read when something is built of them.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use rpcnet_balance::ExclusionFlags;

use super::worker::WorkerEntry;
use crate::{NodeState, snapshot::NodeChange};

/// All members, in the order of their names. A change costs the same for any number of them.
#[derive(Debug)]
pub(super) struct WorkerTable {
    entries: BTreeMap<Arc<str>, Arc<WorkerEntry>>,
    /// Whether the local node may be selected.
    is_local_selectable: bool,
    /// Whether the source tells what happens; otherwise nothing is selected.
    is_live: bool,
    generation: u64,
    /// The members that may be selected, until the next change.
    selectable: Option<Arc<[Arc<WorkerEntry>]>>,
}

/// The lock is held for a look-up or a copy, never while something is built.
pub(super) type SharedWorkerTable = Arc<Mutex<WorkerTable>>;

/// The members that may be selected, at one moment.
#[derive(Debug, Clone)]
pub(super) struct WorkerSnapshot {
    pub(super) entries: Arc<[Arc<WorkerEntry>]>,
    pub(super) is_live: bool,
    /// Rises with every change.
    pub(super) generation: u64,
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

    /// Takes in a change. An endpoint whose process is gone is marked at once, so that views from before do not pick it.
    pub(super) fn apply_change(&mut self, change: &NodeChange) {
        self.invalidate();
        match (&change.before, &change.after) {
            (_, Some(after)) => {
                let name = &after.id.name;
                let before = self.entries.get(name);
                let member = WorkerEntry::successor(before, after);
                if let Some(before) = before
                    && !Arc::ptr_eq(&before.endpoint, &member.endpoint)
                {
                    before.endpoint.set_flags(ExclusionFlags::GONE);
                }
                match after.state {
                    NodeState::Alive | NodeState::Suspect | NodeState::Unreachable => {
                        member.endpoint.clear_flags(ExclusionFlags::GONE)
                    }
                    NodeState::Leaving | NodeState::Left | NodeState::Failed => {
                        member.endpoint.set_flags(ExclusionFlags::GONE)
                    }
                };
                self.entries.insert(Arc::clone(name), Arc::new(member));
            }
            (Some(before), None) => {
                if let Some(member) = self.entries.remove(&before.id.name) {
                    member.endpoint.set_flags(ExclusionFlags::GONE);
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

    /// The member of this name, if it may be selected.
    pub(super) fn entry(&self, name: &str) -> Option<&Arc<WorkerEntry>> {
        let member = self.entries.get(name)?;
        self.is_selectable(member).then_some(member)
    }

    /// The member of this name, whether it may be selected or not. If there is none, the name that
    /// differs from it only by case, white space or a dot at the end.
    pub(super) fn find_any(&self, name: &str) -> Result<&WorkerEntry, Option<&Arc<str>>> {
        if let Some(member) = self.entries.get(name) {
            return Ok(member);
        }
        let plain = |name: &str| {
            let name = name.trim();
            name.strip_suffix('.').unwrap_or(name).to_lowercase()
        };
        let wanted = plain(name);
        let mut names = self.entries.keys();
        Err(names.find(|known| plain(known) == wanted))
    }

    /// All members, whether they may be selected or not.
    pub(super) fn all(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.entries.values().map(|member| &**member)
    }

    /// The member whose endpoint this is.
    pub(super) fn find_selectable(
        &self,
        is_it: impl Fn(&WorkerEntry) -> bool,
    ) -> Option<&Arc<WorkerEntry>> {
        let mut members = self.entries.values();
        members.find(|member| is_it(member) && self.is_selectable(member))
    }

    /// All that may be selected. Copied once after a change.
    pub(super) fn snapshot(&mut self) -> WorkerSnapshot {
        let members = self.selectable.take().unwrap_or_else(|| {
            let members = self.entries.values();
            members
                .filter(|one| self.is_selectable(one))
                .cloned()
                .collect()
        });
        self.selectable = Some(Arc::clone(&members));
        WorkerSnapshot {
            entries: members,
            is_live: self.is_live,
            generation: self.generation,
        }
    }

    const fn is_selectable(&self, member: &WorkerEntry) -> bool {
        member.serves_methods && (self.is_local_selectable || !member.is_local)
    }

    fn invalidate(&mut self) {
        self.generation += 1;
        self.selectable = None;
    }
}
