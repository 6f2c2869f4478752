//! How calls to workers are made.

use std::{collections::HashSet, num::NonZeroUsize, sync::Arc, time::Duration};

use rpcnet_transport::Endpoint;

/// Settings of a [`ClusterClient`](super::ClusterClient).
#[derive(Debug, Clone)]
pub struct ClusterClientConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) timeout: Duration,
    pub(crate) attempts_max: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) idempotent: Arc<HashSet<Box<str>>>,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) concurrency_max: NonZeroUsize,
    pub(crate) connections_max: NonZeroUsize,
    pub(crate) quiet_time: Duration,
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
            idempotent: Arc::default(),
            backoff: (Duration::from_millis(10), Duration::from_secs(1)),
            concurrency_max: const { NonZeroUsize::new(64).unwrap() },
            connections_max: const { NonZeroUsize::new(4).unwrap() },
            quiet_time: Duration::from_secs(30),
        }
    }

    /// Time for a call with all its attempts and the pauses between them; default 10 s. For streams, from the beginning
    /// to the end of the stream.
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
    /// tried again also when nobody knows whether it ran.
    #[must_use]
    pub fn with_idempotent<S: AsRef<str>>(mut self, methods: impl IntoIterator<Item = S>) -> Self {
        let names = methods.into_iter().map(|name| name.as_ref().into());
        Arc::make_mut(&mut self.idempotent).extend(names);
        self
    }

    /// Longest pauses before a call goes to a worker that it was tried on before: before the first such attempt, default
    /// 10 ms, doubled each time up to a maximum, default 1 s. The pause is a random part of that, half of it at least, so
    /// that many callers do not come back all at once. Attempts on other workers follow at once.
    #[must_use]
    pub fn with_backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.backoff = (initial, max.max(initial));
        self
    }

    /// How many workers [`call_all_workers`](super::ClusterClient::call_all_workers) calls at a time; default 64.
    #[must_use]
    pub fn with_concurrency_max(mut self, calls: NonZeroUsize) -> Self {
        self.concurrency_max = calls;
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
    pub fn with_quiet_time(mut self, quiet: Duration) -> Self {
        self.quiet_time = quiet;
        self
    }

    /// The endpoint that calls leave from.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}
