//! Suspicion: evidence of several observers, and when it suffices to declare a member failed.

use std::time::Duration;

use crate::config::ClusterConfig;
use crate::time::Time;
use crate::wire::Suspectors;

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

/// Whether a suspect is to be declared failed. Only suspectors ask: the others never time a member
/// out.
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
    if own.misses < own_misses_needed || age < refute_time(live, config) {
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

/// Time that a refutation takes to arrive, in a cluster of `live` members.
pub(crate) fn refute_time(live: usize, config: &ClusterConfig) -> Duration {
    config
        .effective_refute_time()
        .mul_f64((live.max(1) as f64).log10().max(1.0))
}

/// Phi from which on a node suspects a member.
const SUSPECT_PHI: f64 = 1.5;
/// Largest phi that counts for one suspector.
const SUSPECTOR_PHI_MAX: f64 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Confirmation;

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
