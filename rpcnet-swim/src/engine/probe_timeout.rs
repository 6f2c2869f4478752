//! Probe timeout: the stages of a round without an answer, and whether it counts as a missed probe.

use super::probe_round::{ProbeRound, Stage};
use super::timers::Timer;
use super::{DetectorHooks, Engine, Entry};
use crate::config::DATAGRAM_BYTES_MIN;
use crate::time::Time;

impl<D: DetectorHooks> Engine<D> {
    /// Handles the timer of a probe round: its next stage begins, or it ends.
    pub(super) fn on_probe_round_timer(&mut self, now: Time, seq: u32) {
        let needed = self.detector.witnesses_needed();
        let Some(round) = self.probes.rounds.get_mut(seq) else {
            return;
        };
        match round.stage {
            Stage::Direct => {
                round.second_ping_at = Some(now);
                round.stage = Stage::Indirect;
                let (key, end) = (round.key, round.end);
                let end = end + self.extra_timeout(now, key);
                let helpers = self.send_ping_reqs(key, seq);
                if let Some(round) = self.probes.rounds.get_mut(seq) {
                    round.helpers = helpers;
                }
                if self.detector.repeats_ping() {
                    self.ping(key, seq.wrapping_add(1), DATAGRAM_BYTES_MIN);
                }
                self.timers.push(end.max(now), Timer::ProbeRound(seq));
            }
            Stage::Indirect if round.lacks_witness(needed) => {
                // Far away, a nack takes longer than the share of the round it is given.
                round.extended = true;
                let helpers: Vec<u64> = round.helpers.iter().map(|(key, _)| *key).collect();
                let slowest = helpers
                    .iter()
                    .map(|key| self.extra_timeout(now, *key))
                    .max();
                let more = self.config.effective_probe_timeout() / 2 + slowest.unwrap_or_default();
                self.timers.push(now + more, Timer::ProbeRound(seq));
            }
            Stage::Indirect | Stage::Redial => {
                if let Some(round) = self.probes.rounds.remove(seq) {
                    self.on_round_ended(now, &round);
                }
            }
        }
    }

    /// Handles the end of a round without an answer.
    fn on_round_ended(&mut self, now: Time, round: &ProbeRound) {
        if round.stage == Stage::Redial {
            if !round.stalled && !self.is_isolated(now) {
                self.on_redial_result(now, round.key, false);
            }
            return;
        }
        let is_live = |entry: &Entry| entry.epoch == round.epoch && entry.state.is_live();
        if self.table.get(round.key).is_some_and(is_live)
            && !D::on_round_unanswered(self, now, round)
        {
            self.conclude_round(now, round);
        }
        let is_live = self.table.get(round.key).is_some_and(is_live);
        if is_live && !round.stalled {
            self.record_round_outcome(now, round.key, false);
        }
    }

    /// Judges a round to a live member that ended without an answer.
    fn conclude_round(&mut self, now: Time, round: &ProbeRound) {
        // Without a witness the silence may be this node's own. With no member to ask, it counts.
        let alone = round.helpers.is_empty() && self.table.live().len() == 1;
        let witnessed = alone || round.is_witnessed(self.detector.witnesses_needed());
        if round.stalled || !witnessed {
            self.stats.inconclusive_rounds += 1;
        }
        if round.stalled {
            return;
        }
        self.await_late_answer(round, false);
        let silent = round.helpers.iter().filter(|(_, nacked)| !nacked);
        for key in silent.map(|(key, _)| *key).chain([round.key]) {
            if let Some(entry) = self.table.get_mut(key) {
                entry.unanswering = true;
            }
        }
        if !witnessed {
            // It counts as loss all the same, if this node hears others and then that member.
            if !self.is_isolated(now)
                && let Some(entry) = self.table.get_mut(round.key)
            {
                let faults = entry.faults_mut();
                faults.unanswered = faults.unanswered.saturating_add(1);
            }
            return;
        }
        self.stats.missed_probes += 1;
        self.on_missed_probe(now, round.key);
    }
}
