//! Members that are alive and cannot be reached: they refute, and answer no probe.
//!
//! What such a member sends arrives, and so do answers to it, but no probe of it: its address leads
//! nowhere, or a filter lets answers in alone. Suspicion and refutation would alternate for ever.
//! A node that saw several refutations and had no answer of its own marks the member unreachable
//! and tells so once; the member may say it of itself too. Marked members are accused rarely, and
//! what is suspected and refuted meanwhile is no news.

use super::entry::Entry;
use super::unreachable_tracker::UnreachableTracker;
use super::{DetectorHooks, Engine};
use crate::event::{Event, MemberState};
use crate::time::Time;

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
        reach.record_miss();
        let is_alive = now.since(reach.alive_at()) < patience;
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
        let faults = entry.existing_faults();
        let asks_again = faults.is_some_and(|it| it.unreachable.record_direct_answer(now, steady));
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
        let tracker = &mut entry.faults_mut().unreachable;
        let looks = tracker.record_refutation(now, window);
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
        self.rtt_state.self_reports_unreachable() || self.faults().unreachable.is_unreachable()
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
            self.faults_mut().unreachable.record_sign_of_life(now);
        }
    }
}

/// The window, in probe intervals.
const WINDOW_ROUNDS: u32 = 60;
/// So many probe intervals after the last refutation a member that answers is reachable again.
const STEADY_ROUNDS: u32 = 30;
/// For so many probe intervals after a sign of life an unreachable member is not accused: two passes
/// of its round robin, which comes upon each of the others once in a pass.
const NO_SUSPICION_ROUNDS_PER_MEMBER: u32 = 4;
const NO_SUSPICION_ROUNDS_MIN: u32 = 10;
const NO_SUSPICION_ROUNDS_MAX: u32 = 300;
