//! What nodes came to believe of each other, in a form that a long run can keep.

use super::Cluster;
use crate::engine::hooks::DetectorHooks;
use crate::event::{Event, Member, MemberState};
use crate::time::Time;

/// One node came to believe something else of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Virtual time.
    pub at: Time,
    /// Who believes it.
    pub observer: u32,
    /// Of whom, by the number of its place.
    pub subject: u32,
    /// What is believed now.
    pub to: MemberState,
    /// Whether the observer was well at this moment, as [`Cluster::is_healthy`] has it.
    pub observer_healthy: bool,
    /// Whether the subject was. If it is a former life of the node at that place that is meant,
    /// it was not: that life is over.
    pub subject_healthy: bool,
}

/// Which transitions are kept for [`Cluster::transitions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransitionLog {
    /// None.
    Nothing,
    /// To failed and left, and from there back to alive. Suspicions are counted only, in
    /// [`SimReport::suspicions`](super::SimReport::suspicions).
    #[default]
    Failures,
    /// All: also to suspect and back, and a member's first appearance.
    All,
}

impl<D: DetectorHooks> Cluster<D> {
    /// Which transitions are kept from now on. Default [`TransitionLog::Failures`].
    pub fn log_transitions(&mut self, log: TransitionLog) {
        self.transition_log = log;
    }

    /// What nodes came to believe of each other, in the order in which they did.
    ///
    /// A failure that healthy members suffered for the faults of others, which Lifeguard
    /// (section V) counts as false positive, is one to [`MemberState::Failed`] about a subject
    /// that is not among those that a scenario has made faulty, or, if anything goes that was
    /// well at that moment, one with `subject_healthy`.
    pub fn transitions(&self) -> &[Transition] {
        &self.transitions
    }

    /// The same, taken out: so that a long run can count and forget.
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
            (TransitionLog::Failures, MemberState::Suspect) => false,
            (TransitionLog::Failures, MemberState::Failed | MemberState::Left) => {
                self.gone_pairs.insert(pair);
                true
            }
            (TransitionLog::Failures, MemberState::Alive) => self.gone_pairs.remove(&pair),
        };
        if is_kept {
            self.transitions.push(Transition {
                at: self.now,
                observer: pair.0,
                subject: pair.1,
                to,
                // It takes part, as it has just said something.
                observer_healthy: self.is_unimpaired(observer),
                subject_healthy: self.is_current(subject, member) && self.is_healthy(subject),
            });
        }
    }

    /// Whether this life of this name is the one that the place has now.
    pub(super) fn is_current(&self, place: usize, member: &Member) -> bool {
        let place = &self.nodes[place];
        place.epoch == member.id.epoch && place.name == *member.id.name
    }
}
