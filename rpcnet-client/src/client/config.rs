//! How calls to workers are made.

use std::{collections::HashMap, num::NonZeroUsize, sync::Arc, time::Duration};

use rpcnet_balance::{Hedging, RetryBudget};
use rpcnet_transport::Endpoint;

use super::{MethodPolicy, retry_control::SharedRetryBudget};

/// Settings of a [`ClusterClient`](super::ClusterClient).
#[derive(Debug, Clone)]
pub struct ClusterClientConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) timeout: Duration,
    pub(crate) attempts_max: usize,
    pub(crate) connect_timeout: Duration,
    pub(super) methods: Arc<HashMap<Box<str>, MethodPolicy>>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) application_errors_fail: bool,
    pub(super) budget: Option<Arc<SharedRetryBudget>>,
    pub(super) seed: Option<u64>,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) broadcast_concurrency_max: NonZeroUsize,
    pub(crate) connections_max: NonZeroUsize,
    pub(crate) surplus_idle_timeout: Duration,
}

impl ClusterClientConfig {
    /// Default settings for calls that leave from this endpoint.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            timeout: Duration::from_secs(10),
            attempts_max: 5,
            connect_timeout: Duration::from_secs(1),
            methods: Arc::default(),
            attempt_timeout: None,
            application_errors_fail: false,
            budget: Some(Arc::new(SharedRetryBudget::new(RetryBudget::new()))),
            seed: None,
            backoff: (Duration::from_millis(10), Duration::from_secs(1)),
            broadcast_concurrency_max: const { NonZeroUsize::new(64).unwrap() },
            connections_max: const { NonZeroUsize::new(4).unwrap() },
            surplus_idle_timeout: Duration::from_secs(30),
        }
    }

    /// Time for a unary call with all its attempts and the pauses between them; default 10 s. Streams have no deadline unless
    /// their options or [policy](MethodPolicy::with_timeout) say so.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a call is tried at the most, the first time included; default 5, at least 1. More attempts survive more
    /// failures at a time and put more load on a cluster that is in trouble.
    #[must_use]
    pub fn with_attempts_max(mut self, attempts: usize) -> Self {
        self.attempts_max = attempts.max(1);
        self
    }

    /// Time for a handshake with a worker; default 1 s. The endpoint's own
    /// [`with_connect_timeout`](rpcnet_transport::TransportConfig::with_connect_timeout) bounds it too. A shorter one goes
    /// sooner to another worker, a longer one suits far and busy ones.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Methods that do no harm when they run twice, in addition to those named before; default none. A call of one is
    /// tried again also when it is not known whether it ran.
    #[must_use]
    pub fn with_idempotent<S: AsRef<str>>(mut self, methods: impl IntoIterator<Item = S>) -> Self {
        for name in methods {
            self.method_policy(name.as_ref()).idempotent = true;
        }
        self
    }

    /// Sends calls of a method that take long to another worker as well; default none. The method is taken for idempotent.
    /// Short for a [`MethodPolicy`] that says so.
    #[must_use]
    pub fn with_hedging(mut self, method: &str, hedging: Hedging) -> Self {
        self.method_policy(method).hedging = Some(hedging);
        self
    }

    /// All that is special about a method, in place of what was said about it before; default nothing.
    #[must_use]
    pub fn with_method(mut self, method: &str, policy: MethodPolicy) -> Self {
        *self.method_policy(method) = policy;
        self
    }

    /// Time for each attempt of a call that may be repeated: one that is idempotent or has an idempotency key. Default: as long
    /// as the call has. A shorter one leaves time for another worker when one hangs; one below what calls take when
    /// there is much to do makes more of it. Other calls and streams do not heed it.
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// How many attempts there may be that would not be there if all went well: after a worker had too much to do, after
    /// one that may have been processed, and hedges. One budget for all calls, shared with clients made of clones of this
    /// config; default [`RetryBudget::new`]: one for ten calls that succeed, 10 more a second, and 100 saved up. An attempt after one
    /// that was never sent, or that a worker refused because it drains, takes nothing out of it.
    #[must_use]
    pub fn with_retry_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(Arc::new(SharedRetryBudget::new(budget)));
        self
    }

    /// As many attempts as each call may have, whatever happens to the others. In an outage that is up to
    /// [`with_attempts_max`](Self::with_attempts_max) times the load.
    #[must_use]
    pub fn without_retry_budget(mut self) -> Self {
        self.budget = None;
        self
    }

    /// Whether an error that the handler answered with ([`Code::App`](rpcnet_transport::Code::App) and the like) counts as a
    /// failure of the worker. Default `false`: it has served the call, however the call ended, and how long that took counts.
    /// With `true`, a worker that answers with errors is [ejected](rpcnet_balance::health) as one that breaks down, and is not
    /// preferred for how quickly it does so: for methods whose errors mean that the worker is broken. The call is not tried
    /// again either way.
    ///
    /// What a worker refuses before its handler runs counts neither as served nor as a failure. A handler that panicked and
    /// [`Code::Internal`](rpcnet_transport::Code::Internal) are failures in any case.
    #[must_use]
    pub fn with_application_errors_as_failures(mut self, fail: bool) -> Self {
        self.application_errors_fail = fail;
        self
    }

    /// Where random pauses come from, for a run that can be repeated; default a seed of the system's.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Longest pauses before a call goes to a worker that it was tried on before: before the first such attempt, default
    /// 10 ms, doubled each time up to a maximum, default 1 s. The pause is a random part of that, so that many callers do not
    /// come back all at once. A worker that has said when to come back is not asked before. Attempts on other workers
    /// follow at once.
    #[must_use]
    pub fn with_backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.backoff = (initial, max.max(initial));
        self
    }

    /// How many workers [`call_all_workers`](super::ClusterClient::call_all_workers) calls at a time; default 64.
    #[must_use]
    pub fn with_broadcast_concurrency_max(mut self, calls: NonZeroUsize) -> Self {
        self.broadcast_concurrency_max = calls;
        self
    }

    /// How many connections to one worker there are at the most; default 4. Calls share one. Another one is made when for
    /// 100 ms all there are carry as many calls as the worker takes on a connection, so that calls have to wait; then each
    /// call takes the one with the fewest. More let a single client ask more of a worker, and let it take a larger part
    /// of what the worker can do for all.
    #[must_use]
    pub fn with_connections_per_worker_max(mut self, connections: NonZeroUsize) -> Self {
        self.connections_max = connections;
        self
    }

    /// For how long the other connections to a worker must have been enough, with a quarter to spare, until the latest one
    /// is given up; default 30 s. It ends with the last call on it. A shorter one saves the memory of connections that
    /// stand by, a longer one the handshakes of load that comes and goes.
    #[must_use]
    pub fn with_surplus_idle_timeout(mut self, quiet: Duration) -> Self {
        self.surplus_idle_timeout = quiet;
        self
    }

    /// The endpoint that calls leave from.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn method_policy(&mut self, name: &str) -> &mut MethodPolicy {
        Arc::make_mut(&mut self.methods)
            .entry(name.into())
            .or_default()
    }
}
