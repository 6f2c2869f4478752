//! Evidence: phi of a member, by the missed probes of this node.

use super::{DetectorHooks, Engine};
use crate::event::MemberState;
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::{Confirmation, Suspectors};

/// Evidence of this node's own probes of a member. An answer resets it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// Consecutive witnessed misses.
    pub misses: u16,
    /// Sum of their phi.
    pub phi: f32,
}

impl Evidence {
    /// No missed probe.
    pub const NONE: Self = Self {
        misses: 0,
        phi: 0.0,
    };

    /// Adds a missed probe that weighs `phi`.
    pub fn add_miss(&mut self, phi: f64) {
        self.misses = self.misses.saturating_add(1);
        self.phi += phi as f32;
    }

    /// Whether this node is to suspect the member: on a clean network from the first miss on, at 30
    /// % loss from the third.
    pub fn reaches_suspect_threshold(&self) -> bool {
        f64::from(self.phi) >= SUSPECT_PHI
    }
}

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

    /// Clears the evidence of this node against a member that answered: it was loss. Claims of
    /// others stay, as they may be newer than the ping that was answered.
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
}

/// Phi from which on a node suspects a member.
const SUSPECT_PHI: f64 = 1.5;
