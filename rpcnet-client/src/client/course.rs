//! What came of the attempts of a call, and what follows from it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpcnet_registry::{Node, NodeId, Worker};
use rpcnet_transport::{Code, ConnectError, Processed, RpcError};
use tokio::time::Instant;

use super::{
    Attempt, AttemptReason, ClusterError, GaveUp,
    options::Plan,
    retry::{RetryKind, Verdict, is_unreadable, verdict},
    run::Until,
};

/// What came of the attempts of a call so far.
#[derive(Default)]
pub(super) struct Course {
    /// How many were begun.
    made: usize,
    pub(super) hedges: usize,
    pub(super) failed: Vec<Attempt>,
    pub(super) last: Option<Failure>,
    /// The workers that could not read the request, with their endpoint ids.
    pub(super) unreadable_to: Vec<(u64, Arc<Node>)>,
    /// The ids of those who were tried, who are not to be asked again until somebody else was.
    pub(super) tried: Vec<u64>,
    /// From when on each of them may be asked again; `None` if it will not do it soon.
    pub(super) free_at: Vec<Option<Instant>>,
    /// Why the next attempt is made, once one has failed.
    pub(super) retry: Option<RetryKind>,
    /// Whom it goes to all the same, once: the one that may have done it and would remember.
    pub(super) back_to: Option<NodeId>,
    pub(super) went_back: bool,
    /// How often it was waited, and for how long before the next attempt.
    pub(super) pauses: usize,
    pub(super) paused: Duration,
}

impl Course {
    /// The number of an attempt that begins now.
    pub(super) fn begin(&mut self) -> usize {
        self.made += 1;
        self.made - 1
    }

    pub(super) fn made(&self) -> usize {
        self.made
    }

    pub(super) fn fail(&mut self, worker: &Worker, reason: AttemptReason, failure: Failure) {
        self.failed.push(Attempt {
            node: worker.id().clone(),
            addr: failure.addr.unwrap_or(worker.addr),
            reason,
            took: failure.took,
            error: failure.error.clone(),
        });
        // On a connection that had died unnoticed, nothing is known about the worker itself.
        if !failure.stale_connection {
            let now = Instant::now();
            let wait = failure.error.retry_after().unwrap_or_default();
            let free_at = now.checked_add(wait).filter(|_| failure.is_for_any());
            self.tried.push(worker.endpoint_id());
            self.free_at.push(free_at);
        }
        if is_unreadable(&failure.error) {
            let node = Arc::clone(worker.node());
            self.unreadable_to.push((worker.endpoint_id(), node));
        }
        self.last = Some(failure);
    }

    /// An attempt that runs is cancelled, because the call has failed otherwise.
    pub(super) fn give_up(&mut self, worker: &Worker, reason: AttemptReason, took: Duration) {
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
    pub(super) fn start_over(&mut self, now: Instant) {
        let mut free = self.free_at.iter();
        let is_free = |at: &Option<Instant>| at.is_some_and(|at| at <= now);
        self.tried.retain(|_| !free.next().is_some_and(is_free));
        self.free_at.retain(|at| !is_free(at));
    }

    /// The outcome of a call that ends with its last failure; or, if that one would pass, with an
    /// earlier one which shows that the request is to blame.
    pub(super) fn end(self, gave_up: GaveUp) -> ClusterError {
        let attempts = self.failed;
        let last = self.last.expect("a call ends after an attempt");
        let mut unreadable = attempts.iter().map(|attempt| &attempt.error).rev();
        let unreadable = unreadable.find(|error| is_unreadable(error)).cloned();
        let error = match unreadable {
            Some(error) if last.may_pass() => {
                return ClusterError::Rpc {
                    error,
                    attempts,
                    gave_up,
                };
            }
            _ => last.error,
        };
        let connect = last.connect;
        let is_late = error.code() == Code::DeadlineExceeded && error.processed() != Processed::Yes;
        if let Some(error) = connect {
            ClusterError::Connect {
                error,
                attempts,
                gave_up,
            }
        } else if is_late && gave_up == GaveUp::Deadline {
            ClusterError::DeadlineExceeded { attempts }
        } else {
            ClusterError::Rpc {
                error,
                attempts,
                gave_up,
            }
        }
    }
}

/// Why an attempt failed, and what follows.
pub(super) struct Failure {
    pub(super) error: RpcError,
    pub(super) verdict: Verdict,
    connect: Option<ConnectError>,
    /// Where the attempt went, if it is known to have gone anywhere.
    pub(super) addr: Option<SocketAddr>,
    pub(super) took: Duration,
    /// The request was never sent, because the connection it was to use had died before.
    stale_connection: bool,
}

impl Failure {
    fn new(error: RpcError, verdict: Verdict) -> Self {
        Self {
            error,
            verdict,
            connect: None,
            addr: None,
            took: Duration::ZERO,
            stale_connection: false,
        }
    }

    pub(super) fn of_connect(error: ConnectError) -> Self {
        // A fault of this process: no worker can be reached.
        let verdict = match error.is_local() {
            true => Verdict::GiveUp,
            false => Verdict::AnyWorker,
        };
        Self {
            addr: error.addr(),
            connect: Some(error.clone()),
            ..Self::new(error.into(), verdict)
        }
    }

    pub(super) fn of_call(
        error: RpcError,
        plan: &Plan<'_>,
        end: Until,
        connection_died: bool,
    ) -> Self {
        let took_too_long = error.code() == Code::DeadlineExceeded
            && error.processed() != Processed::Yes
            && !error.forbids_retry();
        // The call has time left, and may be repeated, or its attempts would have as much time as itself.
        let verdict = if took_too_long && end.is_of_attempt {
            Verdict::AnyWorker
        } else {
            verdict(&error, plan.repeatable)
        };
        Self {
            stale_connection: connection_died
                && error.code() == Code::Unavailable
                && error.processed() == Processed::No,
            ..Self::new(error, verdict)
        }
    }

    pub(super) fn out_of_time(end: Until) -> Self {
        let verdict = if end.is_of_attempt {
            Verdict::AnyWorker
        } else {
            Verdict::GiveUp
        };
        let message = "deadline exceeded before the request was sent";
        let error = RpcError::new(Code::DeadlineExceeded, Processed::No, message);
        Self::new(error, verdict)
    }

    pub(super) fn is_for_any(&self) -> bool {
        self.verdict == Verdict::AnyWorker
    }

    /// Whether the same call may succeed later, as far as this failure says: the request was not
    /// processed, and the reason lies with the cluster.
    fn may_pass(&self) -> bool {
        self.error.processed() == Processed::No
            && match &self.connect {
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
    pub(super) fn final_reason(&self) -> GaveUp {
        if self.error.forbids_retry() {
            GaveUp::Forbidden
        } else if self.error.code() == Code::DeadlineExceeded
            && self.error.processed() != Processed::Yes
        {
            GaveUp::Deadline
        } else {
            GaveUp::Final
        }
    }
}
