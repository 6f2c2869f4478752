//! Run of a handler: until it returns, its deadline passes, its caller leaves, or the server stops.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
};

use futures::FutureExt;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::handler_end::HandlerEnd;
use crate::{
    deadline::reached,
    server::{
        CallContext,
        handler::{Handler, HandlerInput},
        handler_future::HandlerFuture,
    },
    stream::{ReturnedHalf, SendAbort, SendHalf},
};

/// Waits for the end of a call whose handler goes on. A shutdown comes first: it also closes the
/// connection, before the task of the call has run if the machine is busy.
async fn end_from_outside(
    stopped: impl Future<Output = bool>,
    deadline: Option<Instant>,
    token: &CancellationToken,
) -> HandlerEnd {
    tokio::select! {
        biased;
        () = token.cancelled() => HandlerEnd::ShuttingDown,
        _ = stopped => HandlerEnd::CallerGone,
        () = reached(deadline) => HandlerEnd::DeadlineExceeded,
    }
}

/// The stream half on which the reply is sent.
pub(super) enum ReplyStream {
    Owned(SendHalf),
    /// The handler has the half, which comes back when its sender is dropped.
    WithHandler(oneshot::Receiver<ReturnedHalf>),
}

/// A handler with its input, ready to run.
pub(super) struct HandlerRun {
    pub(super) handler: Handler,
    pub(super) cx: CallContext,
    pub(super) input: HandlerInput,
    pub(super) reply_stream: ReplyStream,
}

impl HandlerRun {
    /// Runs the handler until it returns, is cancelled or reaches its deadline. Returns the stream
    /// half for the reply, if the handler has given it back. A handler whose sender was aborted has
    /// not returned, whatever it says: only a complete stream may end well.
    pub(super) async fn finish(
        self,
        stopped: Pin<&mut impl Future<Output = bool>>,
        deadline: Option<Instant>,
        token: &CancellationToken,
    ) -> (HandlerEnd, Option<SendHalf>) {
        let Self {
            handler,
            cx,
            input,
            reply_stream,
        } = self;
        let inherited = cx.inherited();
        // The function of the handler may panic too, so it is called inside.
        let handled = inherited.scope(async move {
            match handler {
                Handler::Unary(method) => {
                    let mut future = HandlerFuture::default();
                    method.start(cx, input.body, &mut future);
                    future.finish().await
                }
                Handler::Streaming(method) => (method.serve)(cx, input).await,
            }
        });
        let mut handled = Box::pin(AssertUnwindSafe(handled).catch_unwind());
        let mut ended_outside = pin!(end_from_outside(stopped, deadline, token));
        let end = tokio::select! {
            biased;
            returned = &mut handled => returned.map_or(HandlerEnd::Panicked, HandlerEnd::Returned),
            end = &mut ended_outside => end,
        };
        // Dropping the handler drops its sender, unless the handler moved it to another task.
        drop(handled);
        match (reply_stream, end) {
            (ReplyStream::Owned(send), end) => (end, Some(send)),
            (ReplyStream::WithHandler(returned), HandlerEnd::Returned(outcome)) => tokio::select! {
                biased;
                returned = returned => {
                    let abort = returned.as_ref().ok().and_then(|returned| returned.abort);
                    // The handler may have checked for the end of the call, and not sent what was
                    // to follow.
                    let is_aborted = outcome.is_ok() && token.is_cancelled();
                    let abort = abort.or_else(|| is_aborted.then_some(SendAbort::ShuttingDown));
                    let is_complete = abort.is_none();
                    let end = abort.map_or(HandlerEnd::Returned(outcome), HandlerEnd::from);
                    (end, returned.ok().map(|returned| returned.into_half(is_complete)))
                }
                end = &mut ended_outside => (end, None),
            },
            (ReplyStream::WithHandler(mut returned), end) => {
                let returned = returned.try_recv().ok();
                (end, returned.map(|returned| returned.into_half(false)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_call_whose_connection_a_shutdown_closed_was_cancelled_by_the_shutdown() {
        let token = CancellationToken::new();
        let end = end_from_outside(ready(true), None, &token).await;
        assert!(matches!(end, HandlerEnd::CallerGone));
        token.cancel();
        let end = end_from_outside(ready(true), None, &token).await;
        assert!(matches!(end, HandlerEnd::ShuttingDown));
    }
}
