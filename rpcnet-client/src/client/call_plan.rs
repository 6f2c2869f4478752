//! Call plan: the settings of one call, from config, method policy and options.

use std::time::Duration;

use rpcnet_balance::{
    HedgeLatencies, Time,
    retry::{CallPolicy, MethodTable},
};
use rpcnet_registry::{Candidate, Worker, connected::RejectionProbe};
use rpcnet_transport::{CallOptions, IdempotencyKeys};
use tokio::time::Instant;

use super::{ClusterClientConfig, WorkerCallOptions};

/// The settings of a client, which the plan of each call is made of.
pub(super) struct CallSettings {
    pub(super) config: ClusterClientConfig,
    methods: MethodTable,
    keys: IdempotencyKeys,
}

impl CallSettings {
    pub(super) fn new(config: ClusterClientConfig) -> Self {
        let methods = config.methods.iter();
        let methods = methods.map(|(name, policy)| (&**name, policy));
        Self {
            methods: MethodTable::new(methods, &config.method_defaults),
            keys: IdempotencyKeys::new(),
            config,
        }
    }

    /// The plan of a unary call that starts now.
    pub(super) fn unary_plan(&self, method: &str, options: &WorkerCallOptions) -> CallPlan<'_> {
        self.plan(method, options, Some(self.config.timeout))
    }

    /// The plan of a stream that is opened now: without an attempt timeout and a latency, since the
    /// time to open a stream is not that of its method, and without hedges, since its messages are
    /// sent once.
    pub(super) fn stream_plan(&self, method: &str, options: &WorkerCallOptions) -> CallPlan<'_> {
        let plan = self.plan(method, options, None);
        CallPlan {
            policy: CallPolicy {
                attempt_timeout: None,
                hedging: None,
                ..plan.policy
            },
            hedge_latencies: None,
            is_stream: true,
            ..plan
        }
    }

    fn plan(
        &self,
        method: &str,
        options: &WorkerCallOptions,
        default_timeout: Option<Duration>,
    ) -> CallPlan<'_> {
        let entry = self.methods.get(method);
        let policy = options.policy.or(&entry.policy);
        let started_at = Instant::now();
        let timeout = policy.timeout().or(default_timeout);
        let mut attempt = options.attempt.resolved(started_at.into_std(), timeout);
        if policy.generates_keys() && !attempt.has_idempotency_key() {
            attempt = attempt.with_idempotency_key(self.keys.next_key());
        }
        // Also if this call does not hedge.
        let idempotent =
            (options.idempotent).or_else(|| entry.policy.hedging().is_some().then_some(true));
        let policy = policy.resolve(idempotent, attempt.has_idempotency_key());
        CallPlan {
            started_at,
            deadline: attempt.deadline().map(Instant::from_std),
            attempt: attempt.with_idempotent(policy.is_idempotent),
            policy,
            key: options.key,
            hedge_latencies: entry.latencies.as_ref(),
            is_stream: false,
        }
    }
}

/// One call: its settings, its method, and which workers it may go to.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterCall<'a> {
    pub(super) plan: CallPlan<'a>,
    pub(super) method: &'a str,
    pub(super) destination: Destination<'a>,
}

/// Which workers a call may go to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Destination<'a> {
    /// Any worker that matches the filter.
    Matching(Option<&'a str>),
    /// This worker alone.
    Only(&'a Candidate),
}

impl<'a> ClusterCall<'a> {
    pub(super) fn new(plan: CallPlan<'a>, method: &'a str, destination: Destination<'a>) -> Self {
        let mut call = Self {
            plan,
            method,
            destination,
        };
        if call.has_single_target() {
            call.plan.policy.hedging = None;
            call.plan.hedge_latencies = None;
        }
        call
    }

    /// Whether the call goes to one certain worker.
    pub(super) fn has_single_target(&self) -> bool {
        matches!(self.destination, Destination::Only(_))
    }

    /// Tells the worker of an attempt that starts now what its latency is compared with.
    #[inline]
    pub(super) fn set_latency_kind(&self, worker: &mut Worker, now: Time) {
        if self.plan.is_stream {
            worker.set_stream(now);
        } else {
            worker.set_method(self.method, now);
        }
    }
}

/// The settings of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallPlan<'a> {
    /// Start of the call and of its first attempt.
    pub(super) started_at: Instant,
    pub(super) deadline: Option<Instant>,
    /// Options of all its attempts, with what is inherited where the call was made.
    attempt: CallOptions,
    pub(super) policy: CallPolicy,
    /// Hash of what the call is about, for the balancer.
    pub(super) key: Option<u64>,
    /// Recent latencies of the method.
    pub(super) hedge_latencies: Option<&'a HedgeLatencies>,
    /// The call opens a stream, so the reply comes after the attempt has ended.
    pub(super) is_stream: bool,
}

impl CallPlan<'_> {
    /// The same settings for a call that starts now.
    pub(super) fn starting_now(self) -> Self {
        Self {
            started_at: Instant::now(),
            ..self
        }
    }

    /// Whether the call may be repeated only because a worker remembers what it has done.
    pub(super) fn relies_on_idempotency_cache(&self) -> bool {
        self.attempt.has_idempotency_key() && !self.policy.is_idempotent
    }

    /// Whether the first attempt needs nothing but its future.
    pub(super) fn fits_fast_path(&self) -> bool {
        self.policy.attempt_timeout.is_none()
            && self.policy.hedging.is_none()
            && !self.attempt.has_idempotency_key()
            && self.deadline.is_none_or(|end| end > self.started_at)
    }

    /// When the call probes a worker that rejected its method.
    pub(super) fn rejection_probe(&self) -> RejectionProbe {
        match self.policy.attempts_max > 1 && !self.is_stream {
            true => RejectionProbe::WhenDue,
            false => RejectionProbe::WhenOverdue,
        }
    }

    /// The options of an attempt for the transport.
    pub(super) fn attempt_options(&self, number: usize, deadline: Option<Instant>) -> CallOptions {
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        let options = self.attempt.with_attempt(number);
        match deadline {
            Some(end) => options.with_deadline(end.into_std()),
            None => options,
        }
    }
}

/// Deadline of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptDeadline {
    pub(super) at: Option<Instant>,
    /// Whether it is the timeout of the attempt: the call has more time.
    pub(super) is_attempt_timeout: bool,
}

impl AttemptDeadline {
    pub(super) fn for_call(deadline: Option<Instant>) -> Self {
        Self {
            at: deadline,
            is_attempt_timeout: false,
        }
    }

    pub(super) fn for_attempt(plan: &CallPlan<'_>, started_at: Instant) -> Self {
        let of_attempt = plan
            .policy
            .attempt_timeout
            .and_then(|timeout| started_at.checked_add(timeout));
        match (plan.deadline, of_attempt) {
            (deadline, Some(end)) if deadline.is_none_or(|deadline| end < deadline) => Self {
                at: Some(end),
                is_attempt_timeout: true,
            },
            (deadline, _) => Self::for_call(deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use rpcnet_balance::{Hedging, retry::MethodPolicy};

    use super::*;
    use crate::client::tests::config;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Time that the plan leaves for the call.
    fn timeout(plan: &CallPlan<'_>) -> Option<Duration> {
        plan.deadline.map(|end| end - plan.started_at)
    }

    #[tokio::test(start_paused = true)]
    async fn options_win_over_the_method_and_the_method_over_the_config() {
        let policy = MethodPolicy::new()
            .with_timeout(seconds(20))
            .with_attempt_timeout(seconds(2))
            .with_application_errors_as_failures(true)
            .with_idempotent(true);
        let config = config()
            .with_timeout(seconds(30))
            .with_attempt_timeout(seconds(3))
            .with_method("charge", policy);
        let settings = CallSettings::new(config);
        let (none, own) = (
            WorkerCallOptions::new(),
            WorkerCallOptions::new()
                .with_timeout(seconds(10))
                .with_attempt_timeout(seconds(1))
                .with_application_errors_as_failures(false),
        );
        for (method, options, call, attempt, errors_fail) in [
            ("other", none.with_idempotent(true), 30, 3, false),
            ("charge", none, 20, 2, true),
            ("charge", own, 10, 1, false),
        ] {
            let plan = settings.unary_plan(method, &options);
            assert_eq!(timeout(&plan), Some(seconds(call)), "{method}");
            assert_eq!(
                plan.policy.attempt_timeout,
                Some(seconds(attempt)),
                "{method}"
            );
            assert_eq!(plan.policy.application_errors_fail, errors_fail, "{method}");
        }
        // A call that may not be repeated has no timeout of its attempts.
        let plan = settings.unary_plan("other", &none);
        assert!(!plan.policy.is_repeatable && plan.policy.attempt_timeout.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_method_that_hedges_is_idempotent_in_a_call_without_hedging_too() {
        let config = config()
            .with_hedging("find", Hedging::after(seconds(1)))
            .with_attempt_timeout(seconds(2));
        let settings = CallSettings::new(config);
        let options = WorkerCallOptions::new().without_hedging();
        let policy = settings.unary_plan("find", &options).policy;
        assert_eq!(policy.hedging, None);
        assert!(policy.is_idempotent && policy.is_repeatable);
        assert_eq!(policy.attempt_timeout, Some(seconds(2)));
        let once = options.with_idempotent(false);
        assert!(!settings.unary_plan("find", &once).policy.is_repeatable);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_has_no_deadline_of_the_client_and_no_hedges() {
        let hedging = Hedging::after(seconds(1));
        let config = config().with_hedging("feed", hedging);
        let settings = CallSettings::new(config);
        let unary = settings.unary_plan("feed", &WorkerCallOptions::new());
        assert!(unary.deadline.is_some() && unary.policy.hedging.is_some());
        let stream = settings.stream_plan("feed", &WorkerCallOptions::new());
        assert!(stream.deadline.is_none() && stream.policy.hedging.is_none() && stream.is_stream);
        let within = WorkerCallOptions::new().with_timeout(seconds(5));
        let stream = settings.stream_plan("feed", &within);
        assert_eq!(timeout(&stream), Some(seconds(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_stream_without_a_word_on_its_deadline_has_that_of_the_transport() {
        let settings = CallSettings::new(config());
        let options = WorkerCallOptions::new();
        let stream = |options| {
            let plan = settings.stream_plan("feed", &options);
            plan.attempt_options(0, plan.deadline)
        };
        let without = stream(options.without_deadline());
        assert_eq!(without, stream(options).without_deadline());
        assert_ne!(without, stream(options));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_says_that_it_is_not_idempotent_is_not_repeated() {
        let settings = CallSettings::new(config());
        let keyed = WorkerCallOptions::new().with_idempotency_key(7);
        let repeatable = |options| settings.unary_plan("any", &options).policy.is_repeatable;
        assert!(repeatable(keyed) && !repeatable(keyed.with_idempotent(false)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_tried_once_probes_only_when_that_is_overdue() {
        let settings = CallSettings::new(config());
        let options = WorkerCallOptions::new();
        let once = options.with_attempts_max(1);
        for (plan, mode) in [
            (
                settings.unary_plan("any", &options),
                RejectionProbe::WhenDue,
            ),
            (
                settings.unary_plan("any", &once),
                RejectionProbe::WhenOverdue,
            ),
            // A stream ends with the rejection.
            (
                settings.stream_plan("any", &options),
                RejectionProbe::WhenOverdue,
            ),
        ] {
            assert_eq!(plan.rejection_probe(), mode);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_plain_calls_that_are_in_time_fit_the_fast_path() {
        let settings = CallSettings::new(config());
        let options = WorkerCallOptions::new();
        let fits = |options| settings.unary_plan("any", &options).fits_fast_path();
        assert!(fits(options) && fits(options.with_idempotent(true)));
        assert!(!fits(options.with_idempotency_key(7)));
        assert!(!fits(options.with_hedging(Hedging::after(seconds(1)))));
        assert!(!fits(options.with_timeout(Duration::ZERO)));
        let attempt_timeout = options.with_attempt_timeout(seconds(1));
        assert!(fits(attempt_timeout), "it may not be repeated");
        assert!(!fits(attempt_timeout.with_idempotent(true)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_ends_with_its_timeout_or_the_deadline_of_the_call() {
        let settings = CallSettings::new(config());
        let options = WorkerCallOptions::new()
            .with_idempotent(true)
            .with_timeout(seconds(10))
            .with_attempt_timeout(seconds(4));
        let plan = settings.unary_plan("any", &options);
        for (after, end, is_attempt_timeout) in [(0, 4, true), (5, 9, true), (7, 10, false)] {
            let deadline = AttemptDeadline::for_attempt(&plan, plan.started_at + seconds(after));
            assert_eq!(deadline.at, Some(plan.started_at + seconds(end)));
            assert_eq!(deadline.is_attempt_timeout, is_attempt_timeout);
        }
    }
}
