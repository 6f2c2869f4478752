//! What came of the attempts of a call, and what follows from it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpcnet_registry::{NodeId, NodeInfo, Worker};
use rpcnet_transport::{Code, ConnectError, Processed, RpcError};
use tokio::time::Instant;

use super::{
    Attempt, AttemptReason, ClusterError, StopReason,
    executor::AttemptDeadline,
    options::CallPlan,
    retry_policy::{RetryDecision, RetryKind, is_unreadable, retry_decision},
};

/// What came of the attempts of a call so far.
#[derive(Default)]
pub(super) struct Attempts {
    /// How many were begun.
    started_count: usize,
    pub(super) hedges: usize,
    pub(super) failed: Vec<Attempt>,
    pub(super) last_failure: Option<AttemptFailure>,
    /// The workers that could not read the request, with their endpoint ids.
    pub(super) unreadable_workers: Vec<(u64, Arc<NodeInfo>)>,
    /// The ids of those who were tried, who are not to be asked again until somebody else was.
    pub(super) excluded: Vec<u64>,
    /// From when on each of them may be asked again; `None` if it will not do it soon.
    pub(super) retry_at: Vec<Option<Instant>>,
    /// Why the next attempt is made, once one has failed.
    pub(super) retry_kind: Option<RetryKind>,
    /// Whom it goes to all the same, once: the one that may have done it and would remember.
    pub(super) same_worker_next: Option<NodeId>,
    pub(super) same_worker_retried: bool,
    /// How often it was waited, and for how long before the next attempt.
    pub(super) backoff_count: usize,
    pub(super) backed_off: Duration,
}

impl Attempts {
    /// The number of an attempt that begins now.
    pub(super) fn start_next(&mut self) -> usize {
        self.started_count += 1;
        self.started_count - 1
    }

    pub(super) fn started_count(&self) -> usize {
        self.started_count
    }

    pub(super) fn record_failure(
        &mut self,
        worker: &Worker,
        reason: AttemptReason,
        failure: AttemptFailure,
    ) {
        self.failed.push(Attempt {
            node: worker.id().clone(),
            addr: failure.addr.unwrap_or(worker.addr),
            reason,
            took: failure.took,
            error: failure.error.clone(),
        });
        // On a connection that had died unnoticed, nothing is known about the worker itself.
        if !failure.on_stale_connection {
            let now = Instant::now();
            let wait = failure.error.retry_after().unwrap_or_default();
            let free_at = now
                .checked_add(wait)
                .filter(|_| failure.allows_any_worker());
            self.excluded.push(worker.endpoint_id());
            self.retry_at.push(free_at);
        }
        if is_unreadable(&failure.error) {
            let node = Arc::clone(worker.node());
            self.unreadable_workers.push((worker.endpoint_id(), node));
        }
        self.last_failure = Some(failure);
    }

    /// An attempt that runs is cancelled, because the call has failed otherwise.
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

    /// Those who may be asked again by now have another turn.
    pub(super) fn readmit_due(&mut self, now: Instant) {
        let mut free = self.retry_at.iter();
        let is_free = |at: &Option<Instant>| at.is_some_and(|at| at <= now);
        self.excluded.retain(|_| !free.next().is_some_and(is_free));
        self.retry_at.retain(|at| !is_free(at));
    }

    /// The outcome of a call that ends with its last failure; or, if that one would pass, with an
    /// earlier one which shows that the request is to blame.
    pub(super) fn into_error(self, gave_up: StopReason) -> ClusterError {
        let attempts = self.failed;
        let last = self.last_failure.expect("a call ends after an attempt");
        let mut unreadable = attempts.iter().map(|attempt| &attempt.error).rev();
        let unreadable = unreadable.find(|error| is_unreadable(error)).cloned();
        let error = match unreadable {
            Some(error) if last.is_transient() => {
                return ClusterError::Rpc {
                    error,
                    attempts,
                    stop_reason: gave_up,
                };
            }
            _ => last.error,
        };
        let connect = last.connect_error;
        let is_late = error.code() == Code::DeadlineExceeded && error.processed() != Processed::Yes;
        if let Some(error) = connect {
            ClusterError::Connect {
                error,
                attempts,
                stop_reason: gave_up,
            }
        } else if is_late && gave_up == StopReason::Deadline {
            ClusterError::DeadlineExceeded { attempts }
        } else {
            ClusterError::Rpc {
                error,
                attempts,
                stop_reason: gave_up,
            }
        }
    }
}

/// Why an attempt failed, and what follows.
pub(super) struct AttemptFailure {
    pub(super) error: RpcError,
    pub(super) retry_decision: RetryDecision,
    connect_error: Option<ConnectError>,
    /// Where the attempt went, if it is known to have gone anywhere.
    pub(super) addr: Option<SocketAddr>,
    pub(super) took: Duration,
    /// The request was never sent, because the connection it was to use had died before.
    on_stale_connection: bool,
}

impl AttemptFailure {
    fn new(error: RpcError, verdict: RetryDecision) -> Self {
        Self {
            error,
            retry_decision: verdict,
            connect_error: None,
            addr: None,
            took: Duration::ZERO,
            on_stale_connection: false,
        }
    }

    pub(super) fn from_connect_error(error: ConnectError) -> Self {
        // A fault of this process: no worker can be reached.
        let verdict = match error.is_local() {
            true => RetryDecision::Stop,
            false => RetryDecision::AnyWorker,
        };
        Self {
            addr: error.addr(),
            connect_error: Some(error.clone()),
            ..Self::new(error.into(), verdict)
        }
    }

    pub(super) fn from_call_error(
        error: RpcError,
        plan: &CallPlan<'_>,
        end: AttemptDeadline,
        connection_died: bool,
    ) -> Self {
        let took_too_long = error.code() == Code::DeadlineExceeded
            && error.processed() != Processed::Yes
            && !error.forbids_retry();
        // The call has time left, and may be repeated, or its attempts would have as much time as itself.
        let verdict = if took_too_long && end.is_attempt_timeout {
            RetryDecision::AnyWorker
        } else {
            retry_decision(&error, plan.repeatable)
        };
        Self {
            on_stale_connection: connection_died
                && error.code() == Code::Unavailable
                && error.processed() == Processed::No,
            ..Self::new(error, verdict)
        }
    }

    pub(super) fn deadline_before_sending(end: AttemptDeadline) -> Self {
        let verdict = if end.is_attempt_timeout {
            RetryDecision::AnyWorker
        } else {
            RetryDecision::Stop
        };
        let message = "deadline exceeded before the request was sent";
        let error = RpcError::new(Code::DeadlineExceeded, Processed::No, message);
        Self::new(error, verdict)
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

    /// Whether it may have been processed, and the answer was lost or did not come in time.
    pub(super) fn is_unanswered(&self) -> bool {
        self.error.processed() == Processed::Maybe
            && matches!(
                self.error.code(),
                Code::Unavailable | Code::DeadlineExceeded
            )
    }

    /// Why a call ends that this one ends.
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
