//! Fault history of one member: evidence, suspicion, flaps and redials.

use super::evidence::Evidence;
use super::suspicion::Suspicion;
use super::unreachable_tracker::UnreachableTracker;
use crate::time::Time;

/// All that is remembered of a member only because something was wrong with it. Most members have
/// none, at most times.
#[derive(Debug)]
pub(crate) struct FaultHistory {
    /// Evidence of this node's own probes.
    pub(crate) evidence: Evidence,
    /// Rounds without an answer since the last one, witnessed or not.
    pub(crate) unanswered: u16,
    /// Evidence of all suspectors, while the member is suspect.
    pub(crate) suspicion: Option<Box<Suspicion>>,
    /// First time that another node claimed that it failed; one witnessed miss of this node
    /// confirms that.
    pub(crate) claimed_failed_at: Option<Time>,
    /// Number of recent recoveries.
    pub(crate) flap_count: u8,
    /// Time of the last recovery.
    pub(crate) recovered_at: Option<Time>,
    /// Whether it failed again right after its first recovery: one outage, not two.
    pub(crate) relapsed: bool,
    /// End of the hold, if it has failed: until then a refutation does not make it alive.
    pub(crate) held_until: Option<Time>,
    /// Consecutive redials answered while it was held down.
    pub(crate) redials_answered: u8,
    /// Redials since it failed or last answered, and the time of the next one.
    pub(crate) redials_unanswered: u8,
    pub(crate) next_redial_at: Time,
    /// Whether an older instance that still sends was reported.
    pub(crate) conflict_reported: bool,
    /// Question for its counter that it has not answered.
    pub(crate) counter_proof: Option<CounterProof>,
    /// Evidence that it is alive and unreachable.
    pub(crate) unreachable: UnreachableTracker,
}

/// Question for a member's counter: a number that it has to send back from its address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CounterProof {
    pub(super) nonce: u64,
    pub(super) asked_at: Time,
}

impl FaultHistory {
    /// History of a member without faults.
    pub(super) const NONE: Self = Self {
        evidence: Evidence::NONE,
        unanswered: 0,
        suspicion: None,
        claimed_failed_at: None,
        flap_count: 0,
        recovered_at: None,
        relapsed: false,
        held_until: None,
        redials_answered: 0,
        redials_unanswered: 0,
        next_redial_at: Time::ZERO,
        conflict_reported: false,
        counter_proof: None,
        unreachable: UnreachableTracker::NONE,
    };

    /// Drops flaps whose hold ended before `from`, and questions asked before it.
    pub(super) fn expire_flaps(&mut self, from: Time) {
        if self.held_until.is_none_or(|end| end < from) {
            self.flap_count = 0;
        }
        if self
            .counter_proof
            .is_some_and(|proof| proof.asked_at < from)
        {
            self.counter_proof = None;
        }
    }

    /// Whether it failed and recovered before: a refutation alone does not make it alive again.
    pub(super) fn is_flapping(&self) -> bool {
        self.flap_count > 1
    }

    /// Whether a failed member that flaps has still to prove that it is there to stay.
    pub(super) fn is_held_down(&self, now: Time) -> bool {
        let is_held = self.held_until.is_some_and(|end| now < end);
        self.is_flapping() && (is_held || self.redials_answered < REDIAL_ANSWERS_MIN)
    }

    /// Whether the history of a live member may be dropped.
    pub(super) fn is_clean(&self) -> bool {
        self.evidence.misses == 0
            && self.unanswered == 0
            && self.suspicion.is_none()
            && self.claimed_failed_at.is_none()
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

/// Consecutive redials that a held-down member has to answer, which takes as long as the first
/// hold. A member that loses four fifths of what it is sent does so once in some ten thousand
/// times.
pub(super) const REDIAL_ANSWERS_MIN: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_recovery_is_immediate_and_later_ones_take_time_and_answered_redials() {
        let at = Time::from_millis;
        let history = |flaps, answered| FaultHistory {
            flap_count: flaps,
            redials_answered: answered,
            held_until: Some(at(30_000)),
            ..FaultHistory::NONE
        };
        assert!(!history(1, 0).is_held_down(at(0)));
        assert!(
            history(2, REDIAL_ANSWERS_MIN).is_held_down(at(29_999)),
            "time"
        );
        assert!(
            history(2, REDIAL_ANSWERS_MIN - 1).is_held_down(at(90_000)),
            "redials"
        );
        assert!(!history(2, REDIAL_ANSWERS_MIN).is_held_down(at(30_000)));
    }
}
