//! Settings of a configuration as simulators read them, which compute bounds from them.

use std::net::SocketAddr;
use std::time::Duration;

use super::ClusterConfig;

/// Getters of settings, each named after its setter.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// Settings for simulators. Not covered by semantic versioning.
        impl ClusterConfig {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> $type { self.$name })*
        }
    };
}

settings! {
    /// Address that others are told to send to, if it is set.
    advertise_addr: Option<SocketAddr>,
    /// Helpers of a probe round.
    indirect_probes: usize,
    /// Wait before a partition is reported.
    partition_grace: Duration,
    /// Evidence that it takes to declare a member failed.
    phi_threshold: f64,
    /// Time between two probe rounds.
    probe_interval: Duration,
    /// Time between two redials of a failed member.
    redial_interval: Duration,
    /// Ring successors probed in each probe interval.
    ring_successors: usize,
    /// Longest suspicion.
    suspicion_max: Duration,
}

/// The setting that has a default of its own.
impl ClusterConfig {
    /// Least time that a suspect has to refute.
    #[must_use]
    pub fn refute_time(&self) -> Duration {
        self.effective_refute_time()
    }
}
