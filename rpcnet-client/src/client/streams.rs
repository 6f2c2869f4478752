//! Calls with streams, to a picked worker.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;
use rpcnet_registry::{NodeId, Worker};
use rpcnet_transport::{Decode, Encode, Raw, Receiver, RpcError, Sender, Upload};

use super::{ClusterClient, ClusterError, WorkerCallOptions, course::Course};

/// Streams are begun on another worker as long as no request could be sent. What the worker says of a request that was sent,
/// a refusal included, comes with the stream; whether the stream can be begun anew is the caller's to know.
///
/// A stream has no deadline unless its options or the policy of its method say so, or it is made by a handler whose call has one. It
/// ends with its connection, which is lost after the
/// [idle timeout](rpcnet_transport::TransportConfig::with_idle_timeout) if its worker is gone.
impl ClusterClient {
    /// Calls a method of a worker that answers one request with a stream.
    ///
    /// # Errors
    ///
    /// [`ClusterError`] if no worker could be asked; what the worker says comes with the stream.
    pub async fn call_worker_server_streaming<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<OnWorker<Receiver<Resp>>, ClusterError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let request = Raw(request.encode().map_err(ClusterError::Encode)?);
        let plan = options.stream_plan(self, method);
        let (stream, worker) = self
            .run(plan, filter, Course::default(), None, |client, options| {
                let request = request.clone();
                async move {
                    client
                        .call_server_streaming_with(method, &request, options)
                        .await
                }
            })
            .await?;
        Ok(OnWorker::new(stream, &Arc::new(worker)))
    }

    /// Calls a method of a worker that answers a stream with one reply.
    ///
    /// # Errors
    ///
    /// [`ClusterError`] if the call could not be begun on any worker.
    pub async fn call_worker_client_streaming<Req, Resp>(
        &self,
        method: &str,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<OnWorker<Upload<Req, Resp>>, ClusterError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let plan = options.stream_plan(self, method);
        let (stream, worker) = self
            .run(
                plan,
                filter,
                Course::default(),
                None,
                |client, options| async move {
                    client.call_client_streaming_with(method, options).await
                },
            )
            .await?;
        Ok(OnWorker::new(stream, &Arc::new(worker)))
    }

    /// Calls a method of a worker that answers a stream with a stream.
    ///
    /// # Errors
    ///
    /// [`ClusterError`] if the call could not be begun on any worker; what the worker says comes with the stream.
    #[allow(clippy::type_complexity, reason = "a pair of two ends")]
    pub async fn call_worker_streaming<Req, Resp>(
        &self,
        method: &str,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<(OnWorker<Sender<Req>>, OnWorker<Receiver<Resp>>), ClusterError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let plan = options.stream_plan(self, method);
        let ((sender, receiver), worker) = self
            .run(
                plan,
                filter,
                Course::default(),
                None,
                |client, options| async move { client.call_streaming_with(method, options).await },
            )
            .await?;
        let worker = Arc::new(worker);
        Ok((
            OnWorker::new(sender, &worker),
            OnWorker::new(receiver, &worker),
        ))
    }
}

/// An end of a stream, with the worker at the other end: the call counts as in flight there until all ends of it are
/// dropped. It is used as the end that it holds.
pub struct OnWorker<T> {
    end: T,
    worker: Arc<Worker>,
}

impl<T> OnWorker<T> {
    fn new(end: T, worker: &Arc<Worker>) -> Self {
        Self {
            end,
            worker: Arc::clone(worker),
        }
    }

    /// The worker at the other end.
    pub fn worker(&self) -> &NodeId {
        self.worker.id()
    }
}

impl<T: Encode> OnWorker<Sender<T>> {
    /// Says that no message follows.
    pub fn finish(self) {
        self.end.finish();
    }
}

impl<Req: Encode, Resp: Decode> OnWorker<Upload<Req, Resp>> {
    /// Says that no message follows, and waits for the reply.
    ///
    /// # Errors
    ///
    /// [`RpcError`] as of [`Upload::finish`].
    pub async fn finish(self) -> Result<Resp, RpcError> {
        let Self { end, worker } = self;
        let reply = end.finish().await;
        drop(worker);
        reply
    }
}

impl<T> Deref for OnWorker<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.end
    }
}

impl<T> DerefMut for OnWorker<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.end
    }
}

impl<T: Stream + Unpin> Stream for OnWorker<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        Pin::new(&mut self.end).poll_next(cx)
    }
}

impl<T: fmt::Debug> fmt::Debug for OnWorker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnWorker")
            .field("end", &self.end)
            .field("worker", self.worker())
            .finish()
    }
}
