//! Members that are alive and cannot be reached: they refute, and answer no probe.
//!
//! What such a member sends arrives, and so do answers to it, but no probe of it: its address leads
//! nowhere, or a filter lets answers in alone. Suspicion and refutation would alternate for ever.
//! A node that saw several refutations and had no answer of its own marks the member unreachable
//! and tells so once; the member may say it of itself too. Marked members are accused rarely, and
//! what is suspected and refuted meanwhile is no news.

use super::Engine;
use super::entry::Entry;
use crate::event::{Event, MemberState};
use crate::time::Time;

/// What speaks for a member being alive and out of reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Rounds to it in a row without an answer, whatever it refuted meanwhile.
    unanswered: u8,
    /// Suspicions that it refuted since it last answered.
    refutations: u8,
    /// Those within a window, whatever it answered, when that began, and the last one.
    flips: u8,
    flips_from: Time,
    refuted_at: Time,
    /// Last sign of life, while it is unreachable.
    alive_at: Time,
    /// This node finds it unreachable, and how often in a row it has answered since.
    is_lost: bool,
    answers: u8,
}

impl Reach {
    pub(super) const NONE: Self = Self {
        unanswered: 0,
        refutations: 0,
        flips: 0,
        flips_from: Time::ZERO,
        refuted_at: Time::ZERO,
        alive_at: Time::ZERO,
        is_lost: false,
        answers: 0,
    };

    pub(super) fn is_settled(&self) -> bool {
        self.unanswered == 0 && self.refutations == 0 && self.flips == 0 && !self.is_lost
    }

    /// It answered, directly or through a helper. Found out of reach, it takes direct answers.
    pub(super) fn on_answer(&mut self) {
        self.unanswered = 0;
        self.refutations = 0;
    }

    /// Flips before `from` no longer count.
    pub(super) fn forget(&mut self, from: Time) {
        if self.refuted_at < from {
            self.flips = 0;
        }
    }

    /// It was declared failed: what it refuted before still counts.
    pub(super) fn on_failed(&mut self) {
        *self = Self {
            refutations: self.refutations,
            flips: self.flips,
            flips_from: self.flips_from,
            refuted_at: self.refuted_at,
            ..Self::NONE
        };
    }

    /// It was suspected and refuted several times of late.
    pub(super) fn refutes_often(&self) -> bool {
        self.refutations.max(self.flips) >= OFTEN
    }

    /// It answers nothing and refutes, or it is suspected and refutes all the time, answers or not:
    /// a filter may let probes in for a moment after each refutation.
    fn is_out_of_reach(&self) -> bool {
        let silent = self.refutations >= REFUTATIONS_MIN && self.unanswered >= UNANSWERED_MIN;
        silent || self.flips >= FLIPS_MIN
    }
}

impl Engine {
    /// A round to a live member went unanswered, as a witness says. Says whether that is no
    /// evidence: a member that is out of reach, and said a moment ago that it is alive.
    pub(super) fn note_out_of_reach(&mut self, now: Time, key: u64) -> bool {
        let rounds = (PATIENCE_ROUNDS_PER_MEMBER * self.live_count() as u32)
            .clamp(PATIENCE_ROUNDS_MIN, PATIENCE_ROUNDS_MAX);
        let patience = rounds * self.config.probe_interval;
        let Some(entry) = self.table.get_mut(key) else {
            return false;
        };
        let was = entry.is_unreachable();
        let reach = &mut entry.case_mut().reach;
        reach.unanswered = reach.unanswered.saturating_add(1);
        reach.answers = 0;
        reach.is_lost |= reach.is_out_of_reach();
        let is_alive = now.since(reach.alive_at) < patience;
        self.tell_reach(key, was);
        let entry = self.table.get(key);
        entry.is_some_and(|entry| entry.is_unreachable() && is_alive)
    }

    /// A member answered this node itself.
    pub(super) fn note_in_reach(&mut self, now: Time, key: u64) {
        let steady = STEADY_ROUNDS * self.config.probe_interval;
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let was = entry.is_unreachable();
        if let Some(case) = entry.open_case()
            && case.reach.is_lost
        {
            let reach = &mut case.reach;
            reach.answers = reach.answers.saturating_add(1);
            let is_steady = now.since(reach.refuted_at) >= steady;
            reach.is_lost = !is_steady || reach.answers < ANSWERS_MIN;
            if !reach.is_lost {
                reach.flips = 0;
            }
        }
        let reach = entry.case().reach;
        let asks_again = reach.is_lost && reach.answers < ANSWERS_MIN;
        entry.close_case();
        self.tell_reach(key, was);
        if asks_again {
            self.start_round(now, key);
        }
    }

    /// A suspect member refuted. After several times this node looks for itself.
    pub(super) fn note_refuted(&mut self, now: Time, key: u64) {
        let window = WINDOW_ROUNDS * self.config.probe_interval;
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let was = entry.is_unreachable();
        let reach = &mut entry.case_mut().reach;
        reach.alive_at = now;
        if now.since(reach.flips_from) > window {
            (reach.flips, reach.flips_from) = (0, now);
        }
        if now.since(reach.refuted_at) > window {
            reach.refutations = 0;
        }
        reach.refuted_at = now;
        reach.flips = reach.flips.saturating_add(1);
        reach.refutations = reach.refutations.saturating_add(1);
        reach.is_lost |= reach.is_out_of_reach();
        let looks = reach.refutations >= REFUTATIONS_MIN && !reach.is_lost;
        self.tell_reach(key, was);
        if looks {
            self.start_round(now, key);
        }
    }

    /// Tells of a live member that it is out of reach now, or no longer.
    pub(super) fn tell_reach(&mut self, key: u64, was: bool) {
        let Some(entry) = self.table.get(key) else {
            return;
        };
        let is = entry.is_unreachable();
        if was != is && entry.state.is_live() {
            let member = entry.member();
            self.emit(match is {
                true => Event::NodeUnreachable(member),
                false => Event::NodeReachable(member),
            });
        }
    }
}

impl Entry {
    /// By what this node finds, or by the member's own word.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.pulse.says_unreachable() || self.case().reach.is_lost
    }

    /// What was found was found at another address.
    pub(super) fn forget_reach(&mut self) {
        if let Some(case) = self.open_case() {
            case.reach = Reach::NONE;
        }
    }

    /// A fresh datagram of a member that is out of reach.
    pub(super) fn note_alive(&mut self, now: Time) {
        if self.is_unreachable() && self.state != MemberState::Failed {
            self.case_mut().reach.alive_at = now;
        }
    }
}

/// Refutations, none a window after the one before, that make a member unreachable, if it answers nothing.
const REFUTATIONS_MIN: u8 = 3;
/// So many say of a failed member that it is alive and not heard, if it says so itself.
const OFTEN: u8 = 2;
/// The same, whatever it answers, if so many are within one window.
const FLIPS_MIN: u8 = 6;
/// The window, in probe intervals.
const WINDOW_ROUNDS: u32 = 60;
/// So many probe intervals after the last refutation a member that answers is reachable again.
const STEADY_ROUNDS: u32 = 30;
/// Rounds of this node's own without an answer that it takes.
const UNANSWERED_MIN: u8 = 3;
/// Direct answers in a row after which it is reachable again.
const ANSWERS_MIN: u8 = 2;
/// For so many probe intervals after a sign of life an unreachable member is not accused: two passes
/// of its round robin, which comes upon each of the others once in a pass.
const PATIENCE_ROUNDS_PER_MEMBER: u32 = 4;
const PATIENCE_ROUNDS_MIN: u32 = 10;
const PATIENCE_ROUNDS_MAX: u32 = 300;
