//! Log of transitions: which ones a cluster keeps, and under which circumstances they happened.

use rpcnet_swim::unstable::DetectorHooks;
use rpcnet_swim::{Event, Member, MemberState};

use super::Cluster;
use super::transition::{Transition, TransitionLog};

impl<D: DetectorHooks> Cluster<D> {
    /// Which transitions are kept from now on. Default [`TransitionLog::Failures`].
    pub fn log_transitions(&mut self, log: TransitionLog) {
        self.transition_log = log;
    }

    /// The transitions that were kept, in their order.
    ///
    /// A false positive in the sense of Lifeguard (section V), a failure of a healthy member
    /// through the faults of others, is one to [`MemberState::Failed`] about a subject that is not
    /// among those that a scenario has made faulty, or, to count everything that was healthy at
    /// that moment, one with [`subject_healthy`](Transition::subject_healthy).
    #[must_use]
    pub fn transitions(&self) -> &[Transition] {
        &self.transitions
    }

    /// Takes the transitions out, so that a long run can count and forget.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.transitions)
    }

    pub(super) fn record_transition(&mut self, observer: usize, event: &Event) {
        let (member, to) = match event {
            Event::NodeJoined(member) | Event::NodeRecovered(member) => {
                (member, MemberState::Alive)
            }
            Event::NodeSuspect { member, .. } => (member, MemberState::Suspect),
            Event::NodeFailed(member) => (member, MemberState::Failed),
            Event::NodeLeft(member) => (member, MemberState::Left),
            _ => return,
        };
        let Some(subject) = self.node_at(member.addr) else {
            return;
        };
        let pair = (observer as u32, subject as u32);
        let is_kept = match (self.transition_log, to) {
            (TransitionLog::Nothing, _) => false,
            (TransitionLog::All, _) => true,
            (TransitionLog::Failures, MemberState::Failed | MemberState::Left) => {
                self.gone_pairs.insert(pair);
                true
            }
            (TransitionLog::Failures, MemberState::Alive) => self.gone_pairs.remove(&pair),
            (TransitionLog::Failures, _) => false,
        };
        if is_kept {
            self.transitions.push(Transition {
                at: self.now,
                observer: pair.0,
                subject: pair.1,
                to,
                // It takes part, as it has just reported an event.
                observer_healthy: self.is_unimpaired(observer),
                subject_healthy: self.is_current(subject, member) && self.is_healthy(subject),
            });
        }
    }

    /// Whether this instance of this name is the one that the slot has now.
    pub(super) fn is_current(&self, slot: usize, member: &Member) -> bool {
        let slot = &self.nodes[slot];
        slot.epoch == member.id.epoch && slot.name == *member.id.name
    }
}
