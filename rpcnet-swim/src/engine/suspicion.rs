//! Suspicion: who suspects a member, and how long a refutation takes.

use std::time::Duration;

use super::timers::Timer;
use super::{DetectorHooks, Engine};
use crate::config::ClusterConfig;
use crate::event::{Event, MemberState};
use crate::time::Time;
use crate::wire::Suspectors;

/// Suspicion of a member: who suspects it, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Suspicion {
    pub(crate) since: Time,
    pub(crate) suspectors: Suspectors,
    /// Number that tells the timers of this suspicion from those of an earlier one.
    pub(crate) generation: u32,
}

impl Suspicion {
    /// Phi of all suspectors, each capped: errors from one place are correlated.
    pub(crate) fn phi(&self) -> f64 {
        self.suspectors
            .confirmations()
            .iter()
            .map(|it| it.phi().min(SUSPECTOR_PHI_MAX))
            .sum()
    }
}

impl<D: DetectorHooks> Engine<D> {
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
        let decide_at = now + time_to_refute(self.live_count(), &self.config);
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
            self.record_suspicion(now);
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
}

/// Time that a refutation takes to arrive, in a cluster of `live` members.
pub(crate) fn time_to_refute(live: usize, config: &ClusterConfig) -> Duration {
    config
        .effective_refute_time()
        .mul_f64((live.max(1) as f64).log10().max(1.0))
}

/// Largest phi that counts for one suspector.
pub(super) const SUSPECTOR_PHI_MAX: f64 = 4.0;
