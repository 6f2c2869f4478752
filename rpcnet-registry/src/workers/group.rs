//! Those who match one filter.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rpcnet_balance::{Balancer, PickContext, View, health::Gate};

use super::{health::Care, worker::Member};
use crate::{Filter, NodeState};

/// Those who match one filter, ready to be picked from. Never changes.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) filter: Filter,
    /// The alive ones and, in case of need, those that are suspect or out of reach.
    pub(super) tiers: [Arc<Tier>; 2],
    /// How many match and cannot be picked, because they have failed or are leaving.
    pub(super) unreachable: usize,
    /// Whether it was used since room was last made.
    pub(super) used: AtomicBool,
}

/// Equally good choices.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) view: View,
    /// The member behind each endpoint of the view.
    pub(super) members: Box<[Arc<Member>]>,
    pub(super) balancer: Arc<dyn Balancer>,
    /// Who watches how the calls go.
    pub(super) care: Arc<Care>,
    pub(super) gate: Gate,
    filter: Box<str>,
}

impl Group {
    /// Sorts those who match; the balancers of the group `before` go on with their state.
    pub(super) fn new<'a>(
        filter: Filter,
        text: &str,
        members: impl Iterator<Item = &'a Arc<Member>>,
        generation: u64,
        before: Option<&Arc<Self>>,
        balancer: &Arc<dyn Balancer>,
        care: &Arc<Care>,
    ) -> Self {
        let (mut alive, mut suspect, mut unreachable) = (Vec::new(), Vec::new(), 0);
        for member in members.filter(|member| filter.matches(&member.node.tags)) {
            match member.node.state {
                NodeState::Alive => alive.push(Arc::clone(member)),
                NodeState::Suspect if care.heeds_suspicion => suspect.push(Arc::clone(member)),
                NodeState::Suspect => alive.push(Arc::clone(member)),
                // Whether suspicion is heeded or not: it is none.
                NodeState::Unreachable => suspect.push(Arc::clone(member)),
                NodeState::Leaving | NodeState::Failed => unreachable += 1,
                // Of its own will, and not to be waited for.
                NodeState::Left => {}
            }
        }
        let tier = |index: usize, members: Vec<Arc<Member>>| {
            let before = before.map(|group| &*group.tiers[index]);
            Arc::new(Tier::new(members, generation, before, balancer, care, text))
        };
        Self {
            tiers: [tier(0, alive), tier(1, suspect)],
            unreachable,
            used: AtomicBool::new(before.is_none_or(|group| group.used.load(Ordering::Relaxed))),
            filter,
        }
    }

    pub(super) fn reachable(&self) -> usize {
        self.tiers.iter().map(|tier| tier.members.len()).sum()
    }

    /// Notes that it is in use; writes only when that is news, to leave the cache line alone.
    pub(super) fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl Tier {
    fn new(
        members: Vec<Arc<Member>>,
        generation: u64,
        before: Option<&Self>,
        balancer: &Arc<dyn Balancer>,
        care: &Arc<Care>,
        filter: &str,
    ) -> Self {
        let endpoints = members.iter().map(|one| Arc::clone(&one.endpoint));
        let tags = members.iter().map(|one| Arc::clone(&one.node) as Arc<_>);
        let view = View::new(endpoints, generation).with_tags(tags);
        let balancer = before.map_or(balancer, |tier| &tier.balancer);
        let balancer = balancer
            .rebuild(&view)
            .unwrap_or_else(|| Arc::clone(balancer));
        Self {
            view,
            members: members.into(),
            balancer,
            care: Arc::clone(care),
            gate: before.map_or_else(Gate::new, |tier| Gate::following(&tier.gate)),
            filter: filter.into(),
        }
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
