//! Broadcast: calls to all workers that match.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream, stream::BoxStream};
use rpcnet_registry::{Candidate, NodeId, Worker};
use rpcnet_transport::{Decode, Encode};

use super::{
    ClusterClient, ClusterError, WorkerCallOptions,
    call_plan::{CallPlan, ClusterCall, Destination},
    operation::UnaryCall,
};

impl ClusterClient {
    /// Calls a method of every worker that matches `filter` and can be reached, several at a time,
    /// and returns what each replied, alive workers first.
    ///
    /// Each worker has the client's timeout for itself, and is retried as any call is, but never
    /// replaced by another.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Select`] if no worker can be selected. The failure of a worker stands with
    /// that worker.
    pub async fn call_all_workers(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
    ) -> Result<Vec<(NodeId, Result<Bytes, ClusterError>)>, ClusterError> {
        self.call_all_workers_with(method, body, filter, WorkerCallOptions::new())
            .await
    }

    /// Like [`call_all_workers`](Self::call_all_workers), with options. A deadline
    /// holds for all of them together.
    ///
    /// # Errors
    ///
    /// As of [`call_all_workers`](Self::call_all_workers).
    pub async fn call_all_workers_with(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<Vec<(NodeId, Result<Bytes, ClusterError>)>, ClusterError> {
        self.executor.workers.follow();
        let workers = self.registry().candidates(filter)?;
        let ids = workers.iter().map(|worker| worker.id().clone());
        let order: HashMap<NodeId, usize> = ids.zip(0..).collect();
        let plan = || self.settings.unary_plan(method, &options);
        let replies = self.call_each(workers, method, body.into(), plan);
        let mut replies: Vec<_> = replies.collect().await;
        replies.sort_unstable_by_key(|(id, _)| order[id]);
        Ok(replies)
    }

    /// Calls a method of every worker that matches `filter` and can be reached, and gives each
    /// reply as it comes.
    ///
    /// Up to
    /// [`broadcast_concurrency_max`](super::ClusterClientConfig::with_broadcast_concurrency_max)
    /// are called at a time, each is retried as any call is, but never replaced by another. The
    /// timeout is for all of them together; workers that have not replied by then have failed.
    /// Dropping the stream cancels the rest.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Select`] if no worker can be selected. The failure of a worker stands with
    /// that worker.
    pub fn call_all_workers_stream(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<WorkerReplies<'_, Bytes>, ClusterError> {
        let workers = self.executor.workers.candidates(method, filter)?;
        let plan = self.settings.unary_plan(method, &options);
        Ok(self.call_each(workers, method, body.into(), move || plan.starting_now()))
    }

    /// Like [`call_all_workers_stream`](Self::call_all_workers_stream), with values that are
    /// encoded with postcard.
    ///
    /// # Errors
    ///
    /// As of [`call_all_workers_stream`](Self::call_all_workers_stream); and if the request does
    /// not encode. A reply that does not decode is a failure of that worker.
    pub fn call_all_workers_stream_typed<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<WorkerReplies<'_, Resp>, ClusterError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = request.encode().map_err(ClusterError::Encode)?;
        let WorkerReplies { remaining, replies } =
            self.call_all_workers_stream(method, body, filter, options)?;
        let decoded = replies.map(|(node, reply)| {
            let reply = reply.and_then(|reply| decode(&node, reply));
            (node, reply)
        });
        Ok(WorkerReplies {
            remaining,
            replies: decoded.boxed(),
        })
    }

    /// Calls each of these workers, several at a time, and no other one when it fails.
    pub(super) fn call_each<'a>(
        &'a self,
        workers: Vec<Candidate>,
        method: &str,
        body: Bytes,
        plan: impl Fn() -> CallPlan<'a> + Copy + Send + Sync + 'a,
    ) -> WorkerReplies<'a, Bytes> {
        let remaining = workers.len();
        let method: Arc<str> = method.into();
        let calls = workers.into_iter().map(move |worker| {
            let (method, body) = (Arc::clone(&method), body.clone());
            async move {
                let method = &*method;
                let call = || ClusterCall::new(plan(), method, Destination::Only(&worker));
                let reply = self.executor.execute(
                    call,
                    UnaryCall {
                        method,
                        integer: None,
                        body,
                    },
                    |reply, _| reply,
                );
                let reply = reply.await;
                (worker.id().clone(), reply)
            }
            .boxed()
        });
        // Not in order, in which one that hangs would hold up those behind it.
        let replies =
            stream::iter(calls).buffer_unordered(self.config().broadcast_concurrency_max.get());
        WorkerReplies {
            remaining,
            replies: replies.boxed(),
        }
    }
}

/// Replies of a broadcast, each as it comes: the node, and its reply or what it failed with.
pub struct WorkerReplies<'a, T> {
    remaining: usize,
    replies: BoxStream<'a, (NodeId, Result<T, ClusterError>)>,
}

impl<T> WorkerReplies<'_, T> {
    /// The number of replies that are still to come.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }
}

impl<T> Stream for WorkerReplies<'_, T> {
    type Item = (NodeId, Result<T, ClusterError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.replies.poll_next_unpin(cx);
        if let Poll::Ready(Some(_)) = next {
            self.remaining -= 1;
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<T> fmt::Debug for WorkerReplies<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerReplies")
            .field("remaining", &self.remaining)
            .finish_non_exhaustive()
    }
}

/// The result of a call with the worker that has replied.
pub(super) fn with_worker<R>(reply: R, worker: Worker) -> (R, Worker) {
    (reply, worker)
}

pub(super) fn decode<T: Decode>(node: &NodeId, reply: Bytes) -> Result<T, ClusterError> {
    T::decode(reply).map_err(|error| ClusterError::Decode {
        node: node.clone(),
        error,
    })
}
