//! Check of split-brain policies: soon after a division of the network one side serves at most.

use std::time::Duration;

use rpcnet_swim::unstable::DetectorHooks;
use rpcnet_swim::{Decision, PartitionStatus, SplitBrainPolicy};

use super::Cluster;
use super::check::Violation;

impl<D: DetectorHooks> Cluster<D> {
    /// Whether a node may serve, as a driver would ask it; `None` if it is down.
    pub fn may_serve(&mut self, node: usize, policy: &SplitBrainPolicy) -> Option<Decision> {
        let engine = self.nodes[node].engine.as_deref_mut()?;
        engine.watch_policy(policy);
        Some(engine.may_serve(policy, self.now))
    }

    /// Makes it a violation, from now on, if nodes on two sides of a divided network
    /// ([`Network::isolate`](super::Network::isolate)) may both serve for longer than `within`
    /// after the division, by keep majority or by keep oldest. Only a division of a cluster in
    /// which all nodes saw all others is judged, and only nodes that have run since before it. Not
    /// for runs in which new names join or processes stop meanwhile: no policy can decide about
    /// members that it does not know.
    pub fn forbid_split_brain(&mut self, within: Duration) {
        self.split_brain.grace = Some(within);
    }

    /// Checks the sides when the interval is over.
    pub(super) fn check_split_brain(&mut self) {
        let Some(within) = self.split_brain.grace else {
            return;
        };
        if self.now < self.split_brain.next_check {
            return;
        }
        self.split_brain.next_check = self.now + SPLIT_BRAIN_CHECK_INTERVAL;
        let groups: Vec<_> = (0..self.nodes.len())
            .map(|node| self.network.group(node))
            .collect();
        if groups != self.split_brain.groups {
            self.split_brain.participants = self.nodes_with_full_views();
            self.split_brain.groups = groups;
            self.split_brain.divided_at = self.now;
        }
        let after = self.now.since(self.split_brain.divided_at);
        if after < within || self.split_brain.participants.is_empty() {
            return;
        }
        for policy in [
            SplitBrainPolicy::keep_majority(),
            SplitBrainPolicy::keep_oldest_even_alone(),
        ] {
            let mut serving: Option<(usize, Option<u32>)> = None;
            for (node, epoch) in self.split_brain.participants.clone() {
                let group = self.split_brain.groups[node];
                let is_news = serving.is_none_or(|(_, other)| other != group);
                if !is_news || self.nodes[node].epoch != epoch {
                    continue;
                }
                let decision = self.may_serve(node, &policy);
                if !decision.is_some_and(|decision| decision.is_allowed()) {
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

    /// The nodes that are up, with their epochs, if each of them sees as many members as there are,
    /// and no partition.
    fn nodes_with_full_views(&self) -> Vec<(usize, u64)> {
        let up = (0..self.nodes.len()).filter(|node| self.is_up(*node));
        let participants: Vec<_> = up.map(|node| (node, self.nodes[node].epoch)).collect();
        let is_whole = |(node, _): &(usize, u64)| {
            self.engine(*node).is_some_and(|engine| {
                let view = engine.view(self.now);
                let reachable = view.members.iter().filter(|member| member.is_reachable);
                engine.is_joined()
                    && engine.live_count() == participants.len()
                    && reachable.count() == view.members.len()
                    && engine.partition_status() == PartitionStatus::Healthy
            })
        };
        match participants.iter().all(is_whole) {
            true => participants,
            false => Vec::new(),
        }
    }
}

/// Interval at which the sides are checked.
const SPLIT_BRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(250);
