//! Streams to a selected worker.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::Stream;
use rpcnet_balance::{Outcome, OutcomeKind};
use rpcnet_registry::{NodeId, Worker, rejections::MethodOfTypes};
use rpcnet_transport::{
    CallOptions, Code, Decode, Encode, Raw, Receiver, RpcClient, RpcError, Sender, Upload,
};
use tokio::time::Instant;

use super::{
    ClusterClient, ClusterError, WorkerCallOptions,
    broadcast::with_worker,
    call_plan::{CallPlan, ClusterCall, Destination},
    operation::OpenStream,
    outcome::outcome_kind,
    registry_link::RegistryLink,
};

/// A stream is opened on another worker as long as no request could be sent. What the worker says
/// of a request that was sent, a rejection included, comes with the stream; the caller knows
/// whether the stream can be opened anew.
///
/// A stream has no deadline unless its options or the policy of its method say so, or it is opened
/// by a handler whose call has one. It ends with its connection, which is lost after the
/// [idle timeout](rpcnet_transport::TransportConfig::with_idle_timeout) and a keep-alive at the
/// latest (20 s by default) if its worker is gone.
impl ClusterClient {
    /// Calls a method of a worker that replies to one request with a stream.
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
    ) -> Result<WorkerStream<Receiver<Resp>>, ClusterError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let request = Raw(request.encode().map_err(ClusterError::Encode)?);
        let open = |client: RpcClient, options| {
            let request = request.clone();
            async move {
                client
                    .call_server_streaming_with(method, &request, options)
                    .await
            }
        };
        let (stream, first_reply) = self.open_stream(method, filter, &options, open).await?;
        Ok(WorkerStream::new(stream, &first_reply))
    }

    /// Calls a method of a worker that sends one reply to a stream of requests.
    ///
    /// # Errors
    ///
    /// [`ClusterError`] if the call could not be started on any worker.
    pub async fn call_worker_client_streaming<Req, Resp>(
        &self,
        method: &str,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<WorkerStream<Upload<Req, Resp>>, ClusterError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let open = |client: RpcClient, options| async move {
            client.call_client_streaming_with(method, options).await
        };
        let (stream, first_reply) = self.open_stream(method, filter, &options, open).await?;
        Ok(WorkerStream::new(stream, &first_reply))
    }

    /// Calls a method of a worker that replies to a stream with a stream.
    ///
    /// # Errors
    ///
    /// [`ClusterError`] if the call could not be started on any worker; what the worker says comes
    /// with the stream.
    #[allow(clippy::type_complexity, reason = "a pair of two ends")]
    pub async fn call_worker_streaming<Req, Resp>(
        &self,
        method: &str,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<(WorkerStream<Sender<Req>>, WorkerStream<Receiver<Resp>>), ClusterError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let open = |client: RpcClient, options| async move {
            client.call_streaming_with(method, options).await
        };
        let ((sender, receiver), first_reply) =
            self.open_stream(method, filter, &options, open).await?;
        Ok((
            WorkerStream::new(sender, &first_reply),
            WorkerStream::new(receiver, &first_reply),
        ))
    }

    async fn open_stream<T, Fut>(
        &self,
        method: &str,
        filter: Option<&str>,
        options: &WorkerCallOptions,
        open: impl Fn(RpcClient, CallOptions) -> Fut,
    ) -> Result<(T, Arc<FirstReply>), ClusterError>
    where
        Fut: Future<Output = Result<T, RpcError>>,
    {
        let plan = self.settings.stream_plan(method, options);
        let call = || ClusterCall::new(plan, method, Destination::Matching(filter));
        let (stream, worker) = self
            .executor
            .execute(call, OpenStream(open), with_worker)
            .await?;
        Ok((stream, FirstReply::new(self, method.into(), &plan, worker)))
    }
}

/// First reply of a stream: its outcome is reported once.
pub(super) struct FirstReply {
    worker: Worker,
    link: RegistryLink,
    method: Box<str>,
    /// Number of the types of the call.
    types: u64,
    application_errors_fail: bool,
    started_at: Instant,
    is_reported: AtomicBool,
}

impl FirstReply {
    pub(super) fn new(
        client: &ClusterClient,
        method: MethodOfTypes<'_>,
        plan: &CallPlan<'_>,
        worker: Worker,
    ) -> Arc<Self> {
        Arc::new(Self {
            worker,
            link: client.executor.workers.link.clone(),
            method: method.name.into(),
            types: method.types,
            application_errors_fail: plan.policy.application_errors_fail,
            started_at: plan.started_at,
            is_reported: AtomicBool::new(false),
        })
    }

    /// The worker has replied, or it is known that it will not.
    pub(super) fn on_reply(&self, error: Option<&RpcError>) {
        if self.is_reported.load(Relaxed) || self.is_reported.swap(true, Relaxed) {
            return;
        }
        let (id, node) = (self.worker.endpoint_id(), self.worker.node());
        let rejected_methods = &self.link.rejected_methods;
        let method = MethodOfTypes {
            name: &self.method,
            types: self.types,
        };
        let kind = match error {
            Some(error) if error.is_unreadable() => {
                if rejected_methods.record_unreadable_stream(method.name, (id, node)) {
                    self.link.record_rejection(method, id, node);
                }
                OutcomeKind::Rejected
            }
            // How long it lets the first message wait is its own affair.
            None => OutcomeKind::StreamStarted,
            // A request that cannot be sent to any worker.
            Some(error) if error.is_local() => return,
            Some(error) => match error.code() {
                // The pool hears of lost connections, and a stream has the time that its caller
                // gives it.
                Code::Unavailable | Code::Draining | Code::DeadlineExceeded | Code::Cancelled => {
                    return;
                }
                _ if error.rejects_method() => {
                    self.link.record_rejection(method, id, node);
                    OutcomeKind::Rejected
                }
                _ => match outcome_kind(error, self.application_errors_fail) {
                    OutcomeKind::Success => OutcomeKind::StreamStarted,
                    kind => kind,
                },
            },
        };
        if kind == OutcomeKind::StreamStarted {
            rejected_methods.on_stream_served(method, (id, node));
        }
        let retry_after = error
            .and_then(RpcError::retry_after)
            .filter(|_| kind == OutcomeKind::Overloaded);
        let outcome = Outcome::new(kind, self.started_at.elapsed()).with_retry_after(retry_after);
        self.worker.report(&outcome);
    }
}

/// A stream end, with the worker at the other end. The call counts as in flight there until all its
/// ends are dropped. It is used as the end that it holds.
///
/// The first message or error that is read here is reported to the balancer: a worker that does not
/// know the method is passed over for it by the calls that follow.
pub struct WorkerStream<T> {
    stream: T,
    first_reply: Arc<FirstReply>,
}

impl<T> WorkerStream<T> {
    pub(super) fn new(end: T, first_reply: &Arc<FirstReply>) -> Self {
        Self {
            stream: end,
            first_reply: Arc::clone(first_reply),
        }
    }

    /// The worker at the other end.
    #[must_use]
    pub fn worker(&self) -> &NodeId {
        self.first_reply.worker.id()
    }
}

impl<T: Decode> WorkerStream<Receiver<T>> {
    /// The next message, or `None` after the last; see [`Receiver::message`]. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`RpcError`] as of [`Receiver::message`].
    pub async fn message(&mut self) -> Result<Option<T>, RpcError> {
        let message = self.stream.message().await;
        self.first_reply.on_reply(message.as_ref().err());
        message
    }
}

impl<T: Encode> WorkerStream<Sender<T>> {
    /// Ends the stream of messages.
    pub fn finish(self) {
        self.stream.finish();
    }
}

impl<Req: Encode, Resp: Decode> WorkerStream<Upload<Req, Resp>> {
    /// Ends the requests and waits for the reply.
    ///
    /// # Errors
    ///
    /// [`RpcError`] as of [`Upload::finish`].
    pub async fn finish(self) -> Result<Resp, RpcError> {
        let Self {
            stream: end,
            first_reply,
        } = self;
        let reply = end.finish().await;
        first_reply.on_reply(reply.as_ref().err());
        reply
    }
}

impl<T> Deref for WorkerStream<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.stream
    }
}

impl<T> DerefMut for WorkerStream<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.stream
    }
}

impl<T, S> Stream for WorkerStream<S>
where
    S: Stream<Item = Result<T, RpcError>> + Unpin,
{
    type Item = Result<T, RpcError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.stream).poll_next(cx);
        if let Poll::Ready(message) = &next {
            let error = message.as_ref().and_then(|message| message.as_ref().err());
            self.first_reply.on_reply(error);
        }
        next
    }
}

impl<T: fmt::Debug> fmt::Debug for WorkerStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerStream")
            .field("end", &self.stream)
            .field("worker", self.worker())
            .finish()
    }
}
