//! What is held against a member, or was lately.

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
    /// How often it came back from the dead lately.
    pub(crate) flaps: u8,
    /// Until then a refutation does not bring it back.
    pub(crate) hold_until: Time,
    /// How often it was dialled since it failed, and when it is due again.
    pub(crate) redials: u8,
    pub(crate) redial_at: Time,
    /// An older life that still speaks was reported.
    pub(crate) conflict_reported: bool,
}

impl Case {
    /// Of a member that nothing is held against.
    pub(super) const NONE: Self = Self {
        evidence: Evidence::NONE,
        unanswered: 0,
        suspicion: None,
        claimed_failed: false,
        flaps: 0,
        hold_until: Time::ZERO,
        redials: 0,
        redial_at: Time::ZERO,
        conflict_reported: false,
    };

    /// Flaps whose hold ended before `from` count no more.
    pub(super) fn forgive_flaps(&mut self, from: Time) {
        if self.hold_until < from {
            self.flaps = 0;
        }
    }

    /// Whether a live member's case may be forgotten.
    pub(super) fn is_settled(&self) -> bool {
        self.evidence.misses == 0
            && self.unanswered == 0
            && self.suspicion.is_none()
            && !self.claimed_failed
            && self.flaps == 0
            && !self.conflict_reported
    }
}

impl Default for Case {
    fn default() -> Self {
        Self::NONE
    }
}
