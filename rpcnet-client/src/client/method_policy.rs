//! Policy of one method.

use std::time::Duration;

use rpcnet_balance::Hedging;

/// Policy of one method, in place of what the
/// [`ClusterClientConfig`](super::ClusterClientConfig) says for all methods.
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
    /// A method as the config says.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the method is idempotent: running it twice does no harm. Default `false`, unless it
    /// [hedges](Self::with_hedging). A call is retried also when it is not known whether it ran.
    #[must_use]
    pub fn with_idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Whether each call without an
    /// [idempotency key](super::WorkerCallOptions::with_idempotency_key) gets one of its own;
    /// default `false`. It is then retried as if it were idempotent, so only for methods whose
    /// workers have an idempotency cache. The key is the same for all attempts.
    #[must_use]
    pub fn with_generated_keys(mut self, generated: bool) -> Self {
        self.generates_idempotency_keys = generated;
        self
    }

    /// Timeout of a call with all its attempts, in place of the client's; of streams to their end.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Timeout of each attempt, in place of the
    /// [client's](super::ClusterClientConfig::with_attempt_timeout).
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Whether an error that the handler answered with counts as a failure of the worker, in place
    /// of what holds for the client: see
    /// [`ClusterClientConfig::with_application_errors_as_failures`][config].
    ///
    /// [config]: super::ClusterClientConfig::with_application_errors_as_failures
    #[must_use]
    pub fn with_application_errors_as_failures(mut self, fail: bool) -> Self {
        self.application_errors_fail = Some(fail);
        self
    }

    /// Hedging: calls that take long are sent to another worker as well. The method counts as
    /// idempotent, since it runs twice now and then.
    #[must_use]
    pub fn with_hedging(mut self, hedging: Hedging) -> Self {
        self.hedging = Some(hedging);
        self
    }

    /// This policy, with the timeout of attempts and the meaning of errors of another one where it
    /// says nothing about them.
    pub(super) fn or(&self, defaults: &Self) -> Self {
        let errors_fail = self.application_errors_fail;
        Self {
            attempt_timeout: self.attempt_timeout.or(defaults.attempt_timeout),
            application_errors_fail: errors_fail.or(defaults.application_errors_fail),
            ..*self
        }
    }
}
