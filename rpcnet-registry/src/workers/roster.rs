//! Roster: the members of a registry, changed by events and read when something is built of them.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use rpcnet_balance::Marks;

use super::worker::Member;
use crate::{NodeState, snapshot::Change};

/// All members, in the order of their names. A change costs the same for any number of them.
#[derive(Debug)]
pub(super) struct Roster {
    members: BTreeMap<Arc<str>, Arc<Member>>,
    /// Whether the local node may be selected.
    is_local_selectable: bool,
    /// Whether the source tells what happens; otherwise nothing is selected.
    is_live: bool,
    generation: u64,
    /// The members that may be selected, until the next change.
    selectable: Option<Arc<[Arc<Member>]>>,
}

/// The lock is held for a look-up or a copy, never while something is built.
pub(super) type SharedRoster = Arc<Mutex<Roster>>;

/// The members that may be selected, at one moment.
#[derive(Debug, Clone)]
pub(super) struct RosterSnapshot {
    pub(super) members: Arc<[Arc<Member>]>,
    pub(super) is_live: bool,
    /// Rises with every change.
    pub(super) generation: u64,
}

impl Roster {
    pub(super) const fn new() -> Self {
        Self {
            members: BTreeMap::new(),
            is_local_selectable: false,
            is_live: true,
            generation: 0,
            selectable: None,
        }
    }

    /// Takes in a change. An endpoint whose process is gone is marked at once, so that views from before do not pick it.
    pub(super) fn update(&mut self, change: &Change) {
        self.changed();
        match (&change.before, &change.after) {
            (_, Some(after)) => {
                let name = &after.id.name;
                let before = self.members.get(name);
                let member = Member::successor(before, after);
                if let Some(before) = before
                    && !Arc::ptr_eq(&before.endpoint, &member.endpoint)
                {
                    before.endpoint.mark(Marks::GONE);
                }
                match after.state {
                    NodeState::Alive | NodeState::Suspect | NodeState::Unreachable => {
                        member.endpoint.unmark(Marks::GONE)
                    }
                    NodeState::Leaving | NodeState::Left | NodeState::Failed => {
                        member.endpoint.mark(Marks::GONE)
                    }
                };
                self.members.insert(Arc::clone(name), Arc::new(member));
            }
            (Some(before), None) => {
                if let Some(member) = self.members.remove(&before.id.name) {
                    member.endpoint.mark(Marks::GONE);
                }
            }
            (None, None) => {}
        }
    }

    pub(super) fn set_local_selectable(&mut self, is_selectable: bool) {
        self.changed();
        self.is_local_selectable = is_selectable;
    }

    pub(super) fn set_live(&mut self, is_live: bool) {
        self.changed();
        self.is_live = is_live;
    }

    /// The member of this name, if it may be selected.
    pub(super) fn member(&self, name: &str) -> Option<&Arc<Member>> {
        let member = self.members.get(name)?;
        self.is_selectable(member).then_some(member)
    }

    /// The member of this name, whether it may be selected or not. If there is none, the name that
    /// differs from it only by case, white space or a dot at the end.
    pub(super) fn any(&self, name: &str) -> Result<&Member, Option<&Arc<str>>> {
        if let Some(member) = self.members.get(name) {
            return Ok(member);
        }
        let plain = |name: &str| {
            let name = name.trim();
            name.strip_suffix('.').unwrap_or(name).to_lowercase()
        };
        let wanted = plain(name);
        let mut names = self.members.keys();
        Err(names.find(|known| plain(known) == wanted))
    }

    /// All members, whether they may be selected or not.
    pub(super) fn all(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(|member| &**member)
    }

    /// The member whose endpoint this is.
    pub(super) fn member_at(&self, is_it: impl Fn(&Member) -> bool) -> Option<&Arc<Member>> {
        let mut members = self.members.values();
        members.find(|member| is_it(member) && self.is_selectable(member))
    }

    /// All that may be selected. Copied once after a change.
    pub(super) fn snapshot(&mut self) -> RosterSnapshot {
        let members = self.selectable.take().unwrap_or_else(|| {
            let members = self.members.values();
            members
                .filter(|one| self.is_selectable(one))
                .cloned()
                .collect()
        });
        self.selectable = Some(Arc::clone(&members));
        RosterSnapshot {
            members,
            is_live: self.is_live,
            generation: self.generation,
        }
    }

    const fn is_selectable(&self, member: &Member) -> bool {
        member.serves && (self.is_local_selectable || !member.is_local)
    }

    fn changed(&mut self) {
        self.generation += 1;
        self.selectable = None;
    }
}
