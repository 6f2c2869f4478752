//! Evidence that one member is alive and cannot be reached.

use std::time::Duration;

use crate::time::Time;

/// Missed probes, refutations and answers of a member that may be alive and out of reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnreachableTracker {
    /// Consecutive missed probes, whatever it refuted meanwhile.
    unanswered: u8,
    /// Suspicions that it refuted since it last answered.
    refutations: u8,
    /// Suspicions that it refuted within a window, whatever it answered, and when that began. The
    /// first window begins at the start of time.
    refutations_in_window: u8,
    window_start: Time,
    refuted_at: Option<Time>,
    /// Last sign of life, while it is unreachable.
    alive_at: Option<Time>,
    /// Whether this node finds it unreachable, and its consecutive direct answers since.
    is_unreachable: bool,
    answers: u8,
}

impl UnreachableTracker {
    pub(super) const NONE: Self = Self {
        unanswered: 0,
        refutations: 0,
        refutations_in_window: 0,
        window_start: Time::ZERO,
        refuted_at: None,
        alive_at: None,
        is_unreachable: false,
        answers: 0,
    };

    /// Whether this node finds the member unreachable.
    pub(super) fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }

    /// Last sign of life, if there was one while the member is unreachable.
    pub(super) fn alive_at(&self) -> Option<Time> {
        self.alive_at
    }

    /// Whether nothing is to be remembered.
    pub(super) fn is_clean(&self) -> bool {
        self.unanswered == 0
            && self.refutations == 0
            && self.refutations_in_window == 0
            && !self.is_unreachable
    }

    /// Takes in a missed probe.
    pub(super) fn record_miss(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.answers = 0;
        self.is_unreachable |= self.meets_threshold();
    }

    /// Takes in an answer, direct or through a helper. A member that was found unreachable stays
    /// so until it answers directly.
    pub(super) fn record_answer(&mut self) {
        self.unanswered = 0;
        self.refutations = 0;
    }

    /// Takes in a direct answer. A member that was found unreachable is reachable again after
    /// several, and `steady` after its last refutation. Says whether another is to be asked for.
    pub(super) fn record_direct_answer(&mut self, now: Time, steady: Duration) -> bool {
        if self.is_unreachable {
            self.answers = self.answers.saturating_add(1);
            let is_steady = self.refuted_at.is_none_or(|at| now.since(at) >= steady);
            self.is_unreachable = !is_steady || self.answers < ANSWERS_MIN;
            if !self.is_unreachable {
                self.refutations_in_window = 0;
            }
        }
        self.is_unreachable && self.answers < ANSWERS_MIN
    }

    /// Takes in a refuted suspicion. Says whether this node is to probe the member itself, as it
    /// refuted several times.
    pub(super) fn record_refutation(&mut self, now: Time, window: Duration) -> bool {
        self.alive_at = Some(now);
        if now.since(self.window_start) > window {
            (self.refutations_in_window, self.window_start) = (0, now);
        }
        if self.refuted_at.is_some_and(|at| now.since(at) > window) {
            self.refutations = 0;
        }
        self.refuted_at = Some(now);
        self.refutations_in_window = self.refutations_in_window.saturating_add(1);
        self.refutations = self.refutations.saturating_add(1);
        self.is_unreachable |= self.meets_threshold();
        self.refutations >= REFUTATIONS_MIN && !self.is_unreachable
    }

    /// Takes in a fresh datagram of an unreachable member.
    pub(super) fn record_sign_of_life(&mut self, now: Time) {
        self.alive_at = Some(now);
    }

    /// Forgets the refutations of the window if the last was before `from`.
    pub(super) fn expire_refutations(&mut self, from: Time) {
        if self.refuted_at.is_none_or(|at| at < from) {
            self.refutations_in_window = 0;
        }
    }

    /// Starts over after the member was declared failed: its refutations still count.
    pub(super) fn on_failed(&mut self) {
        *self = Self {
            refutations: self.refutations,
            refutations_in_window: self.refutations_in_window,
            window_start: self.window_start,
            refuted_at: self.refuted_at,
            ..Self::NONE
        };
    }

    /// Whether the member answers nothing and refutes, or is suspected and refutes all the time,
    /// answers or not: a filter may let probes in for a moment after each refutation.
    fn meets_threshold(&self) -> bool {
        let is_silent = self.refutations >= REFUTATIONS_MIN && self.unanswered >= UNANSWERED_MIN;
        is_silent || self.refutations_in_window >= WINDOW_REFUTATIONS_MIN
    }
}

/// Refutations, none a window after the one before, that make a member unreachable if it answers
/// nothing.
const REFUTATIONS_MIN: u8 = 3;
/// Refutations within one window that make a member unreachable, whatever it answers.
const WINDOW_REFUTATIONS_MIN: u8 = 6;
/// Missed probes of this node's own that make a member unreachable, beside its refutations.
const UNANSWERED_MIN: u8 = 3;
/// Consecutive direct answers after which a member is reachable again.
const ANSWERS_MIN: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const STEADY: Duration = Duration::from_secs(30);

    fn at(secs: u64) -> Time {
        Time::from_millis(1_000 * secs)
    }

    #[test]
    fn refutations_without_answers_make_a_member_unreachable() {
        let mut tracker = UnreachableTracker::NONE;
        (0..UNANSWERED_MIN).for_each(|_| tracker.record_miss());
        assert!(!tracker.record_refutation(at(1), WINDOW));
        assert!(!tracker.record_refutation(at(5), WINDOW) && !tracker.is_unreachable());
        assert!(!tracker.record_refutation(at(9), WINDOW), "it is clear now");
        assert!(tracker.is_unreachable());
        // Fewer misses: the node probes the member itself.
        let mut tracker = UnreachableTracker::NONE;
        tracker.record_refutation(at(1), WINDOW);
        tracker.record_refutation(at(2), WINDOW);
        assert!(tracker.record_refutation(at(3), WINDOW) && !tracker.is_unreachable());
    }

    #[test]
    fn constant_refutations_make_a_member_unreachable_whatever_it_answers() {
        let mut tracker = UnreachableTracker::NONE;
        for n in 0..6 {
            assert!(!tracker.is_unreachable(), "{n}");
            tracker.record_refutation(at(10 * n), WINDOW);
            tracker.record_answer();
        }
        assert!(tracker.is_unreachable());
        // Of another window they do not count together.
        let mut tracker = UnreachableTracker::NONE;
        for n in 0..6 {
            tracker.record_refutation(at(61 * n), WINDOW);
            tracker.record_answer();
        }
        assert!(!tracker.is_unreachable());
    }

    #[test]
    fn direct_answers_make_a_member_reachable_once_it_is_steady() {
        let mut tracker = UnreachableTracker::NONE;
        (0..6).for_each(|n| _ = tracker.record_refutation(at(n), WINDOW));
        assert!(
            tracker.record_direct_answer(at(10), STEADY),
            "one more is asked for"
        );
        assert!(!tracker.record_direct_answer(at(11), STEADY));
        assert!(tracker.is_unreachable(), "it refuted a moment ago");
        tracker.record_miss();
        assert!(tracker.record_direct_answer(at(40), STEADY), "in a row");
        assert!(!tracker.record_direct_answer(at(41), STEADY) && !tracker.is_unreachable());
    }
}
