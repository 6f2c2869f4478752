//! How one call to a worker is made.

use std::time::Duration;

use rpcnet_balance::Hedging;
use rpcnet_transport::Priority;
use tokio::time::Instant;

/// How one call differs from what the [`ClusterClientConfig`](super::ClusterClientConfig) says.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerCallOptions {
    pub(super) deadline: DeadlineChoice,
    pub(super) attempts_max: Option<usize>,
    pub(super) idempotent: Option<bool>,
    pub(super) key: Option<u64>,
    pub(super) idempotency_key: Option<u128>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) hedging: Option<Option<Hedging>>,
    pub(super) priority: Option<Priority>,
    pub(super) without_inheritance: bool,
    pub(super) application_errors_fail: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) enum DeadlineChoice {
    #[default]
    Default,
    Timeout(Duration),
    At(Instant),
    None,
}

impl WorkerCallOptions {
    /// A call as the config says.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadline: DeadlineChoice::Default,
            attempts_max: None,
            idempotent: None,
            key: None,
            idempotency_key: None,
            attempt_timeout: None,
            hedging: None,
            priority: None,
            without_inheritance: false,
            application_errors_fail: None,
        }
    }

    /// Time for the call with all its attempts, in place of
    /// [`ClusterClientConfig::with_timeout`](super::ClusterClientConfig::with_timeout); of streams to their end.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.deadline = DeadlineChoice::Timeout(timeout);
        self
    }

    /// The call with all its attempts ends at this time at the latest.
    #[must_use]
    pub fn with_deadline(mut self, deadline: std::time::Instant) -> Self {
        self.deadline = DeadlineChoice::At(deadline.into());
        self
    }

    /// The call may take as long as its connection lasts, as streams may by default. It still ends with the call that is being
    /// served here, unless it is [without inheritance](Self::without_inheritance).
    #[must_use]
    pub fn without_deadline(mut self) -> Self {
        self.deadline = DeadlineChoice::None;
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

    /// A key that no other call has and all attempts of this one share: 16 random bytes will do. Workers that
    /// [remember keys](rpcnet_transport::Router::with_idempotency) run the call once and answer repeats from memory, so it is tried again
    /// although it may have been processed. Who makes the same call anew after a failure gives it the same key.
    ///
    /// Unless it is idempotent as well, such an attempt goes back to the worker that may have processed the one before, as
    /// long as it is the same process, and to another one only if that fails too: another one runs it again, if they share
    /// no memory. Workers that do not remember keys take no notice of it.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: u128) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    /// Time for each attempt, if the call may be repeated, in place of
    /// [`ClusterClientConfig::with_attempt_timeout`](super::ClusterClientConfig::with_attempt_timeout).
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// How much the call matters when a worker has too much to do; default that of the call that is being served here
    /// ([`inherited`](rpcnet_transport::inherited)), or [`Priority::Critical`].
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The call takes over nothing from the one that is being served here: for work that outlives it. Otherwise it ends when that
    /// one does at the latest, with all its attempts, and has its priority.
    #[must_use]
    pub fn without_inheritance(mut self) -> Self {
        self.without_inheritance = true;
        self
    }

    /// Whether an error that the handler answered with counts as a failure of the worker, whatever the config says of the
    /// method: see [`ClusterClientConfig::with_application_errors_as_failures`](super::ClusterClientConfig::with_application_errors_as_failures).
    #[must_use]
    pub fn with_application_errors_as_failures(mut self, fail: bool) -> Self {
        self.application_errors_fail = Some(fail);
        self
    }

    /// When the call goes to another worker as well, whatever the config says of the method. The call is taken for idempotent,
    /// unless [`with_idempotent`](Self::with_idempotent) says otherwise.
    ///
    /// At a quantile only if the config has the method hedged too: of others no latencies are
    /// recorded.
    #[must_use]
    pub fn with_hedging(mut self, hedging: Hedging) -> Self {
        self.hedging = Some(Some(hedging));
        self
    }

    /// The call goes to another worker only when one has failed, whatever the config says of the method.
    #[must_use]
    pub fn without_hedging(mut self) -> Self {
        self.hedging = Some(None);
        self
    }
}
