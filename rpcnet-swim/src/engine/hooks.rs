//! Detector hooks: where another failure detector may differ from the one of this crate.
//!
//! [`PhiSwim`] is the failure detector of this crate: every hook as it is here. The engine is
//! generic over the trait, so the calls are static and cost nothing. Experiments implement it for
//! other detectors, outside of this crate.

use std::fmt;
use std::time::Duration;

use super::probe_round::ProbeRound;
use super::{Engine, Sender};
use crate::time::Time;
use crate::wire::Record;

/// Failure detector of an engine: its parameters, and what it does at certain points.
///
/// Every node of a cluster must run the same one. What is not overridden is as in [`PhiSwim`].
/// Not covered by semantic versioning.
pub trait DetectorHooks: Clone + fmt::Debug {
    /// Ring successors probed in each probe interval.
    fn ring_successors(&self, configured: usize) -> usize {
        configured
    }

    /// Probe intervals between two turns of the round robin, if there is a ring beside it: half as
    /// many turns save a quarter of the datagrams and find a crash 0.1 s later.
    fn round_robin_every(&self) -> usize {
        2
    }

    /// Wait for the answer to a ping, and length of a whole probe round.
    fn probe_times(&self, timeout: Duration, interval: Duration) -> (Duration, Duration) {
        (timeout, interval)
    }

    /// Time between two turns of the round robin.
    fn probe_wait(&self, interval: Duration) -> Duration {
        interval
    }

    /// Wait of a helper for the target before it sends a nack, which has to be back before the
    /// round of the requester ends (Lifeguard section IV-A).
    fn nack_delay(&self, timeout: Duration, interval: Duration) -> Duration {
        (interval - timeout).mul_f64(0.8)
    }

    /// How long failed and left members are remembered.
    fn forget_after(&self, configured: Duration) -> Duration {
        configured
    }

    /// Helpers that have to witness a round without an answer by a nack, or all that were asked if
    /// these are fewer, so that it counts as a missed probe.
    fn witnesses_needed(&self) -> usize {
        1
    }

    /// Own missed probes that a member takes before this node may declare it failed. With 0, a
    /// node that heard of a suspicion decides as well.
    fn own_misses_to_decide(&self) -> u16 {
        2
    }

    /// Members that probe a suspect when they first hear of the suspicion, on average.
    fn verifiers(&self) -> f64 {
        8.0
    }

    /// Whether the ping is repeated when the helpers are asked.
    fn repeats_ping(&self) -> bool {
        true
    }

    /// Whether a node that suspects a member probes it again at once.
    fn probes_suspect_again(&self) -> bool {
        true
    }

    /// Share by which one round changes the observed loss.
    fn loss_gain(&self) -> f64 {
        1.0 / 64.0
    }

    /// Whether a suspicion rides on every ping of the suspect (Lifeguard section IV-C).
    fn piggybacks_suspicion(&self) -> bool {
        true
    }

    /// Whether a helper sends a nack when the target does not answer (Lifeguard section IV-A).
    fn sends_nacks(&self) -> bool {
        true
    }

    /// Whether a member that fails and recovers repeatedly is held down longer each time.
    fn damps_flaps(&self) -> bool {
        true
    }

    /// Whether deadlines shift by the time that the process was stopped.
    fn shifts_deadlines_after_stall(&self) -> bool {
        true
    }

    /// Whether a node that hears no member declares none failed.
    fn detects_isolation(&self) -> bool {
        true
    }

    /// Whether failed members are dialled.
    fn redials_failed(&self) -> bool {
        true
    }

    /// Whether late answers count as answers, and their senders as slow.
    fn tracks_slowness(&self) -> bool {
        true
    }

    /// Whether the protocol goes beyond SWIM: anti-entropy by view hashes, reach checks, the watch
    /// over the advertised address, bounds on answers to unvalidated addresses, failed claims that
    /// are verified, and suspicions told to the suspect and to helpers with every message.
    fn extends_swim(&self) -> bool {
        true
    }

    /// Per-member entries that the detector keeps, for the check that they are bounded.
    fn tracked_members(&self) -> usize {
        0
    }

    /// First firing of the detector's timer; none if it needs none.
    fn first_timer(&self, _now: Time) -> Option<Time> {
        None
    }

    /// Handles the detector's timer.
    fn on_timer(_engine: &mut Engine<Self>, _now: Time) {}

    /// Runs before each turn of the probe timer, of which there are `turns` in a probe interval.
    /// Says whether the turn is taken.
    fn before_probe(_engine: &mut Engine<Self>, _now: Time, _turns: u32) -> bool {
        true
    }

    /// Chooses the helpers of a probe round among live members; `chosen` were drawn at random.
    fn choose_helpers(_engine: &mut Engine<Self>, chosen: Vec<u64>, _target: u64) -> Vec<u64> {
        chosen
    }

    /// Records an answered probe. Says whether the engine takes it in too.
    fn on_probe_answered(&mut self) -> bool {
        true
    }

    /// Handles a round to a live member that ended without an answer. Says whether it did; if not,
    /// the engine does.
    fn on_round_unanswered(_engine: &mut Engine<Self>, _now: Time, _round: &ProbeRound) -> bool {
        false
    }

    /// Takes in a claim of another node about a member. Says whether it did; if not, the engine
    /// does.
    fn merge_claim(_engine: &mut Engine<Self>, _now: Time, _claim: &ClaimView<'_>) -> bool {
        false
    }

    /// Records that this node refuted a claim about itself.
    fn on_refutation(&mut self) {}

    /// Records that a member is forgotten.
    fn on_member_removed(&mut self, _key: u64) {}

    /// Chooses the members that a round of gossip goes to; `None` for random live ones.
    fn gossip_targets(_engine: &mut Engine<Self>, _now: Time, _count: usize) -> Option<Vec<u64>> {
        None
    }

    /// Whether this node still dials seeds.
    fn dials_seeds(_engine: &mut Engine<Self>) -> bool {
        true
    }

    /// Answers a request for the records of `keys`. Says whether it did; if not, the engine does.
    fn answer_pull(_engine: &mut Engine<Self>, _sender: Sender, _keys: &[u64]) -> bool {
        false
    }
}

/// Failure detector of this crate: SWIM with witnessed misses, phi as evidence, and two suspectors
/// that decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhiSwim;

impl DetectorHooks for PhiSwim {}

/// Claim about a member as it arrived, before it is merged.
#[derive(Debug)]
#[cfg_attr(not(feature = "unstable"), expect(dead_code))]
pub struct ClaimView<'a> {
    pub(super) record: &'a Record,
    pub(super) is_from_sync: bool,
}

#[cfg(all(test, feature = "unstable"))]
mod tests;
