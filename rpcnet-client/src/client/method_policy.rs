//! What is special about a method.

use std::time::Duration;

use rpcnet_balance::Hedging;

/// How calls of one method are made, where it differs from what the
/// [`ClusterClientConfig`](super::ClusterClientConfig) says for all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MethodPolicy {
    pub(super) idempotent: bool,
    pub(super) generates_idempotency_keys: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) hedging: Option<Hedging>,
    pub(super) application_errors_fail: Option<bool>,
}

impl MethodPolicy {
    /// Nothing special.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether running it twice does no harm; default `false`, unless it [hedges](Self::with_hedging). A call is tried again also
    /// when it is not known whether it ran.
    #[must_use]
    pub fn with_idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Whether each call that comes without an [idempotency key](super::WorkerCallOptions::with_idempotency_key) gets one of
    /// its own; default `false`. It is then tried again as if it were idempotent, so only for methods whose workers
    /// remember keys. The key is the same for all attempts.
    #[must_use]
    pub fn with_generated_keys(mut self, generated: bool) -> Self {
        self.generates_idempotency_keys = generated;
        self
    }

    /// Time for a call with all its attempts, in place of the client's; of streams to their end.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Time for each attempt, in place of the
    /// [client's](super::ClusterClientConfig::with_attempt_timeout).
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Whether an error that the handler answered with counts as a failure of the worker, in place of what holds for
    /// the client: see [`ClusterClientConfig::with_application_errors_as_failures`](super::ClusterClientConfig::with_application_errors_as_failures).
    #[must_use]
    pub fn with_application_errors_as_failures(mut self, fail: bool) -> Self {
        self.application_errors_fail = Some(fail);
        self
    }

    /// Sends calls that take long to another worker as well. The method is taken for idempotent: it runs twice now and then.
    #[must_use]
    pub fn with_hedging(mut self, hedging: Hedging) -> Self {
        self.hedging = Some(hedging);
        self
    }
}
