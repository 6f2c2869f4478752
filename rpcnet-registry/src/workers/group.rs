//! Groups: the workers that match one filter, in health tiers, each tier with its balancer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::{Mutex, MutexGuard};
use rpcnet_balance::Balancer;

use super::{
    health_tier::HealthTier, health_tracker::HealthTracker, shared_tier::SharedTier,
    worker_entry::WorkerEntry, worker_table::WorkerSnapshot,
};
use crate::{Filter, NodeState};

/// Immutable group of the workers that match one filter, ready to be picked from.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) filter: Filter,
    /// The alive workers and, as a fallback, those that are suspect or unreachable.
    pub(super) tiers: [Arc<SharedTier>; 2],
    /// The number of workers that match and cannot be picked, because they have failed or
    /// drain.
    pub(super) unselectable_count: usize,
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

impl Group {
    /// The placeholder of the first group of a filter.
    pub(super) fn placeholder(
        filter: Filter,
        text: &Arc<str>,
        balancer: &Arc<dyn Balancer>,
        health: &Arc<HealthTracker>,
    ) -> Self {
        let tier = || {
            let empty = HealthTier::empty(balancer, health, text);
            Arc::new(SharedTier::new(Arc::new(empty)))
        };
        Self {
            filter,
            tiers: [tier(), tier()],
            unselectable_count: 0,
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
        let (mut alive, mut suspect, mut unselectable) = (Vec::new(), Vec::new(), 0);
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
                NodeState::Draining | NodeState::Failed => unselectable += 1,
                // It left by its own announcement, and is not expected back.
                NodeState::Left => {}
            }
        }
        let next = |before: &Arc<SharedTier>, entries| {
            let tier = next(before.tier(), entries, snapshot.generation);
            if Arc::ptr_eq(&tier, before.tier()) {
                return Arc::clone(before);
            }
            Arc::new(SharedTier::new(tier))
        };
        let tiers = [next(&self.tiers[0], alive), next(&self.tiers[1], suspect)];
        Self {
            filter: self.filter.clone(),
            tiers,
            unselectable_count: unselectable,
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

/// Function that makes a tier from the previous one.
type NextTierFn = fn(&Arc<HealthTier>, Vec<Arc<WorkerEntry>>, u64) -> Arc<HealthTier>;
