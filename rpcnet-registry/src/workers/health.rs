//! Passive health checks of workers, by the outcomes of calls.

use std::{sync::Arc, time::Instant};

use rpcnet_balance::{
    Endpoint, Time,
    health::{HealthConfig, HealthStats},
};

use super::{health_event::HealthEvents, registry::WorkerRegistry};

/// Passive health checks.
impl WorkerRegistry {
    /// Sets how workers are checked by the outcomes that [`Worker::report`](super::Worker::report)
    /// records. Default [`HealthConfig::new`]: see [`rpcnet_balance::health`]. All workers are
    /// compared with each other, whatever they serve.
    #[must_use]
    pub fn with_health(self, config: HealthConfig) -> Self {
        self.selection_state.reset_groups(|selection| {
            selection.health = Arc::new(selection.health.with_config(config));
        });
        self
    }

    /// Switches passive health checks off: only workers that say that they drain are flagged.
    #[must_use]
    pub fn without_health(self) -> Self {
        self.with_health(HealthConfig::none())
    }

    /// Ignores suspicion: suspect nodes are selected like others. For clusters whose suspicion is
    /// mostly wrong; by default they are selected only when no other worker is left.
    #[must_use]
    pub fn without_suspicion(self) -> Self {
        self.selection_state.reset_groups(|selection| {
            selection.health = Arc::new(selection.health.without_suspicion());
        });
        self
    }

    /// Sets the clock of the registry's balancers and health checks, which has to be monotonic.
    /// Default [`Instant::now`]. For runtimes whose time is not that of the system, as tokio's
    /// paused time in tests.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> Instant) -> Self {
        self.selection_state.reset_groups(|selection| {
            selection.health = Arc::new(selection.health.with_clock(clock));
        });
        self
    }

    /// Sets the seed of the random choices of health checks, for a run that can be repeated.
    /// Default: a random one. The balancer has [a seed of its
    /// own](super::LoadBalancingStrategy::seeded_balancer).
    #[must_use]
    pub fn with_rng_seed(self, seed: u64) -> Self {
        self.selection_state.reset_groups(|selection| {
            selection.health = Arc::new(selection.health.with_rng_seed(seed));
        });
        self
    }

    /// Counters of passive health checks.
    #[must_use]
    pub fn health_stats(&self) -> HealthStats {
        self.selection_state
            .selection
            .load()
            .health
            .detector
            .stats()
    }

    /// Subscribes to health events from now on.
    #[must_use]
    pub fn subscribe_health(&self) -> HealthEvents {
        HealthEvents {
            receiver: self
                .selection_state
                .selection
                .load()
                .health
                .events
                .receiver(),
        }
    }

    /// The present time on the clock of the registry's balancers.
    #[must_use]
    pub fn now(&self) -> Time {
        self.selection_state.selection.load().health.now()
    }

    /// Zero of the [times](Self::time) of the registry's balancers. It never changes once the
    /// registry is shared.
    #[must_use]
    pub fn epoch(&self) -> Instant {
        self.selection_state.selection.load().health.began()
    }

    /// A time of the registry's [clock](Self::with_clock), by default the system's, on the clock of
    /// its balancers.
    #[must_use]
    pub fn time(&self, at: Instant) -> Time {
        self.selection_state.selection.load().health.time(at)
    }

    /// Records that a connection to the worker of this [endpoint](super::Worker::endpoint) failed:
    /// it is flagged, if [health](Self::with_health) is on. For failures that are found outside of
    /// calls.
    pub fn on_unreachable(&self, endpoint: &Endpoint) {
        self.selection_state
            .selection
            .load()
            .health
            .on_unreachable(endpoint);
    }

    /// Records that the last connection to the worker was lost: like
    /// [`on_unreachable`](Self::on_unreachable), except that a call may still wait for the next
    /// connection, until an attempt to make it fails.
    pub fn on_disconnected(&self, endpoint: &Endpoint) {
        self.selection_state
            .selection
            .load()
            .health
            .on_disconnected(endpoint);
    }

    /// Records that the worker can be reached: it is no longer flagged as unreachable.
    pub fn on_reachable(&self, endpoint: &Endpoint) {
        self.selection_state
            .selection
            .load()
            .health
            .on_reachable(endpoint);
    }

    /// Sets whether the worker drains.
    pub fn set_draining(&self, endpoint: &Endpoint, draining: bool) {
        let selection = self.selection_state.selection.load();
        selection.health.set_draining(endpoint, draining);
    }
}
