//! What is held against a member, or was lately.

use super::counter_resync::CounterProof;
use super::suspicion::{Evidence, Suspicion};
use super::unreachable_tracker::UnreachableTracker;
use crate::time::Time;

/// All that there is to remember of a member only because something was wrong with it. Most
/// members have none, at most times.
#[derive(Debug)]
pub(crate) struct FaultHistory {
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
    pub(crate) flap_count: u8,
    /// When it came back last.
    pub(crate) recovered_at: Time,
    /// It had hardly come back when it failed again, for the first time: one outage, not two.
    pub(crate) relapsed: bool,
    /// Until then a refutation does not bring it back.
    pub(crate) held_until: Time,
    /// How many dials in a row it answered while it was held.
    pub(crate) redials_answered: u8,
    /// How often it was dialled since it failed, and when it is due again.
    pub(crate) redials_unanswered: u8,
    pub(crate) next_redial_at: Time,
    /// An older life that still speaks was reported.
    pub(crate) conflict_reported: bool,
    /// It was asked which counter it is at.
    pub(crate) counter_proof: Option<CounterProof>,
    /// Whether it is alive and yet out of reach.
    pub(crate) unreachable: UnreachableTracker,
}

impl FaultHistory {
    /// Of a member that nothing is held against.
    pub(super) const NONE: Self = Self {
        evidence: Evidence::NONE,
        unanswered: 0,
        suspicion: None,
        claimed_failed: false,
        claimed_at: Time::ZERO,
        flap_count: 0,
        recovered_at: Time::ZERO,
        relapsed: false,
        held_until: Time::ZERO,
        redials_answered: 0,
        redials_unanswered: 0,
        next_redial_at: Time::ZERO,
        conflict_reported: false,
        counter_proof: None,
        unreachable: UnreachableTracker::NONE,
    };

    /// Flaps whose hold ended before `from` count no more, nor do questions asked before it.
    pub(super) fn expire_flaps(&mut self, from: Time) {
        if self.held_until < from {
            self.flap_count = 0;
        }
        if self
            .counter_proof
            .is_some_and(|proof| proof.asked_at < from)
        {
            self.counter_proof = None;
        }
    }

    /// It came and went before: words alone do not bring it back.
    pub(super) fn is_flapping(&self) -> bool {
        self.flap_count > 1
    }

    /// Whether a failed member that comes and goes has still to prove that it is there to stay.
    pub(super) fn is_held_down(&self, now: Time) -> bool {
        self.is_flapping() && (now < self.held_until || self.redials_answered < REDIAL_ANSWERS_MIN)
    }

    /// Whether a live member's case may be forgotten.
    pub(super) fn is_clean(&self) -> bool {
        self.evidence.misses == 0
            && self.unanswered == 0
            && self.suspicion.is_none()
            && !self.claimed_failed
            && self.flap_count == 0
            && !self.conflict_reported
            && self.counter_proof.is_none()
            && self.unreachable.is_clean()
    }
}

impl Default for FaultHistory {
    fn default() -> Self {
        Self::NONE
    }
}

/// Dials in a row that a held member has to answer, which takes it as long as the first hold. One
/// that loses four fifths of what it is sent does so once in some ten thousand times.
pub(super) const REDIAL_ANSWERS_MIN: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_return_is_free_and_later_ones_take_time_and_proofs() {
        let at = Time::from_millis;
        let case = |flaps, answered| FaultHistory {
            flap_count: flaps,
            redials_answered: answered,
            held_until: at(30_000),
            ..FaultHistory::NONE
        };
        assert!(!case(1, 0).is_held_down(at(0)));
        assert!(case(2, REDIAL_ANSWERS_MIN).is_held_down(at(29_999)), "time");
        assert!(
            case(2, REDIAL_ANSWERS_MIN - 1).is_held_down(at(90_000)),
            "proofs"
        );
        assert!(!case(2, REDIAL_ANSWERS_MIN).is_held_down(at(30_000)));
    }
}
