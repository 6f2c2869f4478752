//! Runtime of an endpoint: tasks and timers of its connections run where it was bound.

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

/// Runtime that an endpoint was bound in. Its tasks and timers run there, whichever thread calls.
/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct EndpointRuntime(Arc<Inner>);

struct Inner {
    handle: Handle,
    end: Arc<RuntimeEnd>,
}

/// State that outlives the runtime.
#[derive(Default)]
struct RuntimeEnd {
    has_ended: AtomicBool,
    ended: CancellationToken,
    /// Cancelled when nothing of the endpoint is left.
    endpoint_dropped: CancellationToken,
}

/// The runtime of an endpoint has ended, and its connections with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuntimeEnded;

/// Guard in a task: the runtime drops it when it ends, which marks the end.
struct RuntimeEndGuard<F: FnOnce()> {
    end: Arc<RuntimeEnd>,
    at_end: Option<F>,
}

impl EndpointRuntime {
    /// Runtime of the current task; `None` outside of one.
    pub(crate) fn current() -> Option<Self> {
        let handle = Handle::try_current().ok()?;
        let end = Arc::default();
        Some(Self(Arc::new(Inner { handle, end })))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Starts a task that detects the end of the runtime. `at_end` is called if the runtime ends
    /// before the endpoint does.
    pub(crate) fn on_end(&self, at_end: impl FnOnce() + Send + 'static) {
        let guard = RuntimeEndGuard {
            end: Arc::clone(&self.0.end),
            at_end: Some(at_end),
        };
        self.0.handle.spawn(async move {
            let guard = guard;
            guard.end.endpoint_dropped.cancelled().await;
        });
    }

    /// Spawns a task. A runtime that has ended drops it at once.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.handle.spawn(future)
    }

    /// Whether the runtime is known to have ended.
    fn has_ended(&self) -> bool {
        self.0.end.has_ended.load(SeqCst)
    }

    /// Whether the runtime has ended: if that is not known, spawns a task, which a runtime that has
    /// ended drops at once. The loss of other tasks may be noticed before the end is known, since
    /// tasks are dropped in any order. Too slow for every call.
    pub(crate) fn check_ended(&self) -> bool {
        if !self.has_ended() {
            // A runtime accepts no more tasks before it drops the first.
            let task = self.0.handle.spawn(std::future::pending::<()>());
            if task.is_finished() {
                self.mark_ended();
            }
            task.abort();
        }
        self.has_ended()
    }

    /// Marks the end: one of the runtime's tasks was dropped.
    fn mark_ended(&self) {
        self.0.end.mark();
    }

    /// Waits until the runtime ends; never completes if the endpoint is dropped before.
    pub(crate) async fn ended(&self) {
        self.0.end.ended.cancelled().await;
    }

    /// Timer of the runtime, to be polled by [`poll_in_runtime`](Self::poll_in_runtime).
    pub(crate) fn sleep_until(&self, at: tokio::time::Instant) -> Sleep {
        let _inside = self.0.handle.enter();
        sleep_until(at)
    }

    /// Polls a future in the context of the runtime, so that its timers work wherever it is polled:
    /// on another runtime, or outside of any.
    ///
    /// # Errors
    ///
    /// If the runtime has ended: the future is not polled any more.
    pub(crate) async fn in_runtime<F: Future>(&self, future: F) -> Result<F::Output, RuntimeEnded> {
        let mut future = pin!(future);
        poll_fn(|cx| self.poll_in_runtime(|| future.as_mut().poll(cx))).await
    }

    /// [`in_runtime`](Self::in_runtime) for a single poll.
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
            // tokio's timers panic when their runtime ends while they are polled.
            Err(_) if self.has_ended() => Poll::Ready(Err(RuntimeEnded)),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// [`in_runtime`](Self::in_runtime) on a thread without a runtime; otherwise the thread's own
    /// runtime is used.
    pub(crate) async fn in_any_runtime<F: Future>(
        &self,
        future: F,
    ) -> Result<F::Output, RuntimeEnded> {
        match Handle::try_current() {
            Ok(_) => Ok(future.await),
            Err(_) => self.in_runtime(future).await,
        }
    }

    /// Error of a call: the end of the runtime, if that is why the connection was lost.
    pub(crate) fn explain(&self, error: RpcError) -> RpcError {
        if error.code() != Code::Unavailable || error.is_local() || !self.check_ended() {
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

/// Guard in the task of a connection that closes the connection if the runtime drops the task:
/// QUIC's own tasks are gone then, and everything that waits for the connection would wait forever.
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

    /// Sets a function that is called after the guard has closed the connection.
    pub(crate) fn on_runtime_end(mut self, at_end: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.at_end = Some(Box::new(at_end));
        self
    }

    pub(crate) fn connection(&self) -> &quinn::Connection {
        &self.connection
    }

    /// Disarms the guard: the task has completed.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for CloseOnRuntimeEnd {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // Otherwise something in the task panicked.
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

/// QUIC's tasks and timers run in the same runtime.
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
