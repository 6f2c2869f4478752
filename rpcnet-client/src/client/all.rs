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
    ClusterClient, ClusterError, WorkerCallOptions, course::Course, error::GaveUp, options::Plan,
    retry::Verdict,
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
        let workers = self.all(filter)?;
        let calls = workers.into_iter().enumerate().map(|(index, worker)| {
            let body = body.clone();
            async move {
                let plan = options.plan(self, method).of_one();
                let reply = self.call_this(&worker, method, body, plan).await;
                (index, (worker.id().clone(), reply))
            }
        });
        let calls: Vec<_> = calls.collect();
        // Not in order, in which one that hangs would hold up those behind it.
        let mut replies: Vec<_> = stream::iter(calls)
            .buffer_unordered(self.config.concurrency_max.get())
            .collect()
            .await;
        replies.sort_unstable_by_key(|(index, _)| *index);
        Ok(replies.into_iter().map(|(_, reply)| reply).collect())
    }

    /// Calls a method of every worker that matches `filter` and can be reached, and gives each reply as it comes.
    ///
    /// Up to [`concurrency_max`](super::ClusterClientConfig::with_concurrency_max) are called at a time, each is tried again as
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
    ) -> Result<Replies<'_, Bytes>, ClusterError> {
        let workers = self.all(filter)?;
        let plan = options.plan(self, method).of_one();
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
    ) -> Result<Replies<'_, Resp>, ClusterError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = request.encode().map_err(ClusterError::Encode)?;
        let Replies { left, replies } =
            self.call_all_workers_stream(method, body, filter, options)?;
        let decoded = replies.map(|(node, reply)| {
            let reply = reply.and_then(|reply| decode(&node, reply));
            (node, reply)
        });
        Ok(Replies {
            left,
            replies: decoded.boxed(),
        })
    }

    /// All workers that are to be called. Each counts as in flight from when its call begins.
    pub(super) fn all(&self, filter: Option<&str>) -> Result<Vec<Candidate>, ClusterError> {
        self.pool.follow(&self.registry);
        Ok(self.registry.candidates(filter)?)
    }

    /// Calls these, several at a time.
    pub(super) fn call_each<'a>(
        &'a self,
        mut workers: Vec<Candidate>,
        method: &str,
        body: Bytes,
        plan: Plan<'a>,
    ) -> Replies<'a, Bytes> {
        if let Some(refusing) = self.refused_methods.of(method) {
            // Who only wants some replies need not ask those that give none.
            workers.sort_by_key(|worker| refusing.contains(worker.endpoint_id()));
        }
        let left = workers.len();
        let method: Arc<str> = method.into();
        let calls = workers.into_iter().map(move |worker| {
            let (method, body) = (Arc::clone(&method), body.clone());
            async move {
                let reply = self.call_this(&worker, &method, body, plan).await;
                (worker.id().clone(), reply)
            }
            .boxed()
        });
        let replies = stream::iter(calls).buffer_unordered(self.config.concurrency_max.get());
        Replies {
            left,
            replies: replies.boxed(),
        }
    }

    /// Attempts on one worker until one succeeds or no other makes sense.
    async fn call_this(
        &self,
        candidate: &Candidate,
        method: &str,
        body: Bytes,
        plan: Plan<'_>,
    ) -> Result<Bytes, ClusterError> {
        let mut worker = candidate.begin();
        let now = self.registry.time(Instant::now().into_std());
        worker.note_method(method, now);
        let worker = &worker;
        let mut course = Course::default();
        loop {
            let reason = match self.next_attempt(&mut course) {
                Ok(reason) => reason,
                Err(gave_up) => return Err(course.end(gave_up)),
            };
            let number = course.begin();
            let connection = self.pool.connection(worker);
            let call = |client: RpcClient, options| {
                let body = body.clone();
                async move { client.call_with(method, body, options).await }
            };
            let this = (method, number, Instant::now());
            let outcome = self.attempt(worker, connection, &plan, this, &call);
            let failure = match outcome.await {
                Ok(reply) => {
                    self.succeeded();
                    return Ok(reply);
                }
                Err(failure) => failure,
            };
            course.fail(worker, reason, failure);
            let again = match course.last.as_ref().map(|failure| failure.verdict) {
                // Nobody else can do it.
                Some(Verdict::OtherWorkerOnly) => Err(GaveUp::NobodyLeft),
                _ => self.may_retry(&plan, &mut course),
            };
            let again = match again {
                Ok(()) => self.pause(&plan, &mut course).await,
                Err(gave_up) => Err(gave_up),
            };
            if let Err(gave_up) = again {
                return Err(course.end(gave_up));
            }
        }
    }
}

/// What the workers of a call to all reply, each as it comes: the node, and its reply or what it failed with.
pub struct Replies<'a, T> {
    left: usize,
    replies: BoxStream<'a, (NodeId, Result<T, ClusterError>)>,
}

impl<T> Replies<'_, T> {
    /// How many are still to come.
    pub fn left(&self) -> usize {
        self.left
    }
}

impl<T> Stream for Replies<'_, T> {
    type Item = (NodeId, Result<T, ClusterError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.replies.poll_next_unpin(cx);
        if let Poll::Ready(Some(_)) = next {
            self.left -= 1;
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> fmt::Debug for Replies<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

pub(super) fn decode<T: Decode>(node: &NodeId, reply: Bytes) -> Result<T, ClusterError> {
    T::decode(reply).map_err(|error| ClusterError::Decode {
        node: node.clone(),
        error,
    })
}
