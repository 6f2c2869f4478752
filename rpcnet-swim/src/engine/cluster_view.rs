//! Cluster view: the expected and the reachable members, for split-brain policies.

use std::cmp::Ordering;

use super::{DetectorHooks, Engine};
use crate::event::{Event, MemberState};
use crate::id::NodeId;
use crate::split_brain::{
    ClusterView, Decision, DenyReason, ExpectedMember, SplitBrainPolicy, ViewMember,
};
use crate::time::Time;

impl<D: DetectorHooks> Engine<D> {
    /// Whether this node may serve, by what it sees now. A node that has not joined or has left may
    /// not. Takes time in proportion to the number of members.
    pub fn may_serve(&self, policy: &SplitBrainPolicy, now: Time) -> Decision {
        if !self.is_joined() {
            let reason = DenyReason::NotJoined;
            return Decision::Deny { reason };
        }
        let now = self.running_time_at(now);
        policy.evaluate(
            self.expected_members(now),
            now.since(self.partition.membership_changed_at),
        )
    }

    /// Expected members, in the order of their names.
    ///
    /// These are the live ones, this node included, and the failed ones that may be on another
    /// side: those that failed within the last 60 probe intervals or, while a partition is
    /// suspected or reported, since 60 probe intervals before its first sign. They count until they
    /// recover, leave, a newer member has their address, or an operator removes them
    /// ([`Engine::force_leave`]); during a partition they are not forgotten, whatever
    /// [`with_forget_after`](crate::ClusterConfig::with_forget_after) says. So one crash at a time
    /// shrinks the cluster after a minute, while a partition keeps its members. Members that have
    /// left do not count.
    ///
    /// Alive and suspect members are reachable; failed ones are not. When too many consecutive
    /// probe rounds go unanswered, a reach check asks a sample of the live members, all of them in
    /// a small cluster. While it says that so many do not answer that there is a partition, those
    /// that did not answer are not reachable; of those that were not asked, at most the share that
    /// the sample leaves possible is reachable, chosen by key. An isolated node reaches itself
    /// alone.
    pub fn view(&self, now: Time) -> ClusterView {
        let now = self.running_time_at(now);
        let view_member = |member: ExpectedMember<'_>| ViewMember {
            id: NodeId::new(member.name.clone(), member.epoch),
            tags: member.tags.clone(),
            is_reachable: member.is_reachable,
        };
        let mut members: Vec<ViewMember> = self.expected_members(now).map(view_member).collect();
        members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        ClusterView {
            members,
            stable_for: now.since(self.partition.membership_changed_at),
        }
    }

    /// Whether the reachable members are the majority that [`SplitBrainPolicy::keep_majority`] lets
    /// serve.
    pub(super) fn has_majority(&self, now: Time, reachable: usize, expected: usize) -> bool {
        match (2 * reachable).cmp(&expected) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => {
                let smallest = self.expected_members(now).min_by_key(|member| member.name);
                smallest.is_some_and(|member| member.is_reachable)
            }
        }
    }

    /// Time from which on failed members count as missing rather than gone.
    pub(super) fn missing_window_start(&self, now: Time) -> Time {
        let window = PARTITION_WINDOW_ROUNDS * self.config.probe_interval;
        self.partition.window_start(now, window)
    }

    pub(super) fn record_membership_change(&mut self, event: &Event) {
        if matches!(
            event,
            Event::NodeJoined(_)
                | Event::NodeLeft(_)
                | Event::NodeFailed(_)
                | Event::Isolated { .. }
                | Event::IsolationEnded
        ) {
            self.partition.membership_changed_at = self.clocks.running.last();
        }
    }

    fn expected_members(&self, now: Time) -> impl Iterator<Item = ExpectedMember<'_>> {
        let me = ExpectedMember {
            name: &self.local.name,
            epoch: self.local.epoch,
            tags: &self.local.tags,
            is_reachable: true,
        };
        let isolated = self.is_isolated(now);
        let missing = self.table.missing_entries(self.missing_window_start(now));
        let live = self.table.iter().map(|(_, entry)| entry);
        let others = live.filter(|entry| entry.state.is_live()).chain(missing);
        std::iter::once(me).chain(others.map(move |entry| ExpectedMember {
            name: &entry.name,
            epoch: entry.epoch,
            tags: &entry.tags,
            is_reachable: !isolated
                && entry.state != MemberState::Failed
                && self.reach.reaches(entry.key),
        }))
    }

    /// Running time of a question, which changes nothing.
    pub(super) fn running_time_at(&self, now: Time) -> Time {
        self.clocks.running.at(now)
    }
}

/// Failures within so many probe intervals of each other may be one partition.
const PARTITION_WINDOW_ROUNDS: u32 = 60;
