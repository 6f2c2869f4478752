//! Call plan: the settings of one call, from config, method policy and options.

use std::{collections::HashMap, time::Duration};

use rpcnet_balance::{
    HedgeLatencies, Time,
    retry::{CallPolicy, MethodPolicy, MethodTable},
};
use rpcnet_registry::{Candidate, Worker, connected::RejectionProbe, rejections::MethodOfTypes};
use rpcnet_transport::{CallOptions, IdempotencyKeys, MethodOptions, UntypedMethod};
use tokio::time::Instant;

use super::{ClusterClientConfig, WorkerCallOptions, options::policy_of, routes::Route};

/// The settings of a client, which the plan of each call is made of.
pub(super) struct CallSettings {
    pub(super) config: ClusterClientConfig,
    methods: MethodTable,
    /// Options of the plain calls of a method, by its name.
    settled: HashMap<Box<str>, Option<SettledOptions>>,
    /// Those of the methods without a policy.
    settled_default: Option<SettledOptions>,
    keys: IdempotencyKeys,
}

/// Options of the plain calls of a method, but for their time.
pub(super) struct SettledOptions {
    attempt: CallOptions,
    timeout: Duration,
}

impl SettledOptions {
    /// `None` if the calls have idempotency keys, latencies or timeouts of attempts.
    fn new(policy: &MethodPolicy, config: &ClusterClientConfig) -> Option<Self> {
        let policy = policy.or(&config.method_defaults);
        let settled = policy.resolve(None, false);
        let is_plain = !policy.generates_keys()
            && policy.hedging().is_none()
            && settled.attempt_timeout.is_none();
        is_plain.then(|| Self {
            attempt: CallOptions::new().with_idempotent(settled.is_idempotent),
            timeout: policy.timeout().unwrap_or(config.timeout),
        })
    }

    /// The options of a first attempt that starts now.
    #[inline]
    pub(super) fn resolved(&self, now: Instant) -> CallOptions {
        self.attempt.resolved(now.into_std(), Some(self.timeout))
    }
}

impl CallSettings {
    pub(super) fn new(config: ClusterClientConfig) -> Self {
        let methods = config.methods.iter();
        Self {
            settled: methods
                .clone()
                .map(|(name, policy)| (name.clone(), SettledOptions::new(policy, &config)))
                .collect(),
            settled_default: SettledOptions::new(&MethodPolicy::new(), &config),
            methods: MethodTable::new(
                methods.map(|(name, policy)| (&**name, policy)),
                &config.method_defaults,
            ),
            keys: IdempotencyKeys::new(),
            config,
        }
    }

    /// Options of the unary calls of a method that are made without any, if their first attempts
    /// need nothing else.
    #[inline]
    pub(super) fn settled(&self, method: &str) -> Option<&SettledOptions> {
        let settled = self.settled.get(method).unwrap_or(&self.settled_default);
        settled.as_ref()
    }

    /// The plan of a unary call that starts now.
    pub(super) fn unary_plan(&self, method: &str, options: &WorkerCallOptions) -> CallPlan<'_> {
        let policy = &self.methods.get(method).policy;
        self.plan(method, policy, options, Some(self.config.timeout))
    }

    /// The plan of a stream that is opened now: without an attempt timeout and a latency, since the
    /// time to open a stream is not that of its method, and without hedges, since its messages are
    /// sent once.
    pub(super) fn stream_plan(&self, method: &str, options: &WorkerCallOptions) -> CallPlan<'_> {
        let policy = &self.methods.get(method).policy;
        self.plan(method, policy, options, None).for_stream()
    }

    /// The plan of a typed unary call that starts now.
    pub(super) fn typed_plan(&self, call: &TypedClusterCall<'_>) -> CallPlan<'_> {
        self.plan_typed(call, Some(self.config.timeout))
    }

    /// The plan of a typed stream that is opened now, as of [`stream_plan`](Self::stream_plan).
    pub(super) fn typed_stream_plan(&self, call: &TypedClusterCall<'_>) -> CallPlan<'_> {
        self.plan_typed(call, None).for_stream()
    }

    fn plan_typed(
        &self,
        call: &TypedClusterCall<'_>,
        default_timeout: Option<Duration>,
    ) -> CallPlan<'_> {
        let (method, name) = (&call.options_of_method, call.method.name());
        let options = call
            .options_of_channel
            .with_call_options(&call.options)
            .with_method_options(method, &call.options);
        let policy = (self.methods.get(name).own_policy)
            .or(&policy_of(method))
            .or(&self.config.method_defaults);
        self.plan(name, &policy, &options, default_timeout)
    }

    fn plan(
        &self,
        method: &str,
        method_policy: &MethodPolicy,
        options: &WorkerCallOptions,
        default_timeout: Option<Duration>,
    ) -> CallPlan<'_> {
        let policy = options.policy.or(method_policy);
        let started_at = Instant::now();
        let timeout = policy.timeout().or(default_timeout);
        let mut attempt = options.attempt.resolved(started_at.into_std(), timeout);
        let generates_key = options
            .generates_key
            .unwrap_or_else(|| policy.generates_keys());
        if generates_key && !attempt.has_idempotency_key() {
            attempt = attempt.with_idempotency_key(self.keys.next_key());
        }
        // Also if this call does not hedge.
        let idempotent =
            (options.idempotent).or_else(|| method_policy.hedging().is_some().then_some(true));
        let policy = policy.resolve(idempotent, attempt.has_idempotency_key());
        let hedge_latencies = match policy.hedging {
            Some(hedging) if hedging.is_at_quantile() => self.methods.latencies(method),
            _ => self.methods.get(method).latencies.as_ref(),
        };
        CallPlan {
            started_at,
            deadline: attempt.deadline().map(Instant::from_std),
            attempt: attempt.with_idempotent(policy.is_idempotent),
            policy,
            key: options.key,
            hedge_latencies,
            is_stream: false,
        }
    }
}

/// A call of a typed method, and the options that it is made with.
pub(super) struct TypedClusterCall<'a> {
    pub(super) method: UntypedMethod,
    /// The defaults of the method.
    pub(super) options_of_method: MethodOptions,
    /// Options of the call.
    pub(super) options: MethodOptions,
    /// Options of the channel, where the call says nothing.
    pub(super) options_of_channel: &'a WorkerCallOptions,
}

/// The method of a typed call, as workers may reject it.
pub(super) fn called(method: UntypedMethod) -> MethodOfTypes<'static> {
    MethodOfTypes {
        name: method.name(),
        types: method.types_id(),
    }
}

/// One call: its settings, its method, and which workers it may go to.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterCall<'a> {
    pub(super) plan: CallPlan<'a>,
    pub(super) method: MethodOfTypes<'a>,
    /// The method of a typed call.
    pub(super) typed: Option<&'a UntypedMethod>,
    pub(super) destination: Destination<'a>,
    /// Route of its filter, if the caller has it.
    pub(super) route: Option<&'a Route>,
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
    pub(super) fn new(
        plan: CallPlan<'a>,
        method: impl Into<MethodOfTypes<'a>>,
        destination: Destination<'a>,
    ) -> Self {
        let mut call = Self {
            plan,
            method: method.into(),
            typed: None,
            destination,
            route: None,
        };
        if call.has_single_target() {
            call.plan.policy.hedging = None;
            call.plan.hedge_latencies = None;
        }
        call
    }

    /// A call of a typed method.
    pub(super) fn typed(
        plan: CallPlan<'a>,
        method: &'a UntypedMethod,
        destination: Destination<'a>,
    ) -> Self {
        Self {
            typed: Some(method),
            ..Self::new(plan, called(*method), destination)
        }
    }

    /// The same call on the route of its filter.
    pub(super) fn on_route(mut self, route: Option<&'a Route>) -> Self {
        self.route = route;
        self
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
            worker.set_method(self.method.name, now);
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
    fn for_stream(self) -> Self {
        Self {
            policy: CallPolicy {
                attempt_timeout: None,
                hedging: None,
                ..self.policy
            },
            hedge_latencies: None,
            is_stream: true,
            ..self
        }
    }

    /// The same settings for a call that starts now.
    pub(super) fn starting_now(self) -> Self {
        Self {
            started_at: Instant::now(),
            ..self
        }
    }

    /// The same settings for the first attempt of a call that was made with these options.
    pub(super) fn restored(self, started_at: Instant, attempt: CallOptions) -> Self {
        Self {
            started_at,
            deadline: attempt.deadline().map(Instant::from_std),
            attempt,
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
mod tests;
