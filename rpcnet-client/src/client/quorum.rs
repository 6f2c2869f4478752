//! Quorum calls: calls to which a number of workers must reply.

use bytes::Bytes;
use futures::StreamExt;
use rpcnet_balance::retry::{QuorumState, QuorumTally};
use rpcnet_registry::{NodeId, SelectError};
use rpcnet_transport::{CodecError, Decode, Encode};
use thiserror::Error;

use super::{ClusterClient, ClusterError, WorkerCallOptions, broadcast::decode};

impl ClusterClient {
    /// A quorum call: a method of every worker that can be reached is called until `required` of
    /// them have replied. It ends when that many have replied, or as soon as that many no longer
    /// can; the other attempts are cancelled. With 0, no worker is called.
    pub fn quorum(&self, required: usize) -> QuorumCall<'_> {
        QuorumCall {
            client: self,
            required,
            filter: None,
            options: WorkerCallOptions::new(),
        }
    }
}

/// Builder of a quorum call, made by [`ClusterClient::quorum`].
///
/// Up to [`broadcast_concurrency_max`](super::ClusterClientConfig::with_broadcast_concurrency_max)
/// workers are called at a time, each is retried as any call is, but never replaced by another.
/// Every worker that was called may have processed the request, in success and failure alike.
///
/// ```
/// # use rpcnet_client::{ClusterClient, QuorumError};
/// # async fn example(client: &ClusterClient) -> Result<(), QuorumError> {
/// let stored = client.quorum(2).filter("role=replica").call("store", "a value").await?;
/// assert_eq!(stored.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "a quorum call does nothing until one of its `call` methods is awaited"]
pub struct QuorumCall<'a> {
    client: &'a ClusterClient,
    required: usize,
    filter: Option<&'a str>,
    options: WorkerCallOptions,
}

impl<'a> QuorumCall<'a> {
    /// Calls only workers whose tags match the filter. Default: all workers.
    pub fn filter(mut self, filter: impl Into<Option<&'a str>>) -> Self {
        self.filter = filter.into();
        self
    }

    /// Options of the call. A timeout is for all workers together.
    pub fn options(mut self, options: WorkerCallOptions) -> Self {
        self.options = options;
        self
    }

    /// Calls a method with bytes, and returns the replies that the quorum needs.
    ///
    /// # Errors
    ///
    /// [`QuorumError`] says which workers have failed, and why.
    pub async fn call(
        self,
        method: &str,
        body: impl Into<Bytes>,
    ) -> Result<Vec<(NodeId, Bytes)>, QuorumError> {
        self.call_where(method, body, |_, _| true).await
    }

    /// Like [`call`](Self::call), where only replies count that `accept` accepts.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call).
    pub async fn call_where(
        self,
        method: &str,
        body: impl Into<Bytes>,
        accept: impl FnMut(&NodeId, &Bytes) -> bool,
    ) -> Result<Vec<(NodeId, Bytes)>, QuorumError> {
        self.run(method, body.into(), |_, reply| Ok(reply), accept)
            .await
    }

    /// Like [`call`](Self::call), with values that are encoded with postcard. A reply that does not
    /// decode is a failure of that worker.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call), and if the request does not encode.
    pub async fn call_typed<Req, Resp>(
        self,
        method: &str,
        request: &Req,
    ) -> Result<Vec<(NodeId, Resp)>, QuorumError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_typed_where(method, request, |_, _: &Resp| true)
            .await
    }

    /// Like [`call_typed`](Self::call_typed), where only replies count that `accept` accepts.
    ///
    /// # Errors
    ///
    /// As of [`call_typed`](Self::call_typed).
    pub async fn call_typed_where<Req, Resp>(
        self,
        method: &str,
        request: &Req,
        accept: impl FnMut(&NodeId, &Resp) -> bool,
    ) -> Result<Vec<(NodeId, Resp)>, QuorumError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = request.encode().map_err(QuorumError::Encode)?;
        self.run(method, body, decode, accept).await
    }

    async fn run<T>(
        self,
        method: &str,
        body: Bytes,
        decode: fn(&NodeId, Bytes) -> Result<T, ClusterError>,
        mut accept: impl FnMut(&NodeId, &T) -> bool,
    ) -> Result<Vec<(NodeId, T)>, QuorumError> {
        let (client, required) = (self.client, self.required);
        if required == 0 {
            return Ok(Vec::new());
        }
        let workers = client.executor.workers.candidates(method, self.filter)?;
        let reachable = workers.len();
        let mut tally = QuorumTally::new(required, workers.iter().map(|one| one.id().clone()));
        if tally.state() == QuorumState::OutOfReach {
            return Err(QuorumError::TooFewWorkers {
                required,
                reachable,
            });
        }
        let plan = client.settings.unary_plan(method, &self.options);
        let mut replies = client.call_each(workers, method, body, move || plan.starting_now());
        while tally.state() == QuorumState::Open
            && let Some((node, reply)) = replies.next().await
        {
            let reply = match reply.and_then(|reply| decode(&node, reply)) {
                Ok(value) if accept(&node, &value) => Ok(value),
                Ok(_) => Err(QuorumFailure::NotAccepted),
                Err(error) => Err(QuorumFailure::Failed(error)),
            };
            tally.record(node, reply);
        }
        if tally.state() == QuorumState::Reached {
            return Ok(tally.accepted);
        }
        let accepted = tally.accepted.into_iter();
        Err(QuorumError::NotReached {
            required,
            accepted: accepted.map(|(node, _)| node).collect(),
            failed: tally.failed,
            pending: tally.pending,
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
    /// There are fewer workers than must reply. Nothing was sent. Worth another try when more have
    /// joined.
    #[error("quorum out of reach: {required} workers must reply, and {reachable} are reachable")]
    TooFewWorkers {
        /// Number of workers that must reply.
        required: usize,
        /// Number of workers that could be called.
        reachable: usize,
    },
    /// Quorum not reached: so many have failed that the others are too few. Every worker that was
    /// called may have processed the request.
    #[error(
        "quorum not reached: {required} workers must reply, and {} did{}",
        .accepted.len(),
        list_failures(.failed)
    )]
    NotReached {
        /// Number of workers that must reply.
        required: usize,
        /// Workers whose replies count.
        accepted: Vec<NodeId>,
        /// Workers that failed, in the order of their failures.
        failed: Vec<(NodeId, QuorumFailure)>,
        /// Workers that had not replied; their attempts were cancelled, or never made.
        pending: Vec<NodeId>,
    },
}

/// Reason for which the reply of a worker does not count.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum QuorumFailure {
    /// The call to it has failed.
    #[error(transparent)]
    Failed(ClusterError),
    /// The caller did not accept its reply.
    #[error("the caller did not accept its reply")]
    NotAccepted,
}

fn list_failures(failed: &[(NodeId, QuorumFailure)]) -> String {
    let texts = failed.iter();
    texts
        .map(|(node, why)| format!("; {}: {why}", node.name))
        .collect()
}
