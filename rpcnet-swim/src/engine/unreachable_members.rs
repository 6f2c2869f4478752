//! Members that are alive and cannot be reached: they refute, and answer no probe.
//!
//! What such a member sends arrives, and so do answers to it, but no probe of it: its address leads
//! nowhere, or a filter lets answers in alone. Suspicion and refutation would alternate for ever.
//! A node that saw several refutations and had no answer of its own marks the member unreachable
//! and tells so once; the member may say it of itself too. Marked members are accused rarely, and
//! what is suspected and refuted meanwhile is no news.

use super::entry::Entry;
use super::{DetectorHooks, Engine};
use crate::event::{Event, MemberState};
use crate::time::Time;

/// What speaks for a member being alive and out of reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnreachableTracker {
    /// Rounds to it in a row without an answer, whatever it refuted meanwhile.
    unanswered: u8,
    /// Suspicions that it refuted since it last answered.
    refutations: u8,
    /// Those within a window, whatever it answered, when that began, and the last one.
    refutations_in_window: u8,
    window_start: Time,
    refuted_at: Time,
    /// Last sign of life, while it is unreachable.
    alive_at: Time,
    /// This node finds it unreachable, and how often in a row it has answered since.
    is_unreachable: bool,
    answers: u8,
}

impl UnreachableTracker {
    pub(super) const NONE: Self = Self {
        unanswered: 0,
        refutations: 0,
        refutations_in_window: 0,
        window_start: Time::ZERO,
        refuted_at: Time::ZERO,
        alive_at: Time::ZERO,
        is_unreachable: false,
        answers: 0,
    };

    pub(super) fn is_clean(&self) -> bool {
        self.unanswered == 0
            && self.refutations == 0
            && self.refutations_in_window == 0
            && !self.is_unreachable
    }

    /// It answered, directly or through a helper. Found out of reach, it takes direct answers.
    pub(super) fn on_answer(&mut self) {
        self.unanswered = 0;
        self.refutations = 0;
    }

    /// Flips before `from` no longer count.
    pub(super) fn expire_refutations(&mut self, from: Time) {
        if self.refuted_at < from {
            self.refutations_in_window = 0;
        }
    }

    /// It was declared failed: what it refuted before still counts.
    pub(super) fn on_failed(&mut self) {
        *self = Self {
            refutations: self.refutations,
            refutations_in_window: self.refutations_in_window,
            window_start: self.window_start,
            refuted_at: self.refuted_at,
            ..Self::NONE
        };
    }

    /// It was suspected and refuted several times of late.
    pub(super) fn refutes_often(&self) -> bool {
        self.refutations.max(self.refutations_in_window) >= OFTEN_REFUTATIONS
    }

    /// It answers nothing and refutes, or it is suspected and refutes all the time, answers or not:
    /// a filter may let probes in for a moment after each refutation.
    fn meets_unreachable_threshold(&self) -> bool {
        let silent = self.refutations >= REFUTATIONS_MIN && self.unanswered >= UNANSWERED_MIN;
        silent || self.refutations_in_window >= WINDOW_REFUTATIONS_MIN
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// A round to a live member went unanswered, as a witness says. Says whether that is no
    /// evidence: a member that is out of reach, and said a moment ago that it is alive.
    pub(super) fn is_miss_of_unreachable(&mut self, now: Time, key: u64) -> bool {
        let rounds = (NO_SUSPICION_ROUNDS_PER_MEMBER * self.live_count() as u32)
            .clamp(NO_SUSPICION_ROUNDS_MIN, NO_SUSPICION_ROUNDS_MAX);
        let patience = rounds * self.config.probe_interval;
        let Some(entry) = self.table.get_mut(key) else {
            return false;
        };
        let was = entry.is_unreachable();
        let reach = &mut entry.faults_mut().unreachable;
        reach.unanswered = reach.unanswered.saturating_add(1);
        reach.answers = 0;
        reach.is_unreachable |= reach.meets_unreachable_threshold();
        let is_alive = now.since(reach.alive_at) < patience;
        self.emit_reachability(key, was);
        let entry = self.table.get(key);
        entry.is_some_and(|entry| entry.is_unreachable() && is_alive)
    }

    /// A member answered this node itself.
    pub(super) fn note_direct_answer(&mut self, now: Time, key: u64) {
        let steady = STEADY_ROUNDS * self.config.probe_interval;
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let was = entry.is_unreachable();
        if let Some(case) = entry.existing_faults()
            && case.unreachable.is_unreachable
        {
            let reach = &mut case.unreachable;
            reach.answers = reach.answers.saturating_add(1);
            let is_steady = now.since(reach.refuted_at) >= steady;
            reach.is_unreachable = !is_steady || reach.answers < ANSWERS_MIN;
            if !reach.is_unreachable {
                reach.refutations_in_window = 0;
            }
        }
        let reach = entry.faults().unreachable;
        let asks_again = reach.is_unreachable && reach.answers < ANSWERS_MIN;
        entry.drop_clean_faults();
        self.emit_reachability(key, was);
        if asks_again {
            self.start_probe(now, key);
        }
    }

    /// A suspect member refuted. After several times this node looks for itself.
    pub(super) fn note_refuted_suspicion(&mut self, now: Time, key: u64) {
        let window = WINDOW_ROUNDS * self.config.probe_interval;
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let was = entry.is_unreachable();
        let reach = &mut entry.faults_mut().unreachable;
        reach.alive_at = now;
        if now.since(reach.window_start) > window {
            (reach.refutations_in_window, reach.window_start) = (0, now);
        }
        if now.since(reach.refuted_at) > window {
            reach.refutations = 0;
        }
        reach.refuted_at = now;
        reach.refutations_in_window = reach.refutations_in_window.saturating_add(1);
        reach.refutations = reach.refutations.saturating_add(1);
        reach.is_unreachable |= reach.meets_unreachable_threshold();
        let looks = reach.refutations >= REFUTATIONS_MIN && !reach.is_unreachable;
        self.emit_reachability(key, was);
        if looks {
            self.start_probe(now, key);
        }
    }

    /// Tells of a live member that it is out of reach now, or no longer.
    pub(super) fn emit_reachability(&mut self, key: u64, was: bool) {
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
        self.rtt_state.self_reports_unreachable() || self.faults().unreachable.is_unreachable
    }

    /// What was found was found at another address.
    pub(super) fn reset_unreachable(&mut self) {
        if let Some(case) = self.existing_faults() {
            case.unreachable = UnreachableTracker::NONE;
        }
    }

    /// A fresh datagram of a member that is out of reach.
    pub(super) fn note_sign_of_life(&mut self, now: Time) {
        if self.is_unreachable() && self.state != MemberState::Failed {
            self.faults_mut().unreachable.alive_at = now;
        }
    }
}

/// Refutations, none a window after the one before, that make a member unreachable, if it answers nothing.
const REFUTATIONS_MIN: u8 = 3;
/// So many say of a failed member that it is alive and not heard, if it says so itself.
const OFTEN_REFUTATIONS: u8 = 2;
/// The same, whatever it answers, if so many are within one window.
const WINDOW_REFUTATIONS_MIN: u8 = 6;
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
const NO_SUSPICION_ROUNDS_PER_MEMBER: u32 = 4;
const NO_SUSPICION_ROUNDS_MIN: u32 = 10;
const NO_SUSPICION_ROUNDS_MAX: u32 = 300;
