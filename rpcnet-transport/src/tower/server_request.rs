//! Request of a unary call, on the side of the server.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::CallReply;
use crate::{
    CallContext, Code, Metadata, Status,
    server::{HandlerFuture, StartHandler},
};

/// Request of a unary call, as the layers and the service of its method see it. Cheap to clone.
#[derive(Clone)]
pub struct ServerRequest {
    cx: CallContext,
    body: Bytes,
    /// `None` for a method that is served by a service.
    handler: Option<LayeredHandler>,
}

/// The handler inside of a layer.
#[derive(Clone)]
struct LayeredHandler {
    start: Arc<StartHandler>,
    runs: Arc<HandlerRuns>,
}

/// Runs of the handler of one request: a layer may run it never, once, or several times.
#[derive(Default)]
pub(super) struct HandlerRuns(Mutex<RunState>);

#[derive(Default)]
struct RunState {
    /// The layer has failed the request: no run begins any more.
    has_ended: bool,
    begun: u32,
    returned: u32,
}

/// How far the handler of a request has come that a layer fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandlerProgress {
    NotStarted,
    /// A run has begun that has not returned.
    Unfinished,
    Returned,
}

impl ServerRequest {
    /// A request for a method that is served by a service.
    pub(super) fn new(cx: CallContext, body: Bytes) -> Self {
        let handler = None;
        Self { cx, body, handler }
    }

    /// A request for a layer around this handler.
    pub(super) fn with_handler(
        cx: CallContext,
        body: Bytes,
        start: Arc<StartHandler>,
    ) -> (Self, Arc<HandlerRuns>) {
        let runs = Arc::<HandlerRuns>::default();
        let handler = LayeredHandler {
            start,
            runs: Arc::clone(&runs),
        };
        let request = Self {
            handler: Some(handler),
            ..Self::new(cx, body)
        };
        (request, runs)
    }

    /// Context of the call: its caller, method, metadata, deadline, and what the
    /// [layers](crate::ServerLayer) of the router have set.
    #[must_use]
    pub fn context(&self) -> &CallContext {
        &self.cx
    }

    /// Name of the method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.cx.method()
    }

    /// Metadata of the request.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.cx.metadata()
    }

    /// The body. That of a typed method is encoded, with postcard as a rule.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The context and the body.
    #[must_use]
    pub fn into_parts(self) -> (CallContext, Bytes) {
        (self.cx, self.body)
    }

    /// Runs the handler, unless the layer has failed the request meanwhile.
    pub(super) async fn run(self) -> Result<CallReply, Status> {
        let Some(LayeredHandler { start, runs }) = self.handler else {
            let message = format!("method {:?} has no handler inside", self.cx.method());
            return Err(Status::internal(message).not_processed());
        };
        if !runs.begin() {
            let message = "the call has ended before the handler started";
            return Err(Status::new(Code::Cancelled, message).not_processed());
        }
        // Not before the first poll: what panics here must not end the task of a layer.
        let mut future = HandlerFuture::default();
        start(self.cx.clone(), self.body, &mut future);
        let result = future.finish().await;
        runs.count_returned();
        let headers = self.cx.take_reply_headers().unwrap_or_default();
        result.map(|body| CallReply::new(body).with_metadata(headers.metadata))
    }
}

impl HandlerRuns {
    fn begin(&self) -> bool {
        let mut state = self.0.lock();
        if !state.has_ended {
            state.begun += 1;
        }
        !state.has_ended
    }

    fn count_returned(&self) {
        self.0.lock().returned += 1;
    }

    /// Prevents further runs, and returns what is known of those before.
    pub(super) fn end(&self) -> HandlerProgress {
        let mut state = self.0.lock();
        state.has_ended = true;
        match (state.begun, state.returned) {
            (0, _) => HandlerProgress::NotStarted,
            (begun, returned) if returned < begun => HandlerProgress::Unfinished,
            _ => HandlerProgress::Returned,
        }
    }
}

impl fmt::Debug for ServerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerRequest")
            .field("context", &self.cx)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
