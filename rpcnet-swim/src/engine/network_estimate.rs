//! Estimates of loss and round-trip time, from this node's own probe rounds.

use rpcnet_phi::Estimator;

/// Loss and round-trip time of probe rounds to live members.
#[derive(Debug)]
pub(crate) struct NetworkEstimate {
    /// Chance that a round to a live member goes unanswered.
    loss: f64,
    /// Round trips of answered pings, in seconds.
    rtt: Estimator,
}

impl NetworkEstimate {
    /// Estimates before anything was observed.
    pub(crate) fn new() -> Self {
        Self {
            loss: LOSS_PRIOR,
            rtt: Estimator::new(RTT_PRIOR, RTT_PRIOR, RTT_DEVIATION_MIN).expect("positive"),
        }
    }

    pub(crate) fn loss(&self) -> f64 {
        self.loss
    }

    /// Takes in the round trip of a ping, in seconds.
    pub(crate) fn record_rtt(&mut self, seconds: f64) {
        self.rtt.observe(seconds);
    }

    /// Takes in a round that was answered.
    pub(crate) fn record_answered(&mut self, gain: f64) {
        self.loss -= self.loss * gain;
    }

    /// Takes in rounds without an answer to a member that was there all the while.
    pub(crate) fn record_lost(&mut self, rounds: u16, gain: f64) {
        for _ in 0..rounds.min(LOSS_SAMPLES_MAX) {
            self.loss += (1.0 - self.loss) * gain;
        }
    }

    /// Phi that a missed probe adds: the negative decimal logarithm of the chance that a live
    /// member leaves a round unanswered.
    pub(crate) fn miss_phi(&self) -> f64 {
        -self.loss.clamp(LOSS_MIN, LOSS_MAX).log10()
    }

    /// Phi of a round that has waited so many seconds for its answer.
    pub(crate) fn waiting_phi(&self, waited: f64) -> f64 {
        // Unanswered by now: lost, or on its way.
        let late = 10f64.powf(-self.rtt.normal().phi(waited));
        -(self.loss + (1.0 - self.loss) * late).min(1.0).log10()
    }

    /// Mean round trip, in seconds.
    #[cfg(feature = "unstable")]
    pub(crate) fn mean_rtt(&self) -> f64 {
        self.rtt.normal().mean()
    }
}

/// Assumed chance that a round to a live member goes unanswered, before any was observed.
const LOSS_PRIOR: f64 = 0.01;
/// Bounds of the observed loss as evidence: a miss is worth 3 at most and never nothing.
const LOSS_MIN: f64 = 1e-3;
const LOSS_MAX: f64 = 0.9;
/// Misses before an answer that count as loss.
const LOSS_SAMPLES_MAX: u16 = 16;
/// Assumed round trip, in seconds, before any was observed.
const RTT_PRIOR: f64 = 0.01;
/// Least deviation of round trips, in seconds: a scheduler's tick.
const RTT_DEVIATION_MIN: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    const GAIN: f64 = 1.0 / 64.0;

    #[test]
    fn a_miss_weighs_less_the_more_is_lost() {
        let mut estimate = NetworkEstimate::new();
        assert_eq!(estimate.miss_phi(), 2.0, "1 % before anything was observed");
        estimate.record_lost(u16::MAX, GAIN);
        assert!(
            (0.2..0.25).contains(&estimate.loss()),
            "16 rounds count at most"
        );
        assert!(estimate.miss_phi() < 0.7);
        for _ in 0..1_000 {
            estimate.record_answered(GAIN);
        }
        assert_eq!(estimate.miss_phi(), 3.0, "never more than 3");
    }

    #[test]
    fn a_waiting_round_gains_phi_up_to_that_of_its_loss() {
        let mut estimate = NetworkEstimate::new();
        (0..100).for_each(|_| estimate.record_rtt(0.002));
        let phi = [0.0, 0.01, 1.0].map(|waited| estimate.waiting_phi(waited));
        assert!(
            phi[0] < 0.1 && phi[0] <= phi[1] && phi[1] <= phi[2],
            "{phi:?}"
        );
        assert!((1.9..=2.0).contains(&phi[2]), "{phi:?}");
    }
}
