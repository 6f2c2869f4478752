//! What is held against a member, or was lately.

use super::counter::CounterProof;
use super::one_way::Reach;
use super::suspicion::{Evidence, Suspicion};
use crate::time::Time;

/// All that there is to remember of a member only because something was wrong with it. Most
/// members have none, at most times.
#[derive(Debug)]
pub(crate) struct Case {
    /// What our own probes say.
    pub(crate) evidence: Evidence,
    /// Rounds without an answer since the last one, witnessed or not.
    pub(crate) unanswered: u16,
    /// What everybody's probes say, while it is suspect.
    pub(crate) suspicion: Option<Box<Suspicion>>,
    /// Somebody's view holds it failed; one witnessed miss of our own confirms that.
    pub(crate) claimed_failed: bool,
    /// When that was first said.
    pub(crate) claimed_at: Time,
    /// How often it came back from the dead lately.
    pub(crate) flaps: u8,
    /// When it came back last.
    pub(crate) returned_at: Time,
    /// It had hardly come back when it failed again, for the first time: one outage, not two.
    pub(crate) slipped: bool,
    /// Until then a refutation does not bring it back.
    pub(crate) hold_until: Time,
    /// How many dials in a row it answered while it was held.
    pub(crate) answered: u8,
    /// How often it was dialled since it failed, and when it is due again.
    pub(crate) redials: u8,
    pub(crate) redial_at: Time,
    /// An older life that still speaks was reported.
    pub(crate) conflict_reported: bool,
    /// It was asked which counter it is at.
    pub(crate) counter_proof: Option<CounterProof>,
    /// Whether it is alive and yet out of reach.
    pub(crate) reach: Reach,
}

impl Case {
    /// Of a member that nothing is held against.
    pub(super) const NONE: Self = Self {
        evidence: Evidence::NONE,
        unanswered: 0,
        suspicion: None,
        claimed_failed: false,
        claimed_at: Time::ZERO,
        flaps: 0,
        returned_at: Time::ZERO,
        slipped: false,
        hold_until: Time::ZERO,
        answered: 0,
        redials: 0,
        redial_at: Time::ZERO,
        conflict_reported: false,
        counter_proof: None,
        reach: Reach::NONE,
    };

    /// Flaps whose hold ended before `from` count no more, nor do questions asked before it.
    pub(super) fn forgive_flaps(&mut self, from: Time) {
        if self.hold_until < from {
            self.flaps = 0;
        }
        if self
            .counter_proof
            .is_some_and(|proof| proof.asked_at < from)
        {
            self.counter_proof = None;
        }
    }

    /// It came and went before: words alone do not bring it back.
    pub(super) fn is_on_probation(&self) -> bool {
        self.flaps > 1
    }

    /// Whether a failed member that comes and goes has still to prove that it is there to stay.
    pub(super) fn is_held(&self, now: Time) -> bool {
        self.is_on_probation() && (now < self.hold_until || self.answered < PROOFS)
    }

    /// Whether a live member's case may be forgotten.
    pub(super) fn is_settled(&self) -> bool {
        self.evidence.misses == 0
            && self.unanswered == 0
            && self.suspicion.is_none()
            && !self.claimed_failed
            && self.flaps == 0
            && !self.conflict_reported
            && self.counter_proof.is_none()
            && self.reach.is_settled()
    }
}

impl Default for Case {
    fn default() -> Self {
        Self::NONE
    }
}

/// Dials in a row that a held member has to answer, which takes it as long as the first hold. One
/// that loses four fifths of what it is sent does so once in some ten thousand times.
pub(super) const PROOFS: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_return_is_free_and_later_ones_take_time_and_proofs() {
        let at = Time::from_millis;
        let case = |flaps, answered| Case {
            flaps,
            answered,
            hold_until: at(30_000),
            ..Case::NONE
        };
        assert!(!case(1, 0).is_held(at(0)));
        assert!(case(2, PROOFS).is_held(at(29_999)), "time");
        assert!(case(2, PROOFS - 1).is_held(at(90_000)), "proofs");
        assert!(!case(2, PROOFS).is_held(at(30_000)));
    }
}
