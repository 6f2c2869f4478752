//! Health tier: equally good workers of a group, and the balancer that picks among them.

use std::sync::{Arc, OnceLock};

use rpcnet_balance::{Balancer, PickContext, View, health::GroupHealth};

use super::{health_tracker::HealthTracker, worker_entry::WorkerEntry};

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

impl HealthTier {
    pub(super) fn empty(
        balancer: &Arc<dyn Balancer>,
        health: &Arc<HealthTracker>,
        filter: &Arc<str>,
    ) -> Self {
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
    pub(super) fn successor(
        self: &Arc<Self>,
        entries: Vec<Arc<WorkerEntry>>,
        generation: u64,
    ) -> Arc<Self> {
        self.with_entries(entries, generation, false)
    }

    /// The tier with these workers in place of this one, with the previous balancer.
    pub(super) fn preview(
        self: &Arc<Self>,
        entries: Vec<Arc<WorkerEntry>>,
        generation: u64,
    ) -> Arc<Self> {
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
