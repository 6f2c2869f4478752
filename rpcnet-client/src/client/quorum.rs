//! Calls that so many workers must answer.

use bytes::Bytes;
use futures::StreamExt;
use rpcnet_registry::{NodeId, SelectError};
use rpcnet_transport::{CodecError, Decode, Encode};
use thiserror::Error;

use super::{ClusterClient, ClusterError, WorkerCallOptions, broadcast::decode};

impl ClusterClient {
    /// Calls a method of every worker that matches `filter` and can be reached, until `wanted` of them have replied; says what
    /// they have. It ends when that many have, or as soon as they can no longer be that many; the other attempts are
    /// cancelled. With 0, no worker is called.
    ///
    /// Every worker that was called may have processed the request, in success and failure alike.
    ///
    /// Up to [`broadcast_concurrency_max`](super::ClusterClientConfig::with_broadcast_concurrency_max) are called at a time, each is tried again as
    /// any call is, but never replaced by another. The timeout is for all of them together.
    ///
    /// # Errors
    ///
    /// [`QuorumError`] says who has failed, and with what.
    pub async fn call_quorum(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
        wanted: usize,
        options: WorkerCallOptions,
    ) -> Result<Vec<(NodeId, Bytes)>, QuorumError> {
        self.call_quorum_where(method, body, filter, wanted, options, |_, _| true)
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
        wanted: usize,
        options: WorkerCallOptions,
        mut accept: impl FnMut(&NodeId, &Bytes) -> bool,
    ) -> Result<Vec<(NodeId, Bytes)>, QuorumError> {
        let judge = |node: &NodeId, reply: Bytes| match accept(node, &reply) {
            true => Ok(reply),
            false => Err(QuorumFailure::Rejected),
        };
        self.quorum(method, body.into(), filter, wanted, options, judge)
            .await
    }

    /// Like [`call_quorum`](Self::call_quorum), with values that are encoded with postcard.
    ///
    /// # Errors
    ///
    /// As of [`call_quorum`](Self::call_quorum). A reply that does not decode is a failure of that worker.
    pub async fn call_quorum_typed<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        filter: Option<&str>,
        wanted: usize,
        options: WorkerCallOptions,
    ) -> Result<Vec<(NodeId, Resp)>, QuorumError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_quorum_typed_where(method, request, filter, wanted, options, |_, _: &Resp| true)
            .await
    }

    /// Like [`call_quorum_typed`](Self::call_quorum_typed), where only replies count that `accept` accepts.
    ///
    /// # Errors
    ///
    /// As of [`call_quorum_typed`](Self::call_quorum_typed).
    pub async fn call_quorum_typed_where<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        filter: Option<&str>,
        wanted: usize,
        options: WorkerCallOptions,
        mut accept: impl FnMut(&NodeId, &Resp) -> bool,
    ) -> Result<Vec<(NodeId, Resp)>, QuorumError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = request.encode().map_err(QuorumError::Encode)?;
        let judge = |node: &NodeId, reply: Bytes| {
            let reply = decode(node, reply).map_err(QuorumFailure::Failed)?;
            match accept(node, &reply) {
                true => Ok(reply),
                false => Err(QuorumFailure::Rejected),
            }
        };
        self.quorum(method, body, filter, wanted, options, judge)
            .await
    }

    async fn quorum<T>(
        &self,
        method: &str,
        body: Bytes,
        filter: Option<&str>,
        wanted: usize,
        options: WorkerCallOptions,
        mut judge: impl FnMut(&NodeId, Bytes) -> Result<T, QuorumFailure>,
    ) -> Result<Vec<(NodeId, T)>, QuorumError> {
        let mut accepted = Vec::new();
        if wanted == 0 {
            return Ok(accepted);
        }
        let workers = self.executor.workers.candidates(method, filter)?;
        if workers.len() < wanted {
            return Err(QuorumError::TooFewWorkers {
                wanted,
                reachable: workers.len(),
            });
        }
        let mut open: Vec<_> = workers.iter().map(|one| one.id().clone()).collect();
        let plan = self.settings.unary_plan(method, &options);
        let mut replies = self.call_each(workers, method, body, plan);
        let mut failed = Vec::new();
        while let Some((node, reply)) = replies.next().await {
            open.retain(|other| *other != node);
            let vote = reply
                .map_err(QuorumFailure::Failed)
                .and_then(|reply| judge(&node, reply));
            match vote {
                Ok(value) => accepted.push((node, value)),
                Err(no_vote) => failed.push((node, no_vote)),
            }
            if accepted.len() == wanted {
                return Ok(accepted);
            }
            if accepted.len() + replies.remaining() < wanted {
                break;
            }
        }
        Err(QuorumError::NotReached {
            wanted,
            accepted: accepted.into_iter().map(|(node, _)| node).collect(),
            failed,
            pending: open,
        })
    }
}

/// Why fewer workers have replied than the quorum needs.
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
    /// There are fewer workers than must answer. Nothing was sent. Worth another try when more have joined.
    #[error("quorum out of reach: {wanted} workers must reply, and {reachable} are reachable")]
    TooFewWorkers {
        /// How many must answer.
        wanted: usize,
        /// How many could be called.
        reachable: usize,
    },
    /// So many have failed that the others are too few. Every worker that was called may have
    /// processed the request.
    #[error("quorum not reached: {wanted} workers must reply, and {} did{}", .accepted.len(), list(.failed))]
    NotReached {
        /// How many must answer.
        wanted: usize,
        /// Those who did.
        accepted: Vec<NodeId>,
        /// Those who did not, in the order of their failures, and why.
        failed: Vec<(NodeId, QuorumFailure)>,
        /// Those who had not yet; their attempts were cancelled, or never made.
        pending: Vec<NodeId>,
    },
}

/// Why a worker does not count.
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

fn list(failed: &[(NodeId, QuorumFailure)]) -> String {
    let told = failed.iter();
    told.map(|(node, why)| format!("; {}: {why}", node.name))
        .collect()
}
