//! Options of one call to a worker.

use std::time::Duration;

use rpcnet_balance::{Hedging, retry::MethodPolicy};
use rpcnet_transport::{CallOptions, MethodOptions, Priority};

/// Options of one call, in place of what the [`ClusterClientConfig`](super::ClusterClientConfig)
/// and the policy of its method say.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerCallOptions {
    /// Options of all its attempts.
    pub(super) attempt: CallOptions,
    pub(super) policy: MethodPolicy,
    pub(super) idempotent: Option<bool>,
    pub(super) generates_key: Option<bool>,
    pub(super) key: Option<u64>,
}

impl WorkerCallOptions {
    /// A call as the config and the policy of its method say.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            attempt: CallOptions::new(),
            policy: MethodPolicy::new(),
            idempotent: None,
            generates_key: None,
            key: None,
        }
    }

    /// Timeout of the call with all its attempts, in place of
    /// [`ClusterClientConfig::with_timeout`](super::ClusterClientConfig::with_timeout); of streams
    /// to their end.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.attempt = self.attempt.with_timeout(timeout);
        self
    }

    /// Deadline of the call with all its attempts.
    #[must_use]
    pub fn with_deadline(mut self, deadline: std::time::Instant) -> Self {
        self.attempt = self.attempt.with_deadline(deadline);
        self
    }

    /// No deadline: the call may take as long as its connection lasts, as streams may by default.
    /// It still ends with the call that is being served here, unless it is made
    /// [without inheritance](Self::without_inheritance).
    #[must_use]
    pub fn without_deadline(mut self) -> Self {
        self.attempt = self.attempt.without_deadline();
        self
    }

    /// Limit of attempts, at least 1.
    #[must_use]
    pub fn with_attempts_max(mut self, attempts: usize) -> Self {
        self.policy = self.policy.with_attempts_max(attempts);
        self
    }

    /// Whether the call is idempotent: running it twice does no harm.
    #[must_use]
    pub fn with_idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = Some(idempotent);
        self
    }

    /// Hash of what the call is about, for balancers that send equal keys to the same worker.
    #[must_use]
    pub fn with_key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// Idempotency key, which no other call has and all attempts of this one share: 16 random bytes
    /// will do. Workers with an
    /// [idempotency cache](rpcnet_transport::Router::with_idempotency) run the call once and answer
    /// repeats from the cache, so it is retried although it may have been processed. A caller that
    /// makes the same call anew after a failure gives it the same key.
    ///
    /// Unless the call is idempotent as well, such a retry goes back to the worker that may have
    /// processed the attempt before, as long as it is the same process, and to another worker only
    /// if that fails too: another worker runs the call again, unless they share a cache. Workers
    /// without a cache ignore the key.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: u128) -> Self {
        self.attempt = self.attempt.with_idempotency_key(key);
        self
    }

    /// Whether the call gets an idempotency key of its own, if it has none: see
    /// [`MethodPolicy::with_generated_keys`].
    #[must_use]
    pub fn with_generated_key(mut self, generated: bool) -> Self {
        self.generates_key = Some(generated);
        self
    }

    /// Timeout of each attempt, if the call may be repeated, in place of
    /// [`ClusterClientConfig::with_attempt_timeout`][config].
    ///
    /// [config]: super::ClusterClientConfig::with_attempt_timeout
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.policy = self.policy.with_attempt_timeout(timeout);
        self
    }

    /// Priority of the call when a worker is overloaded; default that of the call that is being
    /// served here ([`inherited`](rpcnet_transport::inherited)), or [`Priority::Critical`].
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.attempt = self.attempt.with_priority(priority);
        self
    }

    /// The call inherits nothing from the one that is being served here: for work that outlives it.
    /// Otherwise it ends when that one does at the latest, with all its attempts, and has its
    /// priority.
    #[must_use]
    pub fn without_inheritance(mut self) -> Self {
        self.attempt = self.attempt.without_inheritance();
        self
    }

    /// Whether an error that the handler answered with counts as a failure of the worker: see
    /// [`ClusterClientConfig::with_application_errors_as_failures`][config].
    ///
    /// [config]: super::ClusterClientConfig::with_application_errors_as_failures
    #[must_use]
    pub fn with_application_errors_as_failures(mut self, fail: bool) -> Self {
        self.policy = self.policy.with_application_errors_as_failures(fail);
        self
    }

    /// Hedging of the call. It counts as idempotent, unless
    /// [`with_idempotent`](Self::with_idempotent) says otherwise.
    ///
    /// If the config does not hedge the method, a quantile is of the calls that hedge by a quantile
    /// themselves, and applies to 256 methods at most.
    #[must_use]
    pub fn with_hedging(mut self, hedging: Hedging) -> Self {
        self.policy = self.policy.with_hedging(hedging);
        self
    }

    /// No hedging: the call goes to another worker only when one has failed. A method that the
    /// config hedges still counts as idempotent.
    #[must_use]
    pub fn without_hedging(mut self) -> Self {
        self.policy = self.policy.without_hedging();
        self
    }

    /// These options, and in their place what a call of a typed method says.
    pub(super) fn with_call_options(mut self, call: &MethodOptions) -> Self {
        if let Some(timeout) = call.timeout() {
            self = self.with_timeout(timeout);
        }
        if let Some(timeout) = call.attempt_timeout() {
            self = self.with_attempt_timeout(timeout);
        }
        if let Some(priority) = call.priority() {
            self = self.with_priority(priority);
        }
        if let Some(quantile) = call.hedge_quantile() {
            self = self.with_hedging(Hedging::at_quantile(quantile));
        }
        self.idempotent = call.idempotent().or(self.idempotent);
        self.generates_key = call.generated_keys().or(self.generates_key);
        self.key = call.sticky_key().or(self.key);
        self
    }

    /// These options, and where they say nothing what a typed method and its `call` say that no
    /// policy does.
    pub(super) fn with_method_options(
        mut self,
        method: &MethodOptions,
        call: &MethodOptions,
    ) -> Self {
        if let (false, Some(priority)) = (self.attempt.has_priority(), method.priority()) {
            self = self.with_priority(priority);
        }
        let either = |told: fn(&MethodOptions) -> Option<bool>| told(call).or_else(|| told(method));
        self.attempt = self
            .attempt
            .with_isolated(either(MethodOptions::isolated).unwrap_or_default())
            .with_replay_safe(either(MethodOptions::replay_safe).unwrap_or_default());
        self.key = self.key.or_else(|| method.sticky_key());
        self
    }
}

/// The policy of a typed method that its options make.
pub(super) fn policy_of(method: &MethodOptions) -> MethodPolicy {
    let is_idempotent = method.idempotent();
    let mut policy = MethodPolicy::new()
        .with_idempotent(is_idempotent == Some(true))
        .with_generated_keys(method.generated_keys() == Some(true));
    if let Some(timeout) = method.timeout() {
        policy = policy.with_timeout(timeout);
    }
    if let Some(timeout) = method.attempt_timeout() {
        policy = policy.with_attempt_timeout(timeout);
    }
    match method.hedge_quantile() {
        Some(quantile) if is_idempotent != Some(false) => {
            policy.with_hedging(Hedging::at_quantile(quantile))
        }
        _ => policy,
    }
}
