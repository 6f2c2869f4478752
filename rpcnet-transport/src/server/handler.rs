//! Handlers of methods, unary and streaming, and the futures that they return.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tokio_util::sync::ReusableBoxFuture;

use super::{
    CallContext, Dispatch, call_status, call_type::CallType, handler_result::HandlerResult,
    method_config::MethodConfig, poll_cost::PollCost,
};
use crate::stream::{UntypedReceiver, UntypedSender};

/// The handler of a method.
#[derive(Clone)]
pub(crate) enum Handler {
    Unary(UnaryMethod),
    Streaming(StreamingMethod),
}

/// A method that takes one message and replies with one.
#[derive(Clone)]
pub(crate) struct UnaryMethod {
    pub(super) start: Arc<StartHandler>,
    pub(super) dispatch: Dispatch,
    pub(super) poll_cost: Arc<PollCost>,
    /// `None` for most methods.
    pub(super) config: Option<Arc<MethodConfig>>,
}

/// A method that streams in at least one direction.
#[derive(Clone)]
pub(crate) struct StreamingMethod {
    pub(super) call_type: CallType,
    pub(super) serve:
        Arc<dyn Fn(CallContext, HandlerInput) -> BoxFuture<'static, HandlerResult> + Send + Sync>,
    pub(super) config: Option<Arc<MethodConfig>>,
}

/// Input of a streaming handler. Each option is `Some` exactly if the method streams in that
/// direction.
pub(crate) struct HandlerInput {
    pub(crate) body: Bytes,
    pub(crate) requests: Option<UntypedReceiver>,
    pub(crate) replies: Option<UntypedSender>,
}

/// The future of a unary handler. Its memory is reused for the next call of the method.
#[derive(Default)]
pub(super) struct HandlerFuture(Option<ReusableBoxFuture<'static, HandlerResult>>);

/// Starts a call: puts its future into the given memory.
pub(super) type StartHandler = dyn Fn(CallContext, Bytes, &mut HandlerFuture) + Send + Sync;

impl Handler {
    pub(super) fn config(&self) -> Option<&MethodConfig> {
        match self {
            Self::Unary(method) => method.config.as_deref(),
            Self::Streaming(method) => method.config.as_deref(),
        }
    }

    /// Type of the calls that the handler serves.
    pub(super) fn call_type(&self) -> CallType {
        match self {
            Self::Unary(_) => CallType::Unary,
            Self::Streaming(method) => method.call_type,
        }
    }
}

impl UnaryMethod {
    /// Starts a call, in the memory of an earlier future if there is one.
    pub(super) fn start(&self, cx: CallContext, body: Bytes, started: &mut HandlerFuture) {
        (self.start)(cx, body, started);
    }

    /// Whether the handler is polled in a task of its own from the start.
    #[inline]
    pub(super) fn needs_task(&self) -> bool {
        match self.dispatch {
            Dispatch::Adaptive => self.poll_cost.is_slow(),
            Dispatch::Inline => false,
            Dispatch::Spawned => true,
        }
    }
}

impl HandlerFuture {
    /// Fused, so that what the future holds is dropped when it is ready, and not when the next one
    /// comes.
    pub(super) fn set(&mut self, future: impl Future<Output = HandlerResult> + Send + 'static) {
        let future = future.fuse();
        match &mut self.0 {
            Some(memory) => memory.set(future),
            None => self.0 = Some(ReusableBoxFuture::new(future)),
        }
    }

    /// Polls the future; ready with `None` if none was started.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<HandlerResult>> {
        match &mut self.0 {
            Some(future) => future.poll(cx).map(Some),
            None => Poll::Ready(None),
        }
    }

    /// Waits for the result of the future.
    pub(super) async fn finish(mut self) -> HandlerResult {
        let outcome = std::future::poll_fn(|cx| self.poll(cx)).await;
        outcome.unwrap_or_else(|| Err(call_status::not_started()))
    }
}
