//! Calls to all workers.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream, stream::BoxStream};
use rpcnet_registry::{Candidate, NodeId};
use rpcnet_transport::{Decode, Encode, RpcClient};
use tokio::time::Instant;

use super::{
    ClusterClient, ClusterError, WorkerCallOptions, attempts::Attempts, error::StopReason,
    options::CallPlan, retry_policy::RetryDecision,
};

impl ClusterClient {
    /// Calls a method of every worker that matches `filter` and can be reached, several at a time, and says what each
    /// replied, alive workers first.
    ///
    /// Each has the client's timeout for itself, and is tried again as any call is, but never replaced by another.
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

    /// Like [`call_all_workers`](Self::call_all_workers), with a timeout of its own and more. A deadline holds for all of
    /// them together.
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
        let body = body.into();
        let workers = self.reachable_workers(filter)?;
        let calls = workers.into_iter().enumerate().map(|(index, worker)| {
            let body = body.clone();
            async move {
                let plan = options.call_plan(self, method).single_target();
                let reply = self.call_one(&worker, method, body, plan).await;
                (index, (worker.id().clone(), reply))
            }
        });
        let calls: Vec<_> = calls.collect();
        // Not in order, in which one that hangs would hold up those behind it.
        let mut replies: Vec<_> = stream::iter(calls)
            .buffer_unordered(self.config.broadcast_concurrency_max.get())
            .collect()
            .await;
        replies.sort_unstable_by_key(|(index, _)| *index);
        Ok(replies.into_iter().map(|(_, reply)| reply).collect())
    }

    /// Calls a method of every worker that matches `filter` and can be reached, and gives each reply as it comes.
    ///
    /// Up to [`broadcast_concurrency_max`](super::ClusterClientConfig::with_broadcast_concurrency_max) are called at a time, each is tried again as
    /// any call is, but never replaced by another. The timeout is for all of them together; those who have not replied by
    /// then have failed. Dropping the stream cancels the rest.
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
        let workers = self.reachable_workers(filter)?;
        let plan = options.call_plan(self, method).single_target();
        Ok(self.call_each(workers, method, body.into(), plan))
    }

    /// Like [`call_all_workers_stream`](Self::call_all_workers_stream), with values that are encoded with postcard.
    ///
    /// # Errors
    ///
    /// As of [`call_all_workers_stream`](Self::call_all_workers_stream); and if the request does not encode. A reply that does not
    /// decode is a failure of that worker.
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
        let WorkerReplies {
            remaining: left,
            replies,
        } = self.call_all_workers_stream(method, body, filter, options)?;
        let decoded = replies.map(|(node, reply)| {
            let reply = reply.and_then(|reply| decode(&node, reply));
            (node, reply)
        });
        Ok(WorkerReplies {
            remaining: left,
            replies: decoded.boxed(),
        })
    }

    /// All workers that are to be called. Each counts as in flight from when its call begins.
    pub(super) fn reachable_workers(
        &self,
        filter: Option<&str>,
    ) -> Result<Vec<Candidate>, ClusterError> {
        self.connections.follow(&self.registry);
        Ok(self.registry.candidates(filter)?)
    }

    /// Calls these, several at a time.
    pub(super) fn call_each<'a>(
        &'a self,
        mut workers: Vec<Candidate>,
        method: &str,
        body: Bytes,
        plan: CallPlan<'a>,
    ) -> WorkerReplies<'a, Bytes> {
        if let Some(refusing) = self.refused_methods.workers_refusing(method) {
            // Who only wants some replies need not ask those that give none.
            workers.sort_by_key(|worker| refusing.contains(worker.endpoint_id()));
        }
        let left = workers.len();
        let method: Arc<str> = method.into();
        let calls = workers.into_iter().map(move |worker| {
            let (method, body) = (Arc::clone(&method), body.clone());
            async move {
                let reply = self.call_one(&worker, &method, body, plan).await;
                (worker.id().clone(), reply)
            }
            .boxed()
        });
        let replies =
            stream::iter(calls).buffer_unordered(self.config.broadcast_concurrency_max.get());
        WorkerReplies {
            remaining: left,
            replies: replies.boxed(),
        }
    }

    /// Attempts on one worker until one succeeds or no other makes sense.
    async fn call_one(
        &self,
        candidate: &Candidate,
        method: &str,
        body: Bytes,
        plan: CallPlan<'_>,
    ) -> Result<Bytes, ClusterError> {
        let mut worker = candidate.begin();
        let now = self.registry.time(Instant::now().into_std());
        worker.set_method(method, now);
        let worker = &worker;
        let mut course = Attempts::default();
        loop {
            let reason = match self.admit_attempt(&mut course) {
                Ok(reason) => reason,
                Err(gave_up) => return Err(course.into_error(gave_up)),
            };
            let number = course.start_next();
            let connection = self.connections.connection(worker);
            let call = |client: RpcClient, options| {
                let body = body.clone();
                async move { client.call_with(method, body, options).await }
            };
            let this = (method, number, Instant::now());
            let outcome = self.run_attempt(worker, connection, &plan, this, &call);
            let failure = match outcome.await {
                Ok(reply) => {
                    self.on_call_succeeded();
                    return Ok(reply);
                }
                Err(failure) => failure,
            };
            course.record_failure(worker, reason, failure);
            let again = match course
                .last_failure
                .as_ref()
                .map(|failure| failure.retry_decision)
            {
                // Nobody else can do it.
                Some(RetryDecision::OtherWorker) => Err(StopReason::NoWorkerLeft),
                _ => self.plan_retry(&plan, &mut course),
            };
            let again = match again {
                Ok(()) => self.back_off(&plan, &mut course).await,
                Err(gave_up) => Err(gave_up),
            };
            if let Err(gave_up) = again {
                return Err(course.into_error(gave_up));
            }
        }
    }
}

/// What the workers of a call to all reply, each as it comes: the node, and its reply or what it failed with.
pub struct WorkerReplies<'a, T> {
    remaining: usize,
    replies: BoxStream<'a, (NodeId, Result<T, ClusterError>)>,
}

impl<T> WorkerReplies<'_, T> {
    /// How many are still to come.
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
            .field("left", &self.remaining)
            .finish_non_exhaustive()
    }
}

pub(super) fn decode<T: Decode>(node: &NodeId, reply: Bytes) -> Result<T, ClusterError> {
    T::decode(reply).map_err(|error| ClusterError::Decode {
        node: node.clone(),
        error,
    })
}
