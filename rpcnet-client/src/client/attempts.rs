//! Attempts of one call: their failures, and the error that the call ends with.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpcnet_balance::{
    Time,
    retry::{RetryState, StopReason},
};
use rpcnet_registry::{NodeId, NodeInfo, Worker};
use rpcnet_transport::{Code, ConnectError, Processed, RpcError};

use super::{
    Attempt, AttemptReason, ClusterError,
    call_plan::{AttemptDeadline, CallPlan},
    retry_decision::{RetryDecision, is_unreadable, retry_decision},
};

/// The attempts of one call so far.
#[derive(Default)]
pub(super) struct Attempts {
    /// Number of attempts, excluded workers, and when these may be tried again.
    pub(super) state: RetryState,
    pub(super) hedges: usize,
    failed: Vec<Attempt>,
    pub(super) last_failure: Option<AttemptFailure>,
    /// Workers that could not read the request, with their endpoint ids.
    pub(super) unreadable_workers: Vec<(u64, Arc<NodeInfo>)>,
    /// The worker that the next attempt goes back to, once: it may have processed the one before,
    /// and would answer from its idempotency cache.
    pub(super) same_worker_next: Option<NodeId>,
    pub(super) same_worker_retried: bool,
}

impl Attempts {
    pub(super) fn record_failure(
        &mut self,
        worker: &Worker,
        reason: AttemptReason,
        failure: AttemptFailure,
        plan: &CallPlan<'_>,
        now: Time,
    ) {
        self.failed.push(Attempt {
            node: worker.id().clone(),
            addr: failure.addr.unwrap_or(worker.addr),
            reason,
            took: failure.took,
            error: failure.error.clone(),
        });
        // A connection that had died unnoticed says nothing about the worker itself.
        if !failure.on_stale_connection || plan.has_single_target {
            let wait = failure.error.retry_after().unwrap_or_default();
            let retry_at = failure.allows_any_worker().then(|| now + wait);
            self.state.exclude(worker.endpoint_id(), retry_at);
        }
        if is_unreadable(&failure.error) {
            let node = Arc::clone(worker.node());
            self.unreadable_workers.push((worker.endpoint_id(), node));
        }
        self.last_failure = Some(failure);
    }

    /// An attempt is cancelled while it runs, because the call has failed otherwise.
    pub(super) fn record_cancelled(
        &mut self,
        worker: &Worker,
        reason: AttemptReason,
        took: Duration,
    ) {
        let message = "cancelled by the caller: another attempt has ended the call";
        self.failed.push(Attempt {
            node: worker.id().clone(),
            addr: worker.addr,
            reason,
            took,
            error: RpcError::new(Code::Cancelled, Processed::Maybe, message),
        });
    }

    /// The worker of the latest failed attempt.
    pub(super) fn last_failed_node(&self) -> Option<NodeId> {
        self.failed.last().map(|attempt| attempt.node.clone())
    }

    /// The error of a call that ends with its last failure; or, if that one is transient, with an
    /// earlier one which shows that the request is to blame.
    pub(super) fn into_error(self, stop_reason: StopReason) -> ClusterError {
        let attempts = self.failed;
        let last = self.last_failure.expect("a call ends after an attempt");
        let mut unreadable = attempts.iter().map(|attempt| &attempt.error).rev();
        let unreadable = unreadable.find(|error| is_unreadable(error)).cloned();
        let error = match unreadable {
            Some(error) if last.is_transient() => {
                return ClusterError::Rpc {
                    error,
                    attempts,
                    stop_reason,
                };
            }
            _ => last.error,
        };
        let is_late = error.code() == Code::DeadlineExceeded && error.processed() != Processed::Yes;
        if let Some(error) = last.connect_error {
            ClusterError::Connect {
                error: *error,
                attempts,
                stop_reason,
            }
        } else if is_late && stop_reason == StopReason::Deadline {
            ClusterError::DeadlineExceeded { attempts }
        } else {
            ClusterError::Rpc {
                error,
                attempts,
                stop_reason,
            }
        }
    }
}

/// Failure of an attempt, and what follows.
pub(super) struct AttemptFailure {
    pub(super) error: RpcError,
    pub(super) retry_decision: RetryDecision,
    connect_error: Option<Box<ConnectError>>,
    /// The address that the attempt was made to, if it was connected or known to try.
    pub(super) addr: Option<SocketAddr>,
    pub(super) took: Duration,
    /// The request was never sent, because the connection it was to use had died before.
    on_stale_connection: bool,
}

impl AttemptFailure {
    fn new(error: RpcError, retry_decision: RetryDecision) -> Self {
        Self {
            error,
            retry_decision,
            connect_error: None,
            addr: None,
            took: Duration::ZERO,
            on_stale_connection: false,
        }
    }

    pub(super) fn from_connect_error(error: ConnectError) -> Self {
        // After a fault of this process no worker can be reached.
        let retry_decision = match error.is_local() {
            true => RetryDecision::Stop,
            false => RetryDecision::AnyWorker,
        };
        Self {
            addr: error.addr(),
            connect_error: Some(Box::new(error.clone())),
            ..Self::new(error.into(), retry_decision)
        }
    }

    pub(super) fn from_call_error(
        error: RpcError,
        plan: &CallPlan<'_>,
        deadline: AttemptDeadline,
        connection_died: bool,
    ) -> Self {
        let took_too_long = error.code() == Code::DeadlineExceeded
            && error.processed() != Processed::Yes
            && !error.forbids_retry();
        // Only calls that may be repeated have a timeout of their attempts.
        let retry_decision = if took_too_long && deadline.is_attempt_timeout {
            RetryDecision::AnyWorker
        } else {
            retry_decision(&error, plan.repeatable)
        };
        Self {
            on_stale_connection: connection_died
                && error.code() == Code::Unavailable
                && error.processed() == Processed::No,
            ..Self::new(error, retry_decision)
        }
    }

    pub(super) fn deadline_before_sending(deadline: AttemptDeadline) -> Self {
        let retry_decision = if deadline.is_attempt_timeout {
            RetryDecision::AnyWorker
        } else {
            RetryDecision::Stop
        };
        let message = "deadline exceeded before the request was sent";
        let error = RpcError::new(Code::DeadlineExceeded, Processed::No, message);
        Self::new(error, retry_decision)
    }

    pub(super) fn allows_any_worker(&self) -> bool {
        self.retry_decision == RetryDecision::AnyWorker
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

    /// Whether the request may have been processed, and the answer was lost or did not come in
    /// time.
    pub(super) fn is_unanswered(&self) -> bool {
        self.error.processed() == Processed::Maybe
            && matches!(
                self.error.code(),
                Code::Unavailable | Code::DeadlineExceeded
            )
    }

    /// Stop reason of a call that ends with this failure.
    pub(super) fn stop_reason(&self) -> StopReason {
        if self.error.forbids_retry() {
            StopReason::DoNotRetry
        } else if self.error.code() == Code::DeadlineExceeded
            && self.error.processed() != Processed::Yes
        {
            StopReason::Deadline
        } else {
            StopReason::NotRetryable
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rpcnet_registry::{LoadBalancingStrategy, StaticMembership, WorkerRegistry};

    use super::*;
    use crate::client::{WorkerCallOptions, call_plan::CallSettings, tests::config};

    /// A worker of a static list that none calls.
    async fn worker() -> Worker {
        let list = StaticMembership::new();
        let addr = (Ipv4Addr::LOCALHOST, 7001).into();
        list.insert(NodeInfo::new(NodeId::new("red", 1), addr));
        let registry = WorkerRegistry::new(list, LoadBalancingStrategy::RoundRobin);
        registry.start().await;
        registry.select_worker(None).await.expect("a worker")
    }

    fn error(code: Code, processed: Processed) -> RpcError {
        RpcError::new(code, processed, "")
    }

    #[tokio::test]
    async fn a_timeout_of_an_attempt_is_retried_and_the_deadline_of_the_call_is_not() {
        let settings = CallSettings::new(config());
        let options = WorkerCallOptions::new().with_idempotent(true);
        let plan = settings.unary_plan("any", &options);
        let late = || error(Code::DeadlineExceeded, Processed::Maybe);
        for (is_attempt_timeout, decision) in [
            (true, RetryDecision::AnyWorker),
            (false, RetryDecision::Stop),
        ] {
            let deadline = AttemptDeadline {
                is_attempt_timeout,
                ..AttemptDeadline::for_call(None)
            };
            let failure = AttemptFailure::from_call_error(late(), &plan, deadline, false);
            assert_eq!(failure.retry_decision, decision);
            assert_eq!(failure.stop_reason(), StopReason::Deadline);
            let unsent = AttemptFailure::deadline_before_sending(deadline);
            assert_eq!(unsent.retry_decision, decision);
            let forbidden = late().with_retry_after(Duration::MAX);
            let failure = AttemptFailure::from_call_error(forbidden, &plan, deadline, false);
            assert_eq!(failure.retry_decision, RetryDecision::Stop);
            assert_eq!(failure.stop_reason(), StopReason::DoNotRetry);
        }
    }

    #[tokio::test]
    async fn a_worker_is_excluded_unless_its_connection_was_stale() {
        let settings = CallSettings::new(config());
        let plan = settings.unary_plan("any", &WorkerCallOptions::new());
        let (worker, deadline) = (worker().await, AttemptDeadline::for_call(None));
        for (plan, connection_died, is_excluded) in [
            (plan, false, true),
            (plan, true, false),
            (plan.single_target(), true, true),
        ] {
            let mut attempts = Attempts::default();
            let error = error(Code::Unavailable, Processed::No);
            let failure = AttemptFailure::from_call_error(error, &plan, deadline, connection_died);
            let now = Time::from_nanos(1);
            attempts.record_failure(&worker, AttemptReason::First, failure, &plan, now);
            assert_eq!(!attempts.state.excluded().is_empty(), is_excluded);
        }
    }

    #[tokio::test]
    async fn a_transient_last_failure_does_not_hide_an_unreadable_request() {
        let settings = CallSettings::new(config());
        let plan = settings.unary_plan("any", &WorkerCallOptions::new());
        let (worker, deadline) = (worker().await, AttemptDeadline::for_call(None));
        for (last, shown) in [
            (error(Code::Overloaded, Processed::No), Code::InvalidRequest),
            (error(Code::App, Processed::Yes), Code::App),
        ] {
            let mut attempts = Attempts::default();
            for error in [error(Code::InvalidRequest, Processed::No), last] {
                let failure = AttemptFailure::from_call_error(error, &plan, deadline, false);
                let now = Time::from_nanos(1);
                attempts.record_failure(&worker, AttemptReason::First, failure, &plan, now);
            }
            let error = attempts.into_error(StopReason::AttemptLimit);
            assert_eq!(error.rpc().map(RpcError::code), Some(shown));
            assert_eq!(error.attempts().len(), 2);
        }
    }
}
