//! Settings of a cluster client.

use std::{collections::HashMap, num::NonZeroUsize, sync::Arc, time::Duration};

use rpcnet_balance::{BackoffRange, Hedging, RetryBudget, retry::MethodPolicy};
use rpcnet_transport::{Endpoint, pool::PoolConfig};
use tokio::time::Instant;

/// Settings of a [`ClusterClient`](super::ClusterClient).
#[derive(Debug, Clone)]
pub struct ClusterClientConfig {
    pub(super) endpoint: Endpoint,
    pub(super) timeout: Duration,
    pub(super) pool: PoolConfig,
    pub(super) methods: Arc<HashMap<Box<str>, MethodPolicy>>,
    /// Defaults of the policies of methods.
    pub(super) method_defaults: MethodPolicy,
    pub(super) budget: Option<Arc<RetryBudget>>,
    /// Zero of the times of the budget, for all clients that share it.
    pub(super) budget_created_at: Instant,
    pub(super) seed: Option<u64>,
    pub(super) backoff: BackoffRange,
    pub(super) broadcast_concurrency_max: NonZeroUsize,
}

impl ClusterClientConfig {
    /// Default settings for calls that are made from this endpoint.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            timeout: Duration::from_secs(10),
            pool: PoolConfig::new(),
            methods: Arc::default(),
            method_defaults: MethodPolicy::new(),
            budget: Some(Arc::new(RetryBudget::new())),
            budget_created_at: Instant::now(),
            seed: None,
            backoff: BackoffRange::default(),
            broadcast_concurrency_max: const { NonZeroUsize::new(64).unwrap() },
        }
    }

    /// Timeout of a unary call with all its attempts and backoff; default 10 s. Streams have no
    /// deadline unless their options or [policy](MethodPolicy::with_timeout) say so.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Limit of attempts of a call, unless the policy of the method says otherwise; default 5. See
    /// [`MethodPolicy::with_attempts_max`].
    #[must_use]
    pub fn with_attempts_max(mut self, attempts: usize) -> Self {
        self.method_defaults = self.method_defaults.with_attempts_max(attempts);
        self
    }

    /// Timeout of a handshake with a worker; default 1 s. A shorter one goes sooner to another
    /// worker, a longer one suits far and busy ones. See [`PoolConfig::with_connect_timeout`].
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.pool = self.pool.with_connect_timeout(timeout);
        self
    }

    /// Idempotent methods, which do no harm when they run twice, in addition to those named before;
    /// default none. A call of one is retried also when it is not known whether it ran.
    #[must_use]
    pub fn with_idempotent<S: AsRef<str>>(mut self, methods: impl IntoIterator<Item = S>) -> Self {
        for name in methods {
            self.change_method(name.as_ref(), |policy| policy.with_idempotent(true));
        }
        self
    }

    /// Hedging of a method: calls that take long are sent to another worker as well; default none.
    /// The method counts as idempotent. Short for a [`MethodPolicy`] that says so.
    #[must_use]
    pub fn with_hedging(mut self, method: &str, hedging: Hedging) -> Self {
        self.change_method(method, |policy| policy.with_hedging(hedging));
        self
    }

    /// Policy of a method, in place of everything that was said about the method before; default
    /// none.
    #[must_use]
    pub fn with_method(mut self, method: &str, policy: MethodPolicy) -> Self {
        self.change_method(method, |_| policy);
        self
    }

    /// Timeout of each attempt of a call that may be repeated, unless the policy of the method says
    /// otherwise; default none. See [`MethodPolicy::with_attempt_timeout`].
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.method_defaults = self.method_defaults.with_attempt_timeout(timeout);
        self
    }

    /// Retry budget: limit of the attempts that add load, which are hedges and retries after a
    /// worker was overloaded or may have processed the request. One budget for all calls, shared
    /// with clients made of clones of this config; default [`RetryBudget::new`].
    #[must_use]
    pub fn with_retry_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(Arc::new(budget));
        self
    }

    /// No retry budget: each call has as many attempts as it may have, whatever happens to the
    /// others. In an outage that is up to [`with_attempts_max`](Self::with_attempts_max) times the
    /// load.
    #[must_use]
    pub fn without_retry_budget(mut self) -> Self {
        self.budget = None;
        self
    }

    /// Whether an error that the handler answered with ([`Code::App`](rpcnet_transport::Code::App)
    /// and the like) counts as a failure of the worker, unless the policy of the method says
    /// otherwise; default `false`. See [`MethodPolicy::with_application_errors_as_failures`].
    #[must_use]
    pub fn with_application_errors_as_failures(mut self, fail: bool) -> Self {
        let defaults = self.method_defaults;
        self.method_defaults = defaults.with_application_errors_as_failures(fail);
        self
    }

    /// Seed of the jitter of backoff, for a run that can be repeated; default a random one.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Backoff before a call returns to a worker that it was tried on before, with full jitter: see
    /// [`RetryBackoff`](rpcnet_balance::retry::RetryBackoff). A worker that has said when to come
    /// back is not tried before. Attempts on other workers follow at once.
    #[must_use]
    pub fn with_backoff(mut self, range: BackoffRange) -> Self {
        self.backoff = range;
        self
    }

    /// Limit of the workers that a broadcast such as
    /// [`call_all_workers`](super::ClusterClient::call_all_workers) calls at a time; default 64.
    #[must_use]
    pub fn with_broadcast_concurrency_max(mut self, calls: NonZeroUsize) -> Self {
        self.broadcast_concurrency_max = calls;
        self
    }

    /// Limit of connections to one worker; default 4. See
    /// [`PoolConfig::with_connections_per_target_max`].
    #[must_use]
    pub fn with_connections_per_worker_max(mut self, connections: NonZeroUsize) -> Self {
        self.pool = self.pool.with_connections_per_target_max(connections);
        self
    }

    /// Idle timeout of surplus connections to a worker; default 30 s. See
    /// [`PoolConfig::with_surplus_idle_timeout`].
    #[must_use]
    pub fn with_surplus_idle_timeout(mut self, timeout: Duration) -> Self {
        self.pool = self.pool.with_surplus_idle_timeout(timeout);
        self
    }

    /// The endpoint that calls are made from.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn change_method(&mut self, name: &str, change: impl FnOnce(MethodPolicy) -> MethodPolicy) {
        let methods = Arc::make_mut(&mut self.methods);
        let policy = methods.entry(name.into()).or_default();
        *policy = change(*policy);
    }
}
