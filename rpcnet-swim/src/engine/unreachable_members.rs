//! Unreachable members: alive by their refutations, yet they answer no probe.
//!
//! The datagrams of such a member arrive, and so do answers to them, but no probe of it: its
//! address leads nowhere, or a filter lets answers in alone. Suspicion and refutation would
//! alternate for ever. A node that saw several refutations and had no answer of its own marks the
//! member unreachable and emits that once; the member may report it of itself too. Marked members
//! are suspected rarely, and suspicions and refutations of them are not emitted.

use super::entry::Entry;
use super::unreachable_tracker::UnreachableTracker;
use super::{DetectorHooks, Engine};
use crate::event::{Event, MemberState};
use crate::time::Time;

impl<D: DetectorHooks> Engine<D> {
    /// Takes in a missed probe of a live member. Says whether it is no evidence: the member is
    /// unreachable, and said a moment ago that it is alive.
    pub(super) fn is_miss_of_unreachable(&mut self, now: Time, key: u64) -> bool {
        let rounds = (NO_SUSPICION_ROUNDS_PER_MEMBER * self.live_count() as u32)
            .clamp(NO_SUSPICION_ROUNDS_MIN, NO_SUSPICION_ROUNDS_MAX);
        let grace = rounds * self.config.probe_interval;
        let Some(entry) = self.table.get_mut(key) else {
            return false;
        };
        let was = entry.is_unreachable();
        let reach = &mut entry.faults_mut().unreachable;
        reach.record_miss();
        let is_alive = reach.alive_at().is_some_and(|at| now.since(at) < grace);
        self.emit_reachability(key, was);
        let entry = self.table.get(key);
        entry.is_some_and(|entry| entry.is_unreachable() && is_alive)
    }

    /// Takes in that a member answered this node directly.
    pub(super) fn record_direct_answer(&mut self, now: Time, key: u64) {
        let steady = STEADY_ROUNDS * self.config.probe_interval;
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let was = entry.is_unreachable();
        let faults = entry.existing_faults();
        let should_probe =
            faults.is_some_and(|it| it.unreachable.record_direct_answer(now, steady));
        entry.drop_clean_faults();
        self.emit_reachability(key, was);
        if should_probe {
            self.start_probe(now, key);
        }
    }

    /// Takes in that a suspect member refuted. After several times this node probes it itself.
    pub(super) fn record_refuted_suspicion(&mut self, now: Time, key: u64) {
        let window = WINDOW_ROUNDS * self.config.probe_interval;
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let was = entry.is_unreachable();
        let tracker = &mut entry.faults_mut().unreachable;
        let should_probe = tracker.record_refutation(now, window);
        self.emit_reachability(key, was);
        if should_probe {
            self.start_probe(now, key);
        }
    }

    /// Emits whether a live member became unreachable, or reachable again.
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
    /// Whether the member is unreachable, by this node's findings or its own report.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.self_reports_unreachable() || self.faults().unreachable.is_unreachable()
    }

    /// Forgets findings about another address.
    pub(super) fn reset_unreachable(&mut self) {
        if let Some(faults) = self.existing_faults() {
            faults.unreachable = UnreachableTracker::NONE;
        }
    }

    /// Records a fresh datagram of an unreachable member.
    pub(super) fn record_sign_of_life(&mut self, now: Time) {
        if self.is_unreachable() && self.state != MemberState::Failed {
            self.faults_mut().unreachable.record_sign_of_life(now);
        }
    }
}

/// Window of refutations, in probe intervals.
const WINDOW_ROUNDS: u32 = 60;
/// Time after the last refutation after which a member that answers is reachable again, in probe
/// intervals.
const STEADY_ROUNDS: u32 = 30;
/// Time after a sign of life in which an unreachable member is not suspected, in probe intervals
/// for each member: two passes of its round robin, which reaches each of the others once in a pass.
const NO_SUSPICION_ROUNDS_PER_MEMBER: u32 = 4;
const NO_SUSPICION_ROUNDS_MIN: u32 = 10;
const NO_SUSPICION_ROUNDS_MAX: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_support::{alive, engine, record};
    use crate::wire::Record;

    #[test]
    fn an_unreachable_member_is_suspected_unless_it_gave_a_sign_of_life() {
        let x = crate::id::name_key("x");
        let state_after_a_miss = |sign_of_life: bool| {
            let mut engine = engine("me", 1, 1);
            engine.merge_gossip(record("y", 5, 0, 3, alive()));
            engine.merge_gossip(Record {
                unreachable: true,
                ..record("x", 5, 0, 2, alive())
            });
            if sign_of_life {
                let entry = engine.table.get_mut(x).unwrap();
                entry.record_sign_of_life(Time::from_millis(500));
            }
            engine.on_missed_probe(Time::from_millis(1_000), x);
            engine.member("x").unwrap().state
        };
        assert_eq!(state_after_a_miss(true), MemberState::Alive);
        assert_eq!(state_after_a_miss(false), MemberState::Suspect);
    }
}
