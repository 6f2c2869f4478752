//! The runtime of an endpoint: the one that it was bound in, where everything of its connections runs.

use std::{
    fmt,
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
    time::Instant,
};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Code, ConnectError, Processed, RpcError,
    close::{CLOSE_DONE, close_at_once},
};

/// The runtime that an endpoint was bound in. Its tasks and timers run there, whatever thread calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EndpointRuntime(Arc<Inner>);

struct Inner {
    handle: Handle,
    end: Arc<RuntimeEnd>,
}

/// What outlives the runtime.
#[derive(Default)]
struct RuntimeEnd {
    has_ended: AtomicBool,
    ended: CancellationToken,
    /// Nothing of the endpoint is left.
    endpoint_dropped: CancellationToken,
}

/// The runtime of an endpoint has ended, and its connections with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuntimeEnded;

/// Lives in a task: its drop is the first that is heard of the end of the runtime.
struct RuntimeEndGuard<F: FnOnce()> {
    end: Arc<RuntimeEnd>,
    at_end: Option<F>,
}

impl EndpointRuntime {
    /// The runtime of this task; `None` outside of one.
    pub(crate) fn current() -> Option<Self> {
        let handle = Handle::try_current().ok()?;
        let end = Arc::default();
        Some(Self(Arc::new(Inner { handle, end })))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Begins to watch over the runtime. `at_end` is called when it ends before the endpoint does.
    pub(crate) fn on_end(&self, at_end: impl FnOnce() + Send + 'static) {
        let sentinel = RuntimeEndGuard {
            end: Arc::clone(&self.0.end),
            at_end: Some(at_end),
        };
        self.0.handle.spawn(async move {
            let sentinel = sentinel;
            sentinel.end.endpoint_dropped.cancelled().await;
        });
    }

    /// Spawns a task. On a runtime that has ended it is dropped at once.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.handle.spawn(future)
    }

    /// Whether it is known to have ended.
    fn has_ended(&self) -> bool {
        self.0.end.has_ended.load(SeqCst)
    }

    /// Whether it has ended, known or not. Its tasks are dropped in any order, so the first of them are missed before the end
    /// is known. Not for the way of every call.
    pub(crate) fn probe_ended(&self) -> bool {
        if !self.has_ended() {
            // A runtime takes no more tasks before it drops the first.
            let probe = self.0.handle.spawn(std::future::pending::<()>());
            if probe.is_finished() {
                self.mark_ended();
            }
            probe.abort();
        }
        self.has_ended()
    }

    /// Takes note that it has ended: one of its tasks was dropped.
    fn mark_ended(&self) {
        self.0.end.mark();
    }

    /// Ends when the runtime does, unless nothing of the endpoint is left before.
    pub(crate) async fn ended(&self) {
        self.0.end.ended.cancelled().await;
    }

    /// A timer of the runtime. It is to be polled by way of [`poll_in_runtime`](Self::poll_in_runtime).
    pub(crate) fn sleep_until(&self, at: tokio::time::Instant) -> Sleep {
        let _inside = self.0.handle.enter();
        sleep_until(at)
    }

    /// Polls a future as if by a task of the runtime, so that its timers work wherever it is polled: on another runtime, or
    /// outside of any.
    ///
    /// # Errors
    ///
    /// If the runtime has ended: the future is not polled any more.
    pub(crate) async fn in_runtime<F: Future>(&self, future: F) -> Result<F::Output, RuntimeEnded> {
        let mut future = pin!(future);
        poll_fn(|cx| self.poll_in_runtime(|| future.as_mut().poll(cx))).await
    }

    /// [`inside`](Self::inside), for a single poll.
    pub(crate) fn poll_in_runtime<T>(
        &self,
        poll: impl FnOnce() -> Poll<T>,
    ) -> Poll<Result<T, RuntimeEnded>> {
        if self.has_ended() {
            return Poll::Ready(Err(RuntimeEnded));
        }
        let _inside = self.0.handle.enter();
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(polled) => polled.map(Ok),
            // Timers of tokio panic when their runtime ends while they are looked at.
            Err(_) if self.has_ended() => Poll::Ready(Err(RuntimeEnded)),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// [`inside`](Self::inside) on a thread that has no runtime; another runtime's own timers are as good.
    pub(crate) async fn in_any_runtime<F: Future>(
        &self,
        future: F,
    ) -> Result<F::Output, RuntimeEnded> {
        match Handle::try_current() {
            Ok(_) => Ok(future.await),
            Err(_) => self.in_runtime(future).await,
        }
    }

    /// The error of a call, which is that the runtime has ended if it has and the connection was lost.
    pub(crate) fn explain(&self, error: RpcError) -> RpcError {
        if error.code() != Code::Unavailable || error.is_local() || !self.probe_ended() {
            return error;
        }
        RuntimeEnded.into_error(error.processed())
    }
}

impl RuntimeEnd {
    fn mark(&self) {
        self.has_ended.store(true, SeqCst);
        self.ended.cancel();
    }
}

/// Lives in the task of a connection, and closes the connection if the task is dropped with its runtime: QUIC's own tasks are gone
/// then, and would leave everything waiting that waits for the connection.
pub(crate) struct CloseOnRuntimeEnd {
    connection: quinn::Connection,
    runtime: EndpointRuntime,
    armed: bool,
    at_end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl CloseOnRuntimeEnd {
    pub(crate) fn new(connection: quinn::Connection, runtime: EndpointRuntime) -> Self {
        Self {
            connection,
            runtime,
            armed: true,
            at_end: None,
        }
    }

    /// Calls this after it had to close the connection.
    pub(crate) fn on_runtime_end(mut self, at_end: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.at_end = Some(Box::new(at_end));
        self
    }

    pub(crate) fn connection(&self) -> &quinn::Connection {
        &self.connection
    }

    /// The task has come to its end.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for CloseOnRuntimeEnd {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // Else something in the task panicked.
        if !std::thread::panicking() {
            self.runtime.mark_ended();
        }
        let reason = b"the task of the connection ended";
        close_at_once(&self.connection, CLOSE_DONE, reason);
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

impl RuntimeEnded {
    pub(crate) fn into_error(self, processed: Processed) -> RpcError {
        let source = ConnectError::RuntimeEnded;
        RpcError::new(Code::Unavailable, processed, source.to_string()).with_source(source)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end.endpoint_dropped.cancel();
    }
}

impl<F: FnOnce()> Drop for RuntimeEndGuard<F> {
    fn drop(&mut self) {
        if self.end.endpoint_dropped.is_cancelled() {
            return;
        }
        self.end.mark();
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

/// QUIC's tasks and timers run there too.
impl Runtime for EndpointRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let _inside = self.0.handle.enter();
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.handle.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let _inside = self.0.handle.enter();
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

impl fmt::Debug for EndpointRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointRuntime")
            .field("id", &self.0.handle.id())
            .field("has_ended", &self.has_ended())
            .finish()
    }
}
