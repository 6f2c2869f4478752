//! Failure detection: from missed probes to evidence, suspicion and failure.

use std::time::Duration;

use super::fault_history::FaultHistory;
use super::suspicion::{DecisionInput, Evidence, Suspicion, refute_time, should_declare_failed};
use super::timers::{NamedTimer, Timer};
use super::{DetectorHooks, Engine};
use crate::event::{Event, MemberState};
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::{Confirmation, Suspectors};

impl<D: DetectorHooks> Engine<D> {
    /// Phi of a member: the negative decimal logarithm of the chance that it is alive and yet gave
    /// the answers it gave. The sum over its consecutive witnessed misses, and during a round the
    /// accrual of that one from the distribution of round trips. At least the threshold once it is
    /// declared failed; none for an unknown member.
    pub fn phi(&self, id: &NodeId, now: Time) -> Option<f64> {
        let key = id.key();
        let entry = self
            .table
            .get(key)
            .filter(|entry| entry.epoch == id.epoch)?;
        let own = f64::from(entry.faults().evidence.phi);
        if entry.state == MemberState::Failed {
            return Some(own.max(self.config.phi_threshold));
        }
        let now = self.running_time_at(now);
        let running = self.probes.rounds.of_target(key).map_or(0.0, |round| {
            let waited = now.since(round.started);
            self.probes.network.waiting_phi(waited.as_secs_f64())
        });
        // Avoids minus zero.
        Some(own + running.max(0.0))
    }

    /// Handles a missed probe: a witnessed round without an answer.
    pub(super) fn on_missed_probe(&mut self, now: Time, key: u64) {
        if self.is_miss_of_unreachable(now, key) {
            return;
        }
        let worth = self.probes.network.miss_phi();
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let faults = entry.faults_mut();
        faults.evidence.add_miss(worth);
        faults.unanswered = faults.unanswered.saturating_add(1);
        if faults.claimed_failed_at.is_some() {
            return self.mark_failed(now, key);
        }
        if !faults.evidence.reaches_suspect_threshold() {
            return;
        }
        let own = Confirmation::new(self.local.key, f64::from(faults.evidence.phi));
        let mut suspectors = Suspectors::default();
        suspectors.merge(own);
        if self.suspect(now, key, suspectors) {
            self.stats.suspicions_raised += 1;
        }
        if self.detector.probes_suspect_again() {
            // The sooner the second miss, the sooner the decision.
            self.start_probe(now, key);
        }
        self.decide_failure(now, key);
    }

    /// Clears the evidence of this node against a member that answered: it was loss.
    pub(super) fn clear_evidence(&mut self, key: u64) {
        let me = self.local.key;
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        entry.unanswering = false;
        let mut unanswered = 0;
        if let Some(faults) = entry.existing_faults() {
            faults.evidence = Evidence::NONE;
            faults.unreachable.record_answer();
            unanswered = std::mem::take(&mut faults.unanswered);
            faults.claimed_failed_at = None;
            if let Some(suspicion) = &mut faults.suspicion {
                suspicion.suspectors.retract(me);
            }
            entry.drop_clean_faults();
        }
        self.record_lost_rounds(unanswered);
        self.probes
            .network
            .record_answered(self.detector.loss_gain());
    }

    /// Counts unanswered rounds to a live member as loss: it answered a later round, or refuted the
    /// suspicion that they caused. Without the latter, a loss that is refuted each time would never
    /// be seen as one.
    pub(super) fn record_lost_rounds(&mut self, rounds: u16) {
        self.probes
            .network
            .record_lost(rounds, self.detector.loss_gain());
    }

    /// Takes in who suspects a live member. Says whether that was new.
    pub(super) fn suspect(&mut self, now: Time, key: u64, suspectors: Suspectors) -> bool {
        let Some(entry) = self.table.get_mut(key) else {
            return false;
        };
        if let Some(suspicion) = entry.existing_faults().and_then(|c| c.suspicion.as_mut()) {
            let confirmations = suspectors.confirmations().iter();
            let is_new =
                confirmations.fold(false, |is_new, it| suspicion.suspectors.merge(*it) | is_new);
            if is_new {
                self.enqueue_gossip(now, key);
            }
            return is_new;
        }
        let decide_at = now + refute_time(self.live_count(), &self.config);
        let generation = self.start_suspicion(now, key, suspectors);
        self.timers
            .push(decide_at, Timer::Suspicion(key, generation));
        true
    }

    /// Makes a live member suspect. Gives the generation of the suspicion.
    pub(super) fn start_suspicion(&mut self, now: Time, key: u64, suspectors: Suspectors) -> u32 {
        self.suspicion_generation = self.suspicion_generation.wrapping_add(1);
        let suspicion = Suspicion {
            since: now,
            suspectors,
            generation: self.suspicion_generation,
        };
        let phi = suspicion.phi();
        let member = self.table.update(now, key, |entry| {
            entry.state = MemberState::Suspect;
            entry.faults_mut().suspicion = Some(Box::new(suspicion));
            entry.member()
        });
        self.enqueue_gossip(now, key);
        // Of an unreachable member it is not emitted: it was suspected before, and refuted.
        if !member.unreachable {
            self.emit(Event::NodeSuspect { member, phi });
            self.note_suspicion(now);
        }
        self.suspicion_generation
    }

    /// Probes a suspect with the chance that [`verifiers`](DetectorHooks::verifiers) of those that
    /// first hear of the suspicion do.
    pub(super) fn maybe_verify_suspicion(&mut self, now: Time, key: u64) {
        let verifiers = self.detector.verifiers();
        if verifiers > 0.0 && self.rng.f64() < verifiers / self.live_count() as f64 {
            self.start_probe(now, key);
        }
    }

    /// Handles the timer of a suspicion. Suspectors alone decide; the others probe the suspect
    /// until it answers or they suspect it too.
    pub(super) fn on_suspicion_timer(&mut self, now: Time, key: u64, generation: u32) {
        self.decide_failure(now, key);
        let suspicion = self
            .table
            .get(key)
            .and_then(|entry| entry.faults().suspicion.as_ref());
        let Some(suspicion) = suspicion.filter(|s| s.generation == generation) else {
            return;
        };
        let unresolved = 2 * self.config.probe_interval;
        if now.since(suspicion.since) >= unresolved {
            self.start_probe(now, key);
        }
        self.timers
            .push(now + unresolved, Timer::Suspicion(key, generation));
    }

    pub(super) fn decide_failure(&mut self, now: Time, key: u64) {
        let isolated = self.is_isolated(now);
        let Some(entry) = self.table.get(key) else {
            return;
        };
        let Some(suspicion) = &entry.faults().suspicion else {
            return;
        };
        let input = DecisionInput {
            live: self.live_count(),
            own: entry.faults().evidence,
            own_misses_needed: self.detector.own_misses_to_decide(),
            // Datagrams of the time of isolation, refutations included, have yet to be merged.
            age: now.since(
                suspicion
                    .since
                    .max(self.partition.contact.silence_ended_at()),
            ),
        };
        let decides = input.own_misses_needed == 0 || suspicion.suspectors.contains(self.local.key);
        // An isolated observer declares no member failed: its own network is the likely cause.
        if decides && !isolated && should_declare_failed(suspicion, input, &self.config) {
            self.stats.failures_declared += 1;
            #[cfg(feature = "unstable")]
            self.record_failure_decision(now, key);
            let alone = self.table.live().len() == 1;
            self.mark_failed(now, key);
            if alone {
                // Without a witness it is not gossiped to members that may recover.
                self.gossip_queue.remove(key);
            }
        }
    }

    /// Makes a member failed, by this node's own decision or on another's claim.
    pub(super) fn mark_failed(&mut self, now: Time, key: u64) {
        let (unit, redial) = (self.config.probe_interval, self.config.redial_interval);
        // A member that fails with a large part of the cluster is partitioned, which is no
        // flapping.
        let counts = self.detector.damps_flaps() && !self.partition.is_suspected();
        let flaps_from = self.flap_window_start(now);
        let relapse_window = RELAPSE_ROUNDS * unit;
        let member = self.table.update(now, key, |entry| {
            entry.state = MemberState::Failed;
            entry.rtt_state.clear_findings();
            let faults = entry.faults_mut();
            faults.suspicion = None;
            faults.claimed_failed_at = None;
            faults.unreachable.on_failed();
            faults.redials_unanswered = 0;
            faults.next_redial_at = now + redial;
            faults.expire_flaps(flaps_from);
            // An outage in which one refutation came through is one outage: time proves nothing
            // then.
            let is_relapse = |at: Time| now.since(at) < relapse_window;
            faults.relapsed =
                counts && faults.flap_count == 1 && faults.recovered_at.is_some_and(is_relapse);
            // The first recovery is immediate; a member that flaps is held down longer each time.
            faults.flap_count = faults.flap_count.saturating_add(u8::from(counts));
            faults.redials_answered = 0;
            faults.held_until = Some(now + hold_down_rounds(faults) * unit);
            entry.member()
        });
        self.enqueue_gossip(now, key);
        self.timers
            .set_if_unset(NamedTimer::Redial, now + self.config.redial_interval);
        self.emit(Event::NodeFailed(member));
    }

    /// Takes back the flap that was counted for members that went missing with a partition.
    pub(super) fn undo_partition_flaps(&mut self, now: Time) {
        let from = self.missing_window_start(now);
        let missing = self.table.missing_entries(from).map(|entry| entry.key);
        for key in missing.collect::<Vec<_>>() {
            if let Some(entry) = self.table.get_mut(key) {
                let faults = entry.faults_mut();
                faults.flap_count = faults.flap_count.saturating_sub(1);
                let hold = hold_down_rounds(faults) * self.config.probe_interval;
                faults.held_until = Some(now + hold);
            }
        }
    }

    /// Takes in whether a failed member answered a redial. One that is held down has to answer
    /// several in a row, and each that it misses starts its hold anew.
    pub(super) fn on_redial_result(&mut self, now: Time, key: u64, answered: bool) {
        let unit = self.config.probe_interval;
        let relapsed = self.table.get(key).is_some_and(|e| e.faults().relapsed);
        let again = now + self.held_redial_interval(relapsed);
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        if entry.state != MemberState::Failed || !entry.faults().is_flapping() {
            return;
        }
        let faults = entry.faults_mut();
        if answered {
            faults.redials_answered = faults.redials_answered.saturating_add(1);
            faults.redials_unanswered = 0;
            self.table.set_redial(key, again);
            if relapsed {
                self.timers.set_no_later(NamedTimer::Redial, again);
            }
        } else {
            faults.redials_answered = 0;
            let end = now + hold_down_rounds(faults) * unit;
            faults.held_until = faults.held_until.max(Some(end));
        }
    }

    /// Redials a held-down member at once when it says that it is alive, if its outage may have
    /// been the only one, so that it can begin to prove itself.
    pub(super) fn redial_relapsed_now(&mut self, now: Time, key: u64) {
        let Some(faults) = self.table.get(key).map(super::Entry::faults) else {
            return;
        };
        if faults.relapsed && faults.redials_answered == 0 && faults.next_redial_at > now {
            self.table.set_redial(key, now);
        }
    }

    /// Time between two redials of a held-down member that answers, by each of the others, so that
    /// their number does not swamp it.
    fn held_redial_interval(&self, relapsed: bool) -> Duration {
        let observers = self.live_count() as f64 / HELD_REDIALLERS_MAX;
        if relapsed {
            let interval = self.config.probe_interval / 2;
            return interval.mul_f64(observers.clamp(1.0, RELAPSE_REDIAL_INTERVAL_MAX));
        }
        self.config
            .redial_interval
            .mul_f64(observers.clamp(1.0, HELD_REDIAL_INTERVAL_MAX))
    }

    /// Time before which flaps no longer count, if their hold has ended.
    pub(super) fn flap_window_start(&self, now: Time) -> Time {
        now - FLAP_MEMORY_ROUNDS * self.config.probe_interval
    }
}

/// How long a member is held down after so many flaps, in probe intervals.
fn hold_down_rounds(faults: &FaultHistory) -> u32 {
    let flaps = faults.flap_count;
    if faults.relapsed {
        return 0;
    }
    let doublings = u32::from(flaps.saturating_sub(2)).min(FLAP_DOUBLINGS_MAX);
    if flaps > 1 {
        FLAP_HOLD_ROUNDS << doublings
    } else {
        0
    }
}

/// How long the recoveries of a failed member are counted, in probe intervals.
const FLAP_MEMORY_ROUNDS: u32 = 600;
/// Hold of a member that recovered once before, in probe intervals.
const FLAP_HOLD_ROUNDS: u32 = 30;
/// A member that fails again within so many probe intervals of its recovery had not recovered.
const RELAPSE_ROUNDS: u32 = 12;
/// Longest time between two redials of a relapsed member, in halves of a probe interval.
const RELAPSE_REDIAL_INTERVAL_MAX: f64 = 2.0;
/// Doublings of the hold, at most: 32 times 30 probe intervals.
const FLAP_DOUBLINGS_MAX: u32 = 5;
/// Members that redial a held-down one in each redial interval, at most.
const HELD_REDIALLERS_MAX: f64 = 128.0;
/// Longest time between two redials of a held-down member that answers, in redial intervals.
const HELD_REDIAL_INTERVAL_MAX: f64 = 8.0;
