//! Start of a unary handler, and the future that it returns.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use tokio_util::sync::ReusableBoxFuture;

use super::{CallContext, call_status, handler_result::HandlerResult};
use crate::Status;

/// The future of a unary handler. Its memory is reused for the next call of the method.
#[derive(Default)]
pub(crate) struct HandlerFuture(Option<ReusableBoxFuture<'static, HandlerResult>>);

/// Starts a call: puts its future into the given memory.
pub(crate) type StartHandler = dyn Fn(CallContext, Bytes, &mut HandlerFuture) + Send + Sync;

impl HandlerFuture {
    /// Fused, so that what the future holds is dropped when it is ready, and not when the next one
    /// comes.
    pub(crate) fn set(&mut self, future: impl Future<Output = HandlerResult> + Send + 'static) {
        let future = future.fuse();
        match &mut self.0 {
            Some(memory) => memory.set(future),
            None => self.0 = Some(ReusableBoxFuture::new(future)),
        }
    }

    /// Polls the future; ready with `None` if none was started.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<HandlerResult>> {
        match &mut self.0 {
            Some(future) => {
                let outcome = future.poll(cx);
                outcome.map(|outcome| Some(outcome.map_err(Status::without_schema)))
            }
            None => Poll::Ready(None),
        }
    }

    /// Waits for the result of the future.
    pub(crate) async fn finish(mut self) -> HandlerResult {
        let outcome = std::future::poll_fn(|cx| self.poll(cx)).await;
        outcome.unwrap_or_else(|| Err(call_status::not_started()))
    }
}
