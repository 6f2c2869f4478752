//! Settings of a connection pool.

use std::{num::NonZeroUsize, time::Duration};

/// Settings of a [`ConnectionPool`](super::ConnectionPool).
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig {
    pub(super) connect_timeout: Duration,
    pub(super) connections_per_target_max: NonZeroUsize,
    pub(super) surplus_idle_timeout: Duration,
}

impl PoolConfig {
    /// Default settings.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            connections_per_target_max: NonZeroUsize::new(4).unwrap(),
            surplus_idle_timeout: Duration::from_secs(30),
        }
    }

    /// Time for a handshake; default 1 s. The endpoint's own
    /// [`with_connect_timeout`](crate::TransportConfig::with_connect_timeout) bounds it too. A
    /// shorter one reports an unreachable target sooner, a longer one suits far and busy ones.
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Limit of connections to one target; default 4. Calls share one connection. Another one is
    /// made when for 100 ms all of them carry as many calls as the server takes on a connection, so
    /// that calls have to wait; then each call takes the one with the fewest. More let a single
    /// client ask more of a server, and let it take a larger part of what the server can do for
    /// all.
    #[must_use]
    pub const fn with_connections_per_target_max(mut self, connections: NonZeroUsize) -> Self {
        self.connections_per_target_max = connections;
        self
    }

    /// Idle timeout of surplus connections: for how long the other connections to a target must
    /// have been enough, with a quarter to spare, until the latest one is retired; default 30 s.
    /// It ends with the last call on it. A shorter one saves the memory of connections that stand
    /// by, a longer one the handshakes of load that comes and goes.
    #[must_use]
    pub const fn with_surplus_idle_timeout(mut self, timeout: Duration) -> Self {
        self.surplus_idle_timeout = timeout;
        self
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self::new()
    }
}
