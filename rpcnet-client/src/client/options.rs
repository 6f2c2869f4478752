//! How one call to a worker is made.

use std::time::Duration;

use rpcnet_balance::{HedgeLatencies, Hedging};
use rpcnet_transport::{CallOptions, Priority, inherited};
use tokio::time::Instant;

use super::{
    ClusterClient,
    executor::{CallTarget, ProbeMode},
    method_policy::MethodState,
};

/// How one call differs from what the [`ClusterClientConfig`](super::ClusterClientConfig) says.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerCallOptions {
    deadline: DeadlineChoice,
    attempts_max: Option<usize>,
    idempotent: Option<bool>,
    key: Option<u64>,
    idempotency_key: Option<u128>,
    attempt_timeout: Option<Duration>,
    hedging: Option<Option<Hedging>>,
    priority: Option<Priority>,
    without_inheritance: bool,
    application_errors_fail: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
enum DeadlineChoice {
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
    /// ([`inherited`]), or [`Priority::Critical`].
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

    /// What holds for a unary call of `method` that is made now.
    pub(super) fn call_plan<'a>(&self, client: &'a ClusterClient, method: &str) -> CallPlan<'a> {
        self.call_plan_within(client, method, Some(client.config.timeout))
    }

    /// What holds for a call with streams of `method` that is made now.
    pub(super) fn stream_plan<'a>(&self, client: &'a ClusterClient, method: &str) -> CallPlan<'a> {
        self.call_plan_within(client, method, None).for_stream()
    }

    fn call_plan_within<'a>(
        &self,
        client: &'a ClusterClient,
        method: &str,
        default: Option<Duration>,
    ) -> CallPlan<'a> {
        let config = &client.config;
        let method = client.methods.get(method);
        let policy = method.map(|method| &method.policy);
        let made = Instant::now();
        let after = |wait| made.checked_add(wait);
        let own_deadline = match self.deadline {
            DeadlineChoice::Default => policy
                .and_then(|policy| policy.timeout)
                .or(default)
                .and_then(after),
            DeadlineChoice::Timeout(timeout) => after(timeout),
            DeadlineChoice::At(deadline) => Some(deadline),
            DeadlineChoice::None => None,
        };
        let (mut deadline, mut priority) = (own_deadline, self.priority);
        if !self.without_inheritance {
            let from = inherited();
            let end = from.deadline().map(Instant::from_std);
            // Of the two the earlier one, if there are two.
            deadline = end.min(deadline).or(end).or(deadline);
            priority = priority.or_else(|| from.priority());
        }
        let hedging = self
            .hedging
            .unwrap_or_else(|| policy.and_then(|policy| policy.hedging));
        let is_idempotent = || hedging.is_some() || policy.is_some_and(|policy| policy.idempotent);
        let idempotent = self.idempotent.unwrap_or_else(is_idempotent);
        let idempotency_key = self.idempotency_key.or_else(|| {
            let generates = policy.is_some_and(|policy| policy.generates_idempotency_keys);
            generates.then(|| client.keys.next())
        });
        let repeatable = idempotent || (idempotency_key.is_some() && self.idempotent.is_none());
        let attempt_timeout = self
            .attempt_timeout
            .or_else(|| policy.and_then(|policy| policy.attempt_timeout))
            .or(config.attempt_timeout);
        CallPlan {
            started_at: made,
            deadline,
            has_default_deadline: matches!(self.deadline, DeadlineChoice::Default),
            attempts_max: self.attempts_max.unwrap_or(config.attempts_max),
            idempotent,
            repeatable,
            key: self.key,
            priority,
            idempotency_key,
            attempt_timeout: attempt_timeout.filter(|_| repeatable),
            hedging: hedging.filter(|_| repeatable),
            latency_tracker: method.and_then(MethodState::latency_tracker),
            is_stream: false,
            application_errors_fail: self
                .application_errors_fail
                .or_else(|| policy.and_then(|policy| policy.application_errors_fail))
                .unwrap_or(config.application_errors_fail),
        }
    }
}

/// The settings of one call, config and options taken together.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallPlan<'a> {
    /// When it was made, which is when the first attempt begins.
    pub(super) started_at: Instant,
    pub(super) deadline: Option<Instant>,
    /// Nothing was said of its time.
    pub(super) has_default_deadline: bool,
    pub(super) attempts_max: usize,
    pub(super) idempotent: bool,
    /// Whether an attempt that may have been processed may be followed by another one.
    pub(super) repeatable: bool,
    pub(super) key: Option<u64>,
    pub(super) priority: Option<Priority>,
    pub(super) idempotency_key: Option<u128>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) hedging: Option<Hedging>,
    /// Where it is noted how long the calls take.
    pub(super) latency_tracker: Option<&'a HedgeLatencies>,
    /// Its answer comes after its attempt has ended.
    pub(super) is_stream: bool,
    /// An error that a handler answered with is a failure of the worker.
    pub(super) application_errors_fail: bool,
}

impl CallPlan<'_> {
    /// Whether it may be repeated only because a worker remembers what it has done.
    pub(super) fn relies_on_idempotency_cache(&self) -> bool {
        self.idempotency_key.is_some() && !self.idempotent
    }

    /// Whether its first attempt is a call like any other.
    pub(super) fn fits_fast_path(&self) -> bool {
        self.attempt_timeout.is_none() && self.hedging.is_none() && self.idempotency_key.is_none()
    }

    /// What the transport is told of an attempt.
    pub(super) fn attempt_options(&self, number: usize, deadline: Option<Instant>) -> CallOptions {
        let mut options = CallOptions::new()
            .with_attempt(u8::try_from(number).unwrap_or(u8::MAX))
            .with_idempotent(self.idempotent)
            // It is in the plan, of the place where the call was made.
            .without_inheritance();
        if let Some(priority) = self.priority {
            options = options.with_priority(priority);
        }
        if let Some(key) = self.idempotency_key {
            options = options.with_idempotency_key(key);
        }
        match deadline {
            Some(end) => options.with_deadline(end.into_std()),
            // A stream, whose beginning has a limit all the same.
            None if self.has_default_deadline => options,
            None => options.without_deadline(),
        }
    }

    /// What a call of this method is for.
    pub(super) fn target<'b>(&self, method: &'b str, filter: Option<&'b str>) -> CallTarget<'b> {
        CallTarget {
            method,
            filter,
            probe_mode: match self.attempts_max > 1 && !self.is_stream {
                true => ProbeMode::WhenDue,
                false => ProbeMode::WhenOverdue,
            },
            is_stream: self.is_stream,
        }
    }

    /// For a stream: what it begins with is not what it takes, and it cannot be had twice.
    fn for_stream(mut self) -> Self {
        self.attempt_timeout = None;
        self.hedging = None;
        self.latency_tracker = None;
        self.is_stream = true;
        self
    }

    /// For a call to one certain worker.
    pub(super) fn single_target(mut self) -> Self {
        self.hedging = None;
        self.latency_tracker = None;
        self
    }
}
