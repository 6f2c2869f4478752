//! Groups: the members that match one filter, in tiers, each with its balancer.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::{Mutex, MutexGuard};
use rpcnet_balance::{Balancer, PickContext, View, health::Gate};

use super::{health::Care, roster::RosterSnapshot, worker::Member};
use crate::{Filter, NodeState};

/// The members that match one filter, ready to be picked from. Never changes.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) filter: Filter,
    /// The alive ones and, in case of need, those that are suspect or out of reach.
    pub(super) tiers: [Arc<Tier>; 2],
    /// How many match and cannot be picked, because they have failed or are leaving.
    pub(super) unreachable: usize,
    /// `false` for the one that only holds the place of the first.
    pub(super) is_built: bool,
    pub(super) slot: Arc<Slot>,
}

/// What the groups of one filter have in common, one after the other.
#[derive(Debug)]
pub(super) struct Slot {
    /// Something has changed that the latest group does not have, nor the one being built.
    is_stale: AtomicBool,
    /// A caller builds the next group. Set before that caller takes `is_stale`, cleared once the
    /// group is in its place.
    is_building: AtomicBool,
    /// Whether it was used since room was last made.
    is_used: AtomicBool,
    /// Held by the caller that builds the next group.
    build: Mutex<()>,
}

/// The right to build the next group of a filter. Dropping it before [`finish`](Self::finish), as
/// when the balancer panics, leaves what was to be built to the next caller.
pub(super) struct Building<'a> {
    slot: &'a Slot,
    /// The changes that the group being built has were taken, and it is not in its place yet.
    is_unfinished: bool,
    _lock: MutexGuard<'a, ()>,
}

impl Slot {
    /// A change concerns its filter. To be called after the roster has the change.
    pub(super) fn note_change(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    pub(super) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Acquire)
    }

    /// Whether the group in its place has every change that is known by now. To be called before
    /// that group is loaded.
    pub(super) fn is_current(&self) -> bool {
        // In this order: a thread that reads that the changes were taken reads that a caller
        // builds.
        !self.is_stale() && !self.is_building.load(Ordering::Acquire)
    }

    /// Waits while another caller builds.
    pub(super) fn begin_build(&self) -> Building<'_> {
        Building::new(self, self.build.lock())
    }

    /// `None` while another caller builds.
    pub(super) fn try_begin_build(&self) -> Option<Building<'_>> {
        Some(Building::new(self, self.build.try_lock()?))
    }

    /// Notes that it is in use; writes only when that is news, to leave the cache line alone.
    pub(super) fn touch(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the last time.
    pub(super) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }
}

impl<'a> Building<'a> {
    const fn new(slot: &'a Slot, lock: MutexGuard<'a, ()>) -> Self {
        Self {
            slot,
            is_unfinished: false,
            _lock: lock,
        }
    }

    /// Whether it is the right to build this group's successor.
    pub(super) fn is_of(&self, group: &Group) -> bool {
        std::ptr::eq(&*group.slot, self.slot)
    }

    /// Whether there is something to build. To be called before the roster is read: what changes
    /// later is noted anew.
    pub(super) fn take_stale(&mut self) -> bool {
        self.slot.is_building.store(true, Ordering::Release);
        self.is_unfinished = self.slot.is_stale.swap(false, Ordering::AcqRel);
        self.is_unfinished
    }

    /// The group is in its place.
    pub(super) fn finish(mut self) {
        self.is_unfinished = false;
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        if self.is_unfinished {
            self.slot.note_change();
        }
        self.slot.is_building.store(false, Ordering::Release);
    }
}

/// Equally good choices.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) view: View,
    /// The member behind each endpoint of the view.
    pub(super) members: Box<[Arc<Member>]>,
    /// Made of the one before when it is needed: a tier that nothing is picked from costs no table.
    balancer: OnceLock<Arc<dyn Balancer>>,
    before: Arc<dyn Balancer>,
    /// Who watches how the calls go.
    pub(super) care: Arc<Care>,
    pub(super) gate: Gate,
    filter: Arc<str>,
}

impl Group {
    /// The place of the first group of a filter.
    pub(super) fn unbuilt(
        filter: Filter,
        text: &Arc<str>,
        balancer: &Arc<dyn Balancer>,
        care: &Arc<Care>,
    ) -> Self {
        let tier = || Arc::new(Tier::empty(balancer, care, text));
        Self {
            filter,
            tiers: [tier(), tier()],
            unreachable: 0,
            is_built: false,
            slot: Arc::new(Slot {
                is_stale: AtomicBool::new(true),
                is_building: AtomicBool::new(false),
                is_used: AtomicBool::new(true),
                build: Mutex::new(()),
            }),
        }
    }

    /// The group of those who match now. Tiers in which nothing has changed stay, and balancers go
    /// on with their state.
    pub(super) fn successor(&self, snapshot: &RosterSnapshot) -> Self {
        let next = self.sorted(snapshot, Tier::successor);
        // Ready before the first pick.
        if !next.tiers[0].members.is_empty() {
            next.tiers[0].balancer();
        }
        next
    }

    /// The group of those who match now, for callers that pick nothing from it while another caller
    /// builds the successor: it runs no code of the balancer and has the tables of before.
    pub(super) fn preview(&self, snapshot: &RosterSnapshot) -> Self {
        self.sorted(snapshot, Tier::preview)
    }

    fn sorted(&self, snapshot: &RosterSnapshot, next: NextTier) -> Self {
        let (mut alive, mut suspect, mut unreachable) = (Vec::new(), Vec::new(), 0);
        let heeds_suspicion = self.tiers[0].care.heeds_suspicion;
        // Once the source has ended, no worker is selected.
        let members = snapshot.members.iter().filter(|_| snapshot.is_live);
        for member in members.filter(|member| self.filter.matches(&member.node.tags)) {
            match member.node.state {
                NodeState::Alive => alive.push(Arc::clone(member)),
                NodeState::Suspect if heeds_suspicion => suspect.push(Arc::clone(member)),
                NodeState::Suspect => alive.push(Arc::clone(member)),
                // Whether suspicion is heeded or not: it is none.
                NodeState::Unreachable => suspect.push(Arc::clone(member)),
                NodeState::Leaving | NodeState::Failed => unreachable += 1,
                // Of its own will, and not to be waited for.
                NodeState::Left => {}
            }
        }
        let tiers = [
            next(&self.tiers[0], alive, snapshot.generation),
            next(&self.tiers[1], suspect, snapshot.generation),
        ];
        Self {
            filter: self.filter.clone(),
            tiers,
            unreachable,
            is_built: true,
            slot: Arc::clone(&self.slot),
        }
    }

    pub(super) fn reachable(&self) -> usize {
        self.tiers.iter().map(|tier| tier.members.len()).sum()
    }
}

impl Tier {
    fn empty(balancer: &Arc<dyn Balancer>, care: &Arc<Care>, filter: &Arc<str>) -> Self {
        Self {
            view: View::new([], 0),
            members: Box::default(),
            balancer: OnceLock::new(),
            before: Arc::clone(balancer),
            care: Arc::clone(care),
            gate: Gate::new(),
            filter: Arc::clone(filter),
        }
    }

    /// The tier with these members in place of this one, whose balancer is made when it is needed.
    fn successor(self: &Arc<Self>, members: Vec<Arc<Member>>, generation: u64) -> Arc<Self> {
        self.with_members(members, generation, false)
    }

    /// The tier with these members in place of this one, with the balancer of before.
    fn preview(self: &Arc<Self>, members: Vec<Arc<Member>>, generation: u64) -> Arc<Self> {
        self.with_members(members, generation, true)
    }

    fn with_members(
        self: &Arc<Self>,
        members: Vec<Arc<Member>>,
        generation: u64,
        keeps_balancer: bool,
    ) -> Arc<Self> {
        let are_same = |same: fn(&Member, &Member) -> bool| {
            let mut pairs = members.iter().zip(&self.members);
            members.len() == self.members.len() && pairs.all(|(now, then)| same(now, then))
        };
        if are_same(|now, then| std::ptr::eq(now, then)) {
            return Arc::clone(self);
        }
        // What balancers and their tables go by; a table is that of its generation.
        let is_alike = are_same(Member::is_alike);
        let generation = if is_alike {
            self.view.generation()
        } else {
            generation
        };
        let endpoints = members.iter().map(|one| Arc::clone(&one.endpoint));
        let tags = members.iter().map(|one| Arc::clone(&one.node) as Arc<_>);
        let (balancer, before) = match (is_alike, self.balancer.get()) {
            (true, balancer) => (balancer.cloned(), &self.before),
            (false, balancer) => (None, balancer.unwrap_or(&self.before)),
        };
        let balancer = balancer.or_else(|| keeps_balancer.then(|| Arc::clone(before)));
        Arc::new(Self {
            view: View::new(endpoints, generation).with_tags(tags),
            members: members.into(),
            balancer: balancer.map_or_else(OnceLock::new, OnceLock::from),
            before: Arc::clone(before),
            care: Arc::clone(&self.care),
            gate: Gate::following(&self.gate),
            filter: Arc::clone(&self.filter),
        })
    }

    /// The balancer, made for the view when it is first asked for.
    pub(super) fn balancer(&self) -> &Arc<dyn Balancer> {
        self.balancer.get_or_init(|| {
            let rebuilt = self.before.rebuild(&self.view);
            rebuilt.unwrap_or_else(|| Arc::clone(&self.before))
        })
    }

    /// Heeds what is known of the well-being of the endpoints. `true` when one of them may be probed.
    pub(super) fn heed<'a>(&self, cx: &PickContext<'a>) -> (PickContext<'a>, bool) {
        let verdict = self.gate.check(&self.care.outliers, &self.view, cx.now());
        if let Some(action) = verdict.action {
            self.care.tell_of_group(action, &self.filter);
        }
        let heeded = cx.heeded().and(verdict.heeded);
        (cx.with_heeded(heeded), verdict.is_probe_due)
    }
}

/// How a tier is made of the one before.
type NextTier = fn(&Arc<Tier>, Vec<Arc<Member>>, u64) -> Arc<Tier>;
