//! How one call to a worker is made.

use std::time::Duration;

use tokio::time::Instant;

use super::ClusterClientConfig;

/// How one call differs from what the [`ClusterClientConfig`] says.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerCallOptions {
    limit: Limit,
    attempts_max: Option<usize>,
    idempotent: Option<bool>,
    key: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Limit {
    #[default]
    OfClient,
    Within(Duration),
    By(Instant),
    None,
}

impl WorkerCallOptions {
    /// A call as the config says.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Time for the call with all its attempts, in place of
    /// [`ClusterClientConfig::with_timeout`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.limit = Limit::Within(timeout);
        self
    }

    /// The call with all its attempts ends at this time at the latest: for a handler that calls on, its own deadline.
    #[must_use]
    pub fn with_deadline(mut self, deadline: std::time::Instant) -> Self {
        self.limit = Limit::By(deadline.into());
        self
    }

    /// The call may take for ever: for streams that are meant to stay open. It still ends with its connection.
    #[must_use]
    pub fn without_deadline(mut self) -> Self {
        self.limit = Limit::None;
        self
    }

    /// How often it is tried at the most, at least 1.
    #[must_use]
    pub fn with_attempts_max(mut self, attempts: usize) -> Self {
        self.attempts_max = Some(attempts.max(1));
        self
    }

    /// Whether running it twice does no harm, whatever the config says of the method.
    #[must_use]
    pub fn with_idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = Some(idempotent);
        self
    }

    /// A hash of what the call is about, for balancers that send equal keys to the same worker.
    #[must_use]
    pub fn with_key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// What holds for a call of `method` that is made now.
    pub(super) fn plan(&self, config: &ClusterClientConfig, method: &str) -> Plan {
        let after = |wait| Instant::now().checked_add(wait);
        Plan {
            deadline: match self.limit {
                Limit::OfClient => after(config.timeout),
                Limit::Within(timeout) => after(timeout),
                Limit::By(deadline) => Some(deadline),
                Limit::None => None,
            },
            attempts_max: self.attempts_max.unwrap_or(config.attempts_max),
            idempotent: self
                .idempotent
                .unwrap_or_else(|| config.idempotent.contains(method)),
            key: self.key,
        }
    }
}

/// The settings of one call, config and options taken together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) deadline: Option<Instant>,
    pub(super) attempts_max: usize,
    pub(super) idempotent: bool,
    pub(super) key: Option<u64>,
}
