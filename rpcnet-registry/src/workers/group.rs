//! Groups: the workers that match one filter, in health tiers, each tier with its balancer.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::{Mutex, MutexGuard};
use rpcnet_balance::{Balancer, PickContext, View, health::GroupHealth};

use super::{
    health_tracker::HealthTracker, worker_entry::WorkerEntry, worker_table::WorkerSnapshot,
};
use crate::{Filter, NodeState};

/// Immutable group of the workers that match one filter, ready to be picked from.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) filter: Filter,
    /// The alive workers and, as a fallback, those that are suspect or unreachable.
    pub(super) tiers: [Arc<HealthTier>; 2],
    /// The number of workers that match and cannot be picked, because they have failed or
    /// drain.
    pub(super) unreachable_count: usize,
    /// `false` for the placeholder of the first group.
    pub(super) is_built: bool,
    pub(super) build_state: Arc<BuildState>,
    /// Number of this group among the successive ones.
    generation: u64,
}

/// State of the rebuilds of a filter, shared by its successive groups.
#[derive(Debug)]
pub(super) struct BuildState {
    /// Whether a change is missing in the latest group and in the one being built.
    is_stale: AtomicBool,
    /// Whether a caller builds the next group. Set before that caller takes `is_stale`, cleared
    /// once the group is published.
    is_building: AtomicBool,
    /// Whether it was used since the last eviction.
    is_used: AtomicBool,
    /// Generation of the group that was published last.
    generation: AtomicU64,
    /// Lock of the caller that builds the next group.
    build: Mutex<()>,
}

/// Right to build the next group of a filter. Dropping it before [`finish`](Self::finish), as when
/// the balancer panics, leaves the build to the next caller.
pub(super) struct BuildGuard<'a> {
    state: &'a BuildState,
    /// Whether the changes were claimed, and the group that includes them is not published yet.
    is_unfinished: bool,
    _lock: MutexGuard<'a, ()>,
}

impl BuildState {
    /// Records a change that affects the filter. To be called after the table has the change.
    pub(super) fn mark_stale(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    pub(super) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Acquire)
    }

    /// Records that a group is published.
    pub(super) fn on_published(&self, group: &Group) {
        self.generation.store(group.generation, Ordering::Release);
    }

    /// Whether the published group includes every change that is known by now. To be called before
    /// that group is loaded.
    pub(super) fn is_up_to_date(&self) -> bool {
        // In this order: a thread that reads that the changes were claimed reads that a caller
        // builds.
        !self.is_stale() && !self.is_building.load(Ordering::Acquire)
    }

    /// Waits while another caller builds.
    pub(super) fn lock_build(&self) -> BuildGuard<'_> {
        BuildGuard::new(self, self.build.lock())
    }

    /// `None` while another caller builds.
    pub(super) fn try_lock_build(&self) -> Option<BuildGuard<'_>> {
        Some(BuildGuard::new(self, self.build.try_lock()?))
    }

    /// Records a use; writes only when the flag changes, to leave the cache line alone.
    pub(super) fn mark_used(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the last time.
    pub(super) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }
}

impl<'a> BuildGuard<'a> {
    const fn new(state: &'a BuildState, lock: MutexGuard<'a, ()>) -> Self {
        Self {
            state,
            is_unfinished: false,
            _lock: lock,
        }
    }

    /// Whether it is the right to build this group's successor.
    pub(super) fn is_of(&self, group: &Group) -> bool {
        std::ptr::eq(&*group.build_state, self.state)
    }

    /// Claims the changes so far; whether there is something to build. To be called before the
    /// table is read: a later change is recorded again.
    pub(super) fn claim_changes(&mut self) -> bool {
        self.state.is_building.store(true, Ordering::Release);
        self.is_unfinished = self.state.is_stale.swap(false, Ordering::AcqRel);
        self.is_unfinished
    }

    /// Records that the group is published.
    pub(super) fn finish(mut self) {
        self.is_unfinished = false;
    }
}

impl Drop for BuildGuard<'_> {
    fn drop(&mut self) {
        if self.is_unfinished {
            self.state.mark_stale();
        }
        self.state.is_building.store(false, Ordering::Release);
    }
}

/// Health tier: equally good workers of a group.
#[derive(Debug)]
pub(super) struct HealthTier {
    pub(super) view: View,
    /// The worker of each endpoint of the view.
    pub(super) entries: Box<[Arc<WorkerEntry>]>,
    /// Built from the previous one when it is needed: a tier that is never picked from costs no
    /// table.
    balancer: OnceLock<Arc<dyn Balancer>>,
    previous_balancer: Arc<dyn Balancer>,
    /// The health tracker of the registry.
    pub(super) health: Arc<HealthTracker>,
    pub(super) group_health: GroupHealth,
    filter: Arc<str>,
}

impl Group {
    /// The placeholder of the first group of a filter.
    pub(super) fn placeholder(
        filter: Filter,
        text: &Arc<str>,
        balancer: &Arc<dyn Balancer>,
        health: &Arc<HealthTracker>,
    ) -> Self {
        let tier = || Arc::new(HealthTier::empty(balancer, health, text));
        Self {
            filter,
            tiers: [tier(), tier()],
            unreachable_count: 0,
            is_built: false,
            build_state: Arc::new(BuildState {
                is_stale: AtomicBool::new(true),
                is_building: AtomicBool::new(false),
                is_used: AtomicBool::new(true),
                generation: AtomicU64::new(0),
                build: Mutex::new(()),
            }),
            generation: 0,
        }
    }

    /// The group of the workers that match now. Tiers without a change stay, and balancers keep
    /// their state.
    pub(super) fn successor(&self, snapshot: &WorkerSnapshot) -> Self {
        let next = self.partitioned(snapshot, HealthTier::successor);
        // Ready before the first pick.
        if !next.tiers[0].entries.is_empty() {
            next.tiers[0].balancer();
        }
        next
    }

    /// The group of the workers that match now, for callers that list them while another caller
    /// builds the successor: it runs no code of the balancer and has the previous tables.
    pub(super) fn preview(&self, snapshot: &WorkerSnapshot) -> Self {
        self.partitioned(snapshot, HealthTier::preview)
    }

    fn partitioned(&self, snapshot: &WorkerSnapshot, next: NextTierFn) -> Self {
        let (mut alive, mut suspect, mut unreachable) = (Vec::new(), Vec::new(), 0);
        let respects_suspicion = self.tiers[0].health.respects_suspicion;
        // Once the source has ended, no worker is selected.
        let entries = snapshot.entries.iter().filter(|_| snapshot.is_live);
        for entry in entries.filter(|entry| self.filter.matches(&entry.node.tags)) {
            match entry.node.state {
                NodeState::Alive => alive.push(Arc::clone(entry)),
                NodeState::Suspect if respects_suspicion => suspect.push(Arc::clone(entry)),
                NodeState::Suspect => alive.push(Arc::clone(entry)),
                // Whether suspicion is respected or not: this is no suspicion.
                NodeState::Unreachable => suspect.push(Arc::clone(entry)),
                NodeState::Draining | NodeState::Failed => unreachable += 1,
                // It left by its own announcement, and is not expected back.
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
            unreachable_count: unreachable,
            is_built: true,
            build_state: Arc::clone(&self.build_state),
            generation: self.generation + 1,
        }
    }

    /// Whether it is the latest one, with every change that is known by now.
    #[inline]
    pub(super) fn is_latest(&self) -> bool {
        let state = &*self.build_state;
        !state.is_stale() && state.generation.load(Ordering::Acquire) == self.generation
    }

    pub(super) fn reachable(&self) -> usize {
        self.tiers.iter().map(|tier| tier.entries.len()).sum()
    }
}

impl HealthTier {
    fn empty(balancer: &Arc<dyn Balancer>, health: &Arc<HealthTracker>, filter: &Arc<str>) -> Self {
        Self {
            view: View::new([], 0),
            entries: Box::default(),
            balancer: OnceLock::new(),
            previous_balancer: Arc::clone(balancer),
            health: Arc::clone(health),
            group_health: GroupHealth::new(),
            filter: Arc::clone(filter),
        }
    }

    /// The tier with these workers in place of this one; its balancer is built when it is needed.
    fn successor(self: &Arc<Self>, entries: Vec<Arc<WorkerEntry>>, generation: u64) -> Arc<Self> {
        self.with_entries(entries, generation, false)
    }

    /// The tier with these workers in place of this one, with the previous balancer.
    fn preview(self: &Arc<Self>, entries: Vec<Arc<WorkerEntry>>, generation: u64) -> Arc<Self> {
        self.with_entries(entries, generation, true)
    }

    fn with_entries(
        self: &Arc<Self>,
        entries: Vec<Arc<WorkerEntry>>,
        generation: u64,
        keeps_balancer: bool,
    ) -> Arc<Self> {
        let are_same = |same: fn(&WorkerEntry, &WorkerEntry) -> bool| {
            let mut pairs = entries.iter().zip(&self.entries);
            entries.len() == self.entries.len() && pairs.all(|(now, then)| same(now, then))
        };
        if are_same(|now, then| std::ptr::eq(now, then)) {
            return Arc::clone(self);
        }
        // The inputs of balancers and their tables; a table belongs to its generation.
        let is_equivalent = are_same(WorkerEntry::is_equivalent);
        let generation = if is_equivalent {
            self.view.generation()
        } else {
            generation
        };
        let endpoints = entries.iter().map(|one| Arc::clone(&one.endpoint));
        let tags = entries.iter().map(|one| Arc::clone(&one.node) as Arc<_>);
        let (balancer, before) = match (is_equivalent, self.balancer.get()) {
            (true, balancer) => (balancer.cloned(), &self.previous_balancer),
            (false, balancer) => (None, balancer.unwrap_or(&self.previous_balancer)),
        };
        let balancer = balancer.or_else(|| keeps_balancer.then(|| Arc::clone(before)));
        Arc::new(Self {
            view: View::new(endpoints, generation).with_tags(tags),
            entries: entries.into(),
            balancer: balancer.map_or_else(OnceLock::new, OnceLock::from),
            previous_balancer: Arc::clone(before),
            health: Arc::clone(&self.health),
            group_health: GroupHealth::following(&self.group_health),
            filter: Arc::clone(&self.filter),
        })
    }

    /// The balancer, built for the view when it is first used.
    pub(super) fn balancer(&self) -> &Arc<dyn Balancer> {
        self.balancer.get_or_init(|| {
            let rebuilt = self.previous_balancer.rebuild(&self.view);
            rebuilt.unwrap_or_else(|| Arc::clone(&self.previous_balancer))
        })
    }

    /// Applies the health of the endpoints to a pick. `true` when one of them may be probed.
    pub(super) fn apply_health<'a>(&self, cx: &PickContext<'a>) -> (PickContext<'a>, bool) {
        let state = self
            .group_health
            .check(&self.health.detector, &self.view, cx.now());
        if let Some(change) = state.change {
            self.health.emit_for_group(change, &self.filter);
        }
        let respected = cx.respected_flags().and(state.respected_flags);
        (cx.with_respected_flags(respected), state.is_probe_due)
    }
}

/// Function that makes a tier from the previous one.
type NextTierFn = fn(&Arc<HealthTier>, Vec<Arc<WorkerEntry>>, u64) -> Arc<HealthTier>;
