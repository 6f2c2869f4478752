//! Attempts of one call: their failures, and the error that the call ends with.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpcnet_balance::{
    Time,
    retry::{AdmissionKind, AttemptReason, CallState, Failure, RetryDecision, StopReason},
};
use rpcnet_registry::{NodeId, NodeInfo, Worker};
use rpcnet_transport::{Code, ConnectError, Processed, RpcError};
use tokio::time::Instant;

use super::{
    Attempt, ClusterError,
    call_plan::{AttemptDeadline, CallPlan, ClusterCall},
    retry_decision::{in_scope, retry_decision, retry_kind, stop_reason},
};

/// The attempts of one call so far.
pub(super) struct Attempts<'a> {
    pub(super) state: CallState<'a>,
    in_flight: Vec<StartedAttempt>,
    failed: Vec<Attempt>,
    last_failure: Option<AttemptFailure>,
    /// Workers that could not read the request, with their endpoint ids.
    pub(super) unreadable_workers: Vec<(u64, Arc<NodeInfo>)>,
}

/// One attempt that has started: on which worker, why, when.
#[derive(Clone)]
pub(super) struct StartedAttempt {
    pub(super) worker: Arc<Worker>,
    pub(super) number: usize,
    pub(super) reason: AttemptReason,
    pub(super) started_at: Instant,
}

/// One attempt that starts: on which worker, which one of its call, when.
pub(super) struct AttemptStart<'a> {
    pub(super) worker: &'a Worker,
    pub(super) number: usize,
    pub(super) started_at: Instant,
}

impl<'a> Attempts<'a> {
    pub(super) const fn new(state: CallState<'a>) -> Self {
        Self {
            state,
            in_flight: Vec::new(),
            failed: Vec::new(),
            last_failure: None,
            unreadable_workers: Vec::new(),
        }
    }

    /// An attempt begins on this worker, if `admit` admits it.
    pub(super) fn begin(
        &mut self,
        worker: Worker,
        (started_at, now): (Instant, Time),
        admit: impl FnOnce(AdmissionKind) -> bool,
    ) -> Option<StartedAttempt> {
        let (number, reason) = self.state.begin(now, worker.endpoint_id(), admit)?;
        let attempt = StartedAttempt {
            worker: Arc::new(worker),
            number,
            reason,
            started_at,
        };
        self.in_flight.push(attempt.clone());
        Some(attempt)
    }

    /// An attempt has ended, and is no longer in flight.
    pub(super) fn end(&mut self, number: usize) -> StartedAttempt {
        let mut in_flight = self.in_flight.iter();
        let index = in_flight.position(|attempt| attempt.number == number);
        self.in_flight.remove(index.expect("it was in flight"))
    }

    /// The attempts in flight.
    pub(super) fn in_flight(&self) -> &[StartedAttempt] {
        &self.in_flight
    }

    pub(super) fn record_failure(
        &mut self,
        number: usize,
        failure: AttemptFailure,
        (call, now): (&ClusterCall<'_>, Time),
        has_budget: impl FnOnce() -> bool,
    ) {
        let attempt = self.end(number);
        let (worker, error) = (&attempt.worker, &failure.error);
        let id = worker.endpoint_id();
        self.state
            .on_failure(now, id, &failure.classify(call), has_budget);
        if error.is_unreadable() {
            self.unreadable_workers
                .push((id, Arc::clone(worker.node())));
        }
        let addr = failure.addr.unwrap_or(worker.addr);
        self.failed
            .push(attempt.failed(addr, failure.took, error.clone()));
        self.last_failure = Some(failure);
    }

    /// The worker of the latest failed attempt.
    pub(super) fn last_failed_node(&self) -> Option<&NodeId> {
        self.failed.last().map(|attempt| &attempt.node)
    }

    /// The error of a call that ends with its last failure, or with an earlier one which shows that
    /// the request is to blame: that a worker could not read it, if the last failure is transient,
    /// or did not know the method or its types, if then no connection could be made to another.
    /// Attempts in flight are cancelled.
    pub(super) fn into_error(self, stop_reason: StopReason) -> ClusterError {
        let mut attempts = self.failed;
        for attempt in self.in_flight {
            let message = "cancelled by the caller: another attempt has ended the call";
            let error = RpcError::new(Code::Cancelled, Processed::Maybe, message);
            let (addr, took) = (attempt.worker.addr, attempt.started_at.elapsed());
            attempts.push(attempt.failed(addr, took, error));
        }
        let last = self.last_failure.expect("a call ends after an attempt");
        let shows_fault = |error: &&RpcError| {
            let is_unserved = matches!(error.code(), Code::Unimplemented | Code::Incompatible)
                && error.processed() == Processed::No;
            error.is_unreadable() || (is_unserved && last.connect_error.is_some())
        };
        let mut errors = attempts.iter().map(|attempt| &attempt.error).rev();
        let faulty_request = errors.find(shows_fault).cloned();
        let is_late =
            last.error.code() == Code::DeadlineExceeded && last.error.processed() != Processed::Yes;
        match (
            faulty_request.filter(|_| last.is_transient()),
            last.connect_error,
        ) {
            (None, Some(error)) => ClusterError::Connect {
                error: *error,
                attempts,
                stop_reason,
            },
            (None, None) if is_late && stop_reason == StopReason::Deadline => {
                ClusterError::DeadlineExceeded { attempts }
            }
            (faulty_request, _) => ClusterError::Rpc {
                error: faulty_request.unwrap_or(last.error),
                attempts,
                stop_reason,
            },
        }
    }
}

impl StartedAttempt {
    pub(super) fn start(&self) -> AttemptStart<'_> {
        AttemptStart {
            worker: &self.worker,
            number: self.number,
            started_at: self.started_at,
        }
    }

    fn failed(&self, addr: SocketAddr, took: Duration, error: RpcError) -> Attempt {
        Attempt {
            node: self.worker.id().clone(),
            addr,
            reason: self.reason,
            took,
            error,
        }
    }
}

/// Failure of an attempt, and what follows.
pub(super) struct AttemptFailure {
    pub(super) error: RpcError,
    pub(super) decision: RetryDecision,
    connect_error: Option<Box<ConnectError>>,
    /// The address that the attempt was made to, if it was connected or known to try.
    pub(super) addr: Option<SocketAddr>,
    pub(super) took: Duration,
    /// The request was never sent, because the connection it was to use had died before.
    on_stale_connection: bool,
}

impl AttemptFailure {
    fn new(error: RpcError, decision: RetryDecision) -> Self {
        Self {
            error,
            decision,
            connect_error: None,
            addr: None,
            took: Duration::ZERO,
            on_stale_connection: false,
        }
    }

    pub(super) fn from_connect_error(connect_error: ConnectError) -> Self {
        let error = RpcError::from(connect_error.clone());
        let decision = in_scope(connect_error.retry_scope(), &error);
        Self {
            addr: connect_error.addr(),
            connect_error: Some(Box::new(connect_error)),
            ..Self::new(error, decision)
        }
    }

    pub(super) fn from_call_error(
        error: RpcError,
        plan: &CallPlan<'_>,
        deadline: AttemptDeadline,
        connection_died: bool,
    ) -> Self {
        // Only calls that may be repeated have a timeout of their attempts.
        let is_attempt_timeout =
            deadline.is_attempt_timeout && stop_reason(&error) == StopReason::Deadline;
        let decision = match is_attempt_timeout {
            true => RetryDecision::AnyEndpoint(retry_kind(&error)),
            false => retry_decision(&error, plan.policy.is_repeatable),
        };
        Self {
            on_stale_connection: connection_died
                && error.code() == Code::Unavailable
                && error.processed() == Processed::No,
            ..Self::new(error, decision)
        }
    }

    pub(super) fn deadline_before_sending(deadline: AttemptDeadline) -> Self {
        let message = "deadline exceeded before the request was sent";
        let error = RpcError::new(Code::DeadlineExceeded, Processed::No, message);
        let decision = match deadline.is_attempt_timeout {
            true => RetryDecision::AnyEndpoint(retry_kind(&error)),
            false => RetryDecision::Stop(StopReason::Deadline),
        };
        Self::new(error, decision)
    }

    fn classify(&self, call: &ClusterCall<'_>) -> Failure {
        let error = &self.error;
        // The request may have been processed, and the answer was lost or did not come in time.
        let is_unanswered = error.processed() == Processed::Maybe
            && matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded);
        Failure {
            decision: self.decision,
            retry_after: error.retry_after().unwrap_or_default(),
            // A connection that had died unnoticed says nothing about the worker itself.
            keeps_endpoint: self.on_stale_connection && !call.has_single_target(),
            prefers_endpoint: call.plan.relies_on_idempotency_cache() && is_unanswered,
            stops_hedging: error.code() == Code::Overloaded,
            is_rejection: error.processed() == Processed::No
                && error.code() != Code::DeadlineExceeded,
            is_unreachable: self.connect_error.is_some(),
        }
    }

    /// Whether the same call may succeed later, as far as this failure says: the request was not
    /// processed, and the reason lies with the cluster.
    fn is_transient(&self) -> bool {
        self.error.processed() == Processed::No
            && match &self.connect_error {
                Some(error) => !error.is_local(),
                None => self.error.is_retryable(),
            }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rpcnet_balance::{
        BackoffRange,
        retry::{AttemptLimits, RetryBackoff, RetryKind},
    };
    use rpcnet_registry::{LoadBalancingStrategy, StaticMembership, WorkerRegistry};

    use super::*;
    use crate::client::{
        WorkerCallOptions,
        call_plan::{CallSettings, Destination},
        tests::config,
    };

    /// A registry with one worker, which none calls.
    async fn registry() -> WorkerRegistry {
        let list = StaticMembership::new();
        let addr = (Ipv4Addr::LOCALHOST, 7001).into();
        list.insert(NodeInfo::new(NodeId::new("red", 1), addr));
        let registry = WorkerRegistry::new(list, LoadBalancingStrategy::RoundRobin);
        registry.start().await;
        registry
    }

    fn error(code: Code, processed: Processed) -> RpcError {
        RpcError::new(code, processed, "")
    }

    #[tokio::test]
    async fn a_timeout_of_an_attempt_is_retried_and_the_deadline_of_the_call_is_not() {
        use RetryDecision::{AnyEndpoint, Stop};
        let settings = CallSettings::new(config());
        let options = WorkerCallOptions::new().with_idempotent(true);
        let plan = settings.unary_plan("any", &options);
        let late = || error(Code::DeadlineExceeded, Processed::Maybe);
        for (is_attempt_timeout, decision, unsent_decision) in [
            (
                true,
                AnyEndpoint(RetryKind::MaybeProcessed),
                AnyEndpoint(RetryKind::Transparent),
            ),
            (
                false,
                Stop(StopReason::Deadline),
                Stop(StopReason::Deadline),
            ),
        ] {
            let deadline = AttemptDeadline {
                is_attempt_timeout,
                ..AttemptDeadline::for_call(None)
            };
            let failure = AttemptFailure::from_call_error(late(), &plan, deadline, false);
            assert_eq!(failure.decision, decision);
            let unsent = AttemptFailure::deadline_before_sending(deadline);
            assert_eq!(unsent.decision, unsent_decision);
            let forbidden = late().with_retry_after(Duration::MAX);
            let failure = AttemptFailure::from_call_error(forbidden, &plan, deadline, false);
            assert_eq!(failure.decision, Stop(StopReason::DoNotRetry));
        }
    }

    #[tokio::test]
    async fn a_worker_is_excluded_unless_its_connection_was_stale() {
        let settings = CallSettings::new(config());
        let plan = settings.unary_plan("any", &WorkerCallOptions::new());
        let candidate = registry()
            .await
            .candidates(None)
            .expect("a worker")
            .remove(0);
        let any = ClusterCall::new(plan, "any", Destination::Matching(None));
        let single = ClusterCall::new(plan, "any", Destination::Only(&candidate));
        for (call, connection_died, keeps_endpoint) in [
            (any, false, false),
            (any, true, true),
            (single, true, false),
        ] {
            let error = error(Code::Unavailable, Processed::No);
            let deadline = AttemptDeadline::for_call(None);
            let failure = AttemptFailure::from_call_error(error, &plan, deadline, connection_died);
            assert_eq!(failure.classify(&call).keeps_endpoint, keeps_endpoint);
        }
    }

    #[tokio::test]
    async fn a_transient_last_failure_does_not_hide_an_unreadable_request() {
        let settings = CallSettings::new(config());
        let plan = settings.unary_plan("any", &WorkerCallOptions::new());
        let call = ClusterCall::new(plan, "any", Destination::Matching(None));
        let (registry, backoff) = (
            registry().await,
            RetryBackoff::seeded(7, BackoffRange::default()),
        );
        for (last, shown) in [
            (error(Code::Overloaded, Processed::No), Code::InvalidRequest),
            (error(Code::App, Processed::Yes), Code::App),
        ] {
            let limits = AttemptLimits::new(5, &backoff);
            let mut attempts = Attempts::new(CallState::new(limits));
            for error in [error(Code::InvalidRequest, Processed::No), last] {
                let deadline = AttemptDeadline::for_call(None);
                let failure = AttemptFailure::from_call_error(error, &plan, deadline, false);
                let worker = registry.select_worker(None).await.expect("a worker");
                let now = Time::from_nanos(1);
                let begun = attempts.begin(worker, (Instant::now(), now), |_| true);
                let number = begun.expect("an attempt").number;
                attempts.record_failure(number, failure, (&call, now), || true);
            }
            let error = attempts.into_error(StopReason::AttemptLimit);
            assert_eq!(error.rpc().map(RpcError::code), Some(shown));
            assert_eq!(error.attempts().len(), 2);
        }
    }
}
