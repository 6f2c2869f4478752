//! The rule of a split: a while after the network was divided, at most one side serves.

use std::time::Duration;

use super::Cluster;
use super::check::Violation;
use crate::event::PartitionStatus;
use crate::policy::Policy;
use crate::time::Time;

/// Watches the sides of a divided network.
#[derive(Debug, Default)]
pub(super) struct Sides {
    /// From then on after a division at most one side may serve; none if nobody looks.
    within: Option<Duration>,
    next_look: Time,
    /// The groups at the last look, by node.
    groups: Vec<Option<u32>>,
    divided_at: Time,
    /// Nodes that saw the whole cluster when it was divided, and their epochs. Empty if some did
    /// not: then the division is not judged.
    lives: Vec<(usize, u64)>,
}

impl Cluster {
    /// From now on it breaks a rule if nodes on two sides of a divided network
    /// ([`Network::isolate`](super::Network::isolate)) may both serve for longer than `within`
    /// after the division, by keep majority or by keep oldest. Only a division of a cluster in which
    /// all saw all is judged, and only nodes that run since before it. Not for runs in which new
    /// names join or processes stop meanwhile: what these do not know, no policy can go by.
    pub fn forbid_both_sides(&mut self, within: Duration) {
        self.sides.within = Some(within);
    }

    /// Looks at the sides when it is time to.
    pub(super) fn look_at_sides(&mut self) {
        let Some(within) = self.sides.within else {
            return;
        };
        if self.now < self.sides.next_look {
            return;
        }
        self.sides.next_look = self.now + LOOK_EVERY;
        let groups: Vec<_> = (0..self.nodes.len())
            .map(|node| self.network.group(node))
            .collect();
        if groups != self.sides.groups {
            self.sides.lives = self.whole_views();
            self.sides.groups = groups;
            self.sides.divided_at = self.now;
        }
        let after = self.now.since(self.sides.divided_at);
        if after < within || self.sides.lives.is_empty() {
            return;
        }
        for policy in [Policy::keep_majority(), Policy::keep_oldest_even_alone()] {
            let mut serving: Option<(usize, Option<u32>)> = None;
            for (node, epoch) in self.sides.lives.clone() {
                let group = self.sides.groups[node];
                let is_news = serving.is_none_or(|(_, other)| other != group);
                if !is_news || self.nodes[node].epoch != epoch {
                    continue;
                }
                let verdict = self.may_serve(node, &policy);
                if !verdict.is_some_and(|verdict| verdict.is_serve()) {
                    continue;
                }
                if let Some((other, _)) = serving {
                    let (other, policy) = (self.name(other).to_owned(), format!("{policy:?}"));
                    let violation = Violation::BothSidesServe {
                        other,
                        policy,
                        after,
                    };
                    return self.violate(node, violation);
                }
                serving = Some((node, group));
            }
        }
    }

    /// The nodes that are up, with their epochs, if each of them sees as many members as there
    /// are, and no partition.
    fn whole_views(&self) -> Vec<(usize, u64)> {
        let up = (0..self.nodes.len()).filter(|node| self.is_up(*node));
        let lives: Vec<_> = up.map(|node| (node, self.nodes[node].epoch)).collect();
        let is_whole = |(node, _): &(usize, u64)| {
            self.engine(*node).is_some_and(|engine| {
                let view = engine.view(self.now);
                let reachable = view.voters.iter().filter(|voter| voter.is_reachable);
                engine.is_joined()
                    && engine.live_count() == lives.len()
                    && reachable.count() == view.voters.len()
                    && engine.partition_status() == PartitionStatus::Healthy
            })
        };
        match lives.iter().all(is_whole) {
            true => lives,
            false => Vec::new(),
        }
    }
}

/// How often the sides are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
