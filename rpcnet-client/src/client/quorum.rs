//! Quorum calls: calls that a number of workers must answer.

use bytes::Bytes;
use futures::StreamExt;
use rpcnet_registry::{NodeId, SelectError};
use rpcnet_transport::{CodecError, Decode, Encode};
use thiserror::Error;

use super::{ClusterClient, ClusterError, WorkerCallOptions, broadcast::decode};

impl ClusterClient {
    /// Calls a method of every worker that matches `filter` and can be reached, until `required` of
    /// them have replied, and returns these replies. It ends when that many have replied, or as
    /// soon as that many no longer can; the other attempts are cancelled. With 0, no worker is
    /// called.
    ///
    /// Every worker that was called may have processed the request, in success and failure alike.
    ///
    /// Up to
    /// [`broadcast_concurrency_max`](super::ClusterClientConfig::with_broadcast_concurrency_max)
    /// are called at a time, each is tried again as any call is, but never replaced by another. The
    /// timeout is for all of them together.
    ///
    /// # Errors
    ///
    /// [`QuorumError`] says which workers have failed, and why.
    pub async fn call_quorum(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
        required: usize,
        options: WorkerCallOptions,
    ) -> Result<Vec<(NodeId, Bytes)>, QuorumError> {
        self.call_quorum_where(method, body, filter, required, options, |_, _| true)
            .await
    }

    /// Like [`call_quorum`](Self::call_quorum), where only replies count that `accept` accepts.
    ///
    /// # Errors
    ///
    /// As of [`call_quorum`](Self::call_quorum).
    pub async fn call_quorum_where(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
        required: usize,
        options: WorkerCallOptions,
        mut accept: impl FnMut(&NodeId, &Bytes) -> bool,
    ) -> Result<Vec<(NodeId, Bytes)>, QuorumError> {
        let evaluate = |node: &NodeId, reply: Bytes| match accept(node, &reply) {
            true => Ok(reply),
            false => Err(QuorumFailure::Rejected),
        };
        self.quorum(method, body.into(), filter, required, options, evaluate)
            .await
    }

    /// Like [`call_quorum`](Self::call_quorum), with values that are encoded with postcard.
    ///
    /// # Errors
    ///
    /// As of [`call_quorum`](Self::call_quorum). A reply that does not decode is a failure of that
    /// worker.
    pub async fn call_quorum_typed<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        filter: Option<&str>,
        required: usize,
        options: WorkerCallOptions,
    ) -> Result<Vec<(NodeId, Resp)>, QuorumError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_quorum_typed_where(method, request, filter, required, options, |_, _: &Resp| {
            true
        })
        .await
    }

    /// Like [`call_quorum_typed`](Self::call_quorum_typed), where only replies count that `accept`
    /// accepts.
    ///
    /// # Errors
    ///
    /// As of [`call_quorum_typed`](Self::call_quorum_typed).
    pub async fn call_quorum_typed_where<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        filter: Option<&str>,
        required: usize,
        options: WorkerCallOptions,
        mut accept: impl FnMut(&NodeId, &Resp) -> bool,
    ) -> Result<Vec<(NodeId, Resp)>, QuorumError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = request.encode().map_err(QuorumError::Encode)?;
        let evaluate = |node: &NodeId, reply: Bytes| {
            let reply = decode(node, reply).map_err(QuorumFailure::Failed)?;
            match accept(node, &reply) {
                true => Ok(reply),
                false => Err(QuorumFailure::Rejected),
            }
        };
        self.quorum(method, body, filter, required, options, evaluate)
            .await
    }

    async fn quorum<T>(
        &self,
        method: &str,
        body: Bytes,
        filter: Option<&str>,
        required: usize,
        options: WorkerCallOptions,
        mut evaluate: impl FnMut(&NodeId, Bytes) -> Result<T, QuorumFailure>,
    ) -> Result<Vec<(NodeId, T)>, QuorumError> {
        let mut accepted = Vec::new();
        if required == 0 {
            return Ok(accepted);
        }
        let workers = self.executor.workers.candidates(method, filter)?;
        if workers.len() < required {
            return Err(QuorumError::TooFewWorkers {
                required,
                reachable: workers.len(),
            });
        }
        let mut open: Vec<_> = workers.iter().map(|one| one.id().clone()).collect();
        let plan = self.settings.unary_plan(method, &options);
        let mut replies = self.call_each(workers, method, body, plan);
        let mut failed = Vec::new();
        while let Some((node, reply)) = replies.next().await {
            open.retain(|other| *other != node);
            let counted = reply
                .map_err(QuorumFailure::Failed)
                .and_then(|reply| evaluate(&node, reply));
            match counted {
                Ok(value) => accepted.push((node, value)),
                Err(failure) => failed.push((node, failure)),
            }
            if accepted.len() == required {
                return Ok(accepted);
            }
            if accepted.len() + replies.remaining() < required {
                break;
            }
        }
        Err(QuorumError::NotReached {
            required,
            accepted: accepted.into_iter().map(|(node, _)| node).collect(),
            failed,
            pending: open,
        })
    }
}

/// Error of a quorum call.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum QuorumError {
    /// No worker can be selected. Nothing was sent. Worth another try when the cluster has changed,
    /// unless the filter is wrong.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The request does not encode. The caller's fault; nothing was sent.
    #[error("cannot encode the request")]
    Encode(#[source] CodecError),
    /// There are fewer workers than must answer. Nothing was sent. Worth another try when more have
    /// joined.
    #[error("quorum out of reach: {required} workers must reply, and {reachable} are reachable")]
    TooFewWorkers {
        /// Number of workers that must answer.
        required: usize,
        /// Number of workers that could be called.
        reachable: usize,
    },
    /// Quorum not reached: so many have failed that the others are too few. Every worker that was
    /// called may have
    /// processed the request.
    #[error(
        "quorum not reached: {required} workers must reply, and {} did{}",
        .accepted.len(),
        list_failures(.failed)
    )]
    NotReached {
        /// Number of workers that must answer.
        required: usize,
        /// Workers whose replies count.
        accepted: Vec<NodeId>,
        /// Workers that failed, in the order of their failures.
        failed: Vec<(NodeId, QuorumFailure)>,
        /// Workers that had not answered; their attempts were cancelled, or never made.
        pending: Vec<NodeId>,
    },
}

/// Why the answer of a worker does not count.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum QuorumFailure {
    /// The call to it has failed.
    #[error(transparent)]
    Failed(ClusterError),
    /// Its reply was not accepted.
    #[error("the caller did not accept its reply")]
    Rejected,
}

fn list_failures(failed: &[(NodeId, QuorumFailure)]) -> String {
    let told = failed.iter();
    told.map(|(node, why)| format!("; {}: {why}", node.name))
        .collect()
}
