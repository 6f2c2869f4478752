//! Failure decision: when a suspicion suffices to declare a member failed.

use std::time::Duration;

use super::evidence::Evidence;
use super::flap_damping::{RELAPSE_ROUNDS, hold_down_rounds};
use super::suspicion::{SUSPECTOR_PHI_MAX, Suspicion, time_to_refute};
use super::timers::{NamedTimer, Timer};
use super::{DetectorHooks, Engine};
use crate::config::ClusterConfig;
use crate::event::{Event, MemberState};
use crate::time::Time;

impl<D: DetectorHooks> Engine<D> {
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

    /// Declares a suspect failed if the suspicion suffices and this node is one of the suspectors.
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
            entry.clear_findings();
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
}

/// Input of the decision beside the suspicion itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecisionInput {
    /// Live members, this node and the suspect included.
    pub(crate) live: usize,
    pub(crate) own: Evidence,
    /// Own misses that the decision takes.
    pub(crate) own_misses_needed: u16,
    pub(crate) age: Duration,
}

/// Whether a suspect is to be declared failed. Only suspectors ask: on the others the suspicion
/// never times out.
pub(crate) fn should_declare_failed(
    suspicion: &Suspicion,
    input: DecisionInput,
    config: &ClusterConfig,
) -> bool {
    let DecisionInput {
        live,
        own,
        own_misses_needed,
        age,
    } = input;
    if own.misses < own_misses_needed || age < time_to_refute(live, config) {
        return false;
    }
    // Time is no evidence: a node that was not told of a refutation keeps the suspicion as long as
    // one that is right, with next to no evidence of its own.
    if age >= config.suspicion_max && f64::from(own.phi) >= SUSPECTOR_PHI_MAX {
        return true;
    }
    let needed = live.saturating_sub(1).clamp(1, 2);
    let phi = match needed {
        // With no other member to ask, there will never be other evidence.
        1 => f64::from(own.phi),
        _ => suspicion.phi(),
    };
    suspicion.suspectors.confirmations().len() >= needed && phi >= config.phi_threshold
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Confirmation, Suspectors};

    fn check(phis: &[f64], misses: u16, own_phi: f32, live: usize, age_ms: u64) -> bool {
        let mut suspectors = Suspectors::default();
        for (by, phi) in phis.iter().enumerate() {
            suspectors.merge(Confirmation::new(by as u64, *phi));
        }
        let suspicion = Suspicion {
            since: Time::ZERO,
            suspectors,
            generation: 0,
        };
        let own = Evidence {
            misses,
            phi: own_phi,
        };
        let input = DecisionInput {
            live,
            own,
            own_misses_needed: 2,
            age: Duration::from_millis(age_ms),
        };
        should_declare_failed(&suspicion, input, &ClusterConfig::lan())
    }

    #[test]
    fn declaring_failed_needs_suspectors_phi_own_misses_and_time() {
        assert!(check(&[4.0, 4.0], 2, 4.0, 10, 650));
        // Each condition alone missing:
        assert!(!check(&[4.0, 4.0], 1, 4.0, 10, 650), "own misses");
        assert!(!check(&[4.0, 4.0], 2, 4.0, 10, 649), "time to refute");
        assert!(!check(&[4.0, 3.9], 2, 4.0, 10, 650), "phi");
        assert!(!check(&[15.0], 5, 15.0, 10, 650), "a second suspector");
        assert!(
            !check(&[15.0, 3.0], 5, 15.0, 10, 650),
            "one suspector is capped"
        );
        // The time to refute grows with the cluster: 0.65 s * log10(1000).
        assert!(!check(&[4.0, 4.0], 2, 4.0, 1_000, 1_949));
        assert!(check(&[4.0, 4.0], 2, 4.0, 1_000, 1_950));
    }

    #[test]
    fn with_two_live_members_own_evidence_decides() {
        assert!(check(&[8.0], 4, 8.0, 2, 4_000));
        assert!(!check(&[7.9], 3, 7.9, 2, 4_000));
    }

    #[test]
    fn after_the_longest_suspicion_own_evidence_alone_decides() {
        assert!(check(&[4.0], 2, 4.0, 10, 20_000));
        assert!(!check(&[4.0], 2, 4.0, 10, 19_999), "time");
        assert!(!check(&[4.0], 1, 4.0, 10, 20_000), "own misses");
        assert!(!check(&[3.9], 9, 3.9, 10, 20_000), "own phi");
        assert!(
            !check(&[3.9, 4.0], 9, 3.9, 10, 20_000),
            "own phi, not another's"
        );
    }
}
