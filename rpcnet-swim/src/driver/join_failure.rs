//! Join failures: the reason for which no seed has let a node in, and the log lines of joining.

use super::outcome::{JoinError, SeedFailure, format_seed_failures};
use super::shared::DriverShared;

impl DriverShared {
    /// The seeds to resolve, if there are any.
    pub(super) fn seeds(&self) -> Option<Vec<String>> {
        let seeds = self.seeds.lock().texts().to_vec();
        Some(seeds).filter(|seeds| !seeds.is_empty())
    }

    /// The reason for which no seed has let this node in.
    pub(super) fn join_failure(&self) -> JoinError {
        let (skew, refusal) = self.read(|engine| (engine.clock_refusal(), engine.join_refusal()));
        match (skew, refusal) {
            (Some((member, apart)), _) => JoinError::ClockSkew { member, apart },
            (None, Some((by, reason))) => JoinError::Refused { by, reason },
            (None, None) => JoinError::NoSeedAnswered {
                seeds: self.seed_failures(),
            },
        }
    }

    /// Each seed and its failure, as far as it is known.
    pub(super) fn seed_failures(&self) -> Vec<(String, SeedFailure)> {
        let refusals: Vec<_> = self.read(|engine| engine.seed_refusals().collect());
        self.seeds.lock().failures(&refusals)
    }

    /// Logs that this node has joined: through a seed, or as a cluster of its own.
    pub(super) fn log_joined(&self, has_bootstrapped: bool) {
        let is_alone = self.read(|engine| engine.live_count()) == 1;
        match is_alone {
            true if has_bootstrapped => self.warn_bootstrapped_alone(),
            true => tracing::info!("no other seed to join: this node is a cluster of its own"),
            false => tracing::info!("joined the cluster"),
        }
    }

    /// Warns, once, that no other seed answered in time.
    fn warn_bootstrapped_alone(&self) {
        if !self.seeds.lock().record_bootstrap_logged() {
            return;
        }
        let mut others = self.seed_failures();
        self.seeds.lock().retain_foreign(&mut others);
        tracing::warn!(
            seeds = format_seed_failures(&others),
            "no other seed answered: this node began a cluster of its own, and goes on dialling them"
        );
    }
}
