//! Run of an admitted call: its handler, and the reply.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
};

use futures::FutureExt;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    admit::AdmittedCall,
    handler_end::{CancelledOnDrop, HandlerEnd},
};
use crate::{
    accounts::InFlightGuard,
    deadline::reached,
    endpoint::EndpointShared,
    server::{
        CallContext,
        admission::{Permits, YieldingPermits},
        call_checks::runs_detached,
        caller::Caller,
        context::CallInfo,
        detached_call::DetachedCall,
        handler::{Handler, HandlerFuture, HandlerInput},
        send_reply::{reserve_reply, send_reply},
    },
    stream::{
        IncomingCall, RecvHalf, ResetCode, ReturnedHalf, SendAbort, SendHalf, SenderContext,
        UntypedReceiver, UntypedSender,
    },
};

impl AdmittedCall {
    /// Runs the handler, and answers the caller.
    pub(super) async fn run(
        self,
        shared: &Arc<EndpointShared>,
        caller: &Caller,
        send: SendHalf,
        recv: RecvHalf,
    ) {
        let deadline = self.meta.deadline;
        let mut stopped = pin!(send.stopped());
        shared.counters.calls_started.add_one();
        let mut uncounted = CancelledOnDrop(Some(shared));
        let token = shared.served.cancel.child_token();
        let (run, mut resources) = self.prepare(shared, caller, &token, send, recv);
        let (end, send) = run.finish(stopped.as_mut(), deadline, &token).await;
        if !matches!(end, HandlerEnd::Returned(_)) {
            uncounted.0 = None;
        }
        resources.release_permits(&end);
        // Tasks that the handler spawned need not wait for the acknowledgement of the caller.
        token.cancel();
        match send {
            Some(send) => {
                let answered = resources.answer(shared, caller, deadline, end, send, stopped);
                answered.await;
            }
            // The handler moved its sender to another task, and the call is over: that task finds
            // it cancelled.
            None => end.count_unanswered(shared),
        }
        uncounted.0 = None;
    }

    /// Splits the call into the run of its handler and the resources that it holds meanwhile.
    fn prepare(
        self,
        shared: &Arc<EndpointShared>,
        caller: &Caller,
        token: &CancellationToken,
        send: SendHalf,
        mut recv: RecvHalf,
    ) -> (HandlerRun, CallResources) {
        let Self {
            name,
            handler,
            header,
            body,
            meta,
            mut permits,
            in_flight,
        } = self;
        let flags = header.flags;
        let info = CallInfo { method: name, meta };
        let cx = CallContext::with_token(caller.peer.clone(), info, token.clone());
        let config = handler.config();
        if runs_detached(config, &meta) {
            let (served, counters) = (&shared.served, &shared.counters);
            let (account, permits) = (&caller.account.peer, std::mem::take(&mut permits));
            cx.set_detached(DetachedCall {
                request_buffer: recv.budget().take_reservation(),
                ..DetachedCall::new(served, counters, account, permits)
            });
        } else if matches!(handler, Handler::Unary(_)) {
            permits.measure();
        }
        let yielding = (flags.streams_requests || flags.streams_replies)
            .then(|| YieldingPermits::new(std::mem::take(&mut permits)))
            .flatten();
        let streams = HandlerStreams {
            shared,
            caller,
            deadline: meta.deadline,
            token,
            permits: yielding.as_ref(),
        };
        let (requests, unused_recv) = streams.requests(recv, flags.streams_requests);
        let (replies, reply_stream) = streams.replies(send, flags.streams_replies);
        let run = HandlerRun {
            handler,
            cx,
            input: HandlerInput {
                body,
                requests,
                replies,
            },
            reply_stream,
        };
        let resources = CallResources {
            permits,
            yielding,
            unused_recv,
            in_flight,
        };
        (run, resources)
    }
}

/// Resources that a call holds while its handler runs.
struct CallResources {
    permits: Permits,
    yielding: Option<YieldingPermits>,
    /// The receive half, unless the handler reads it.
    unused_recv: Option<RecvHalf>,
    in_flight: InFlightGuard,
}

impl CallResources {
    /// Releases the permits, because the handler has ended.
    fn release_permits(&mut self, end: &HandlerEnd) {
        let returned = match end {
            HandlerEnd::Returned(outcome) => Some(outcome),
            _ => None,
        };
        let mut permits = std::mem::take(&mut self.permits);
        if let Some(yielding) = self.yielding.take() {
            yielding.end(returned);
        }
        if let Some(outcome) = returned {
            permits.note(outcome);
        }
    }

    /// Sends the reply, unless the caller is gone.
    async fn answer(
        self,
        shared: &EndpointShared,
        caller: &Caller,
        deadline: Option<Instant>,
        end: HandlerEnd,
        mut send: SendHalf,
        stopped: Pin<&mut impl Future<Output = bool>>,
    ) {
        let Self {
            mut unused_recv,
            in_flight,
            ..
        } = self;
        end.count(shared);
        // A call that a shutdown cancels counts as cancelled, and not as one that goes on.
        let goes_on = !matches!(end, HandlerEnd::ShuttingDown);
        let in_flight = goes_on.then_some(in_flight);
        let Some(outcome) = end.into_reply(shared.config.message_bytes_max) else {
            return send.reset(ResetCode::Cancelled);
        };
        // The handler has dropped the request.
        if let Some(recv) = &mut unused_recv {
            recv.budget().release();
        }
        let (outcome, _reserved) = match reserve_reply(shared, &caller.account.peer, outcome) {
            Ok((outcome, reserved)) => (outcome, Some(reserved)),
            Err(dropped) => (Err(dropped), None),
        };
        let sending = caller.replies.begin(deadline, in_flight);
        send_reply(shared, sending, &mut send, stopped, outcome).await;
        if let Some(mut recv) = unused_recv {
            recv.note_end();
        }
    }
}

/// Builder of the streams of a call, for its handler.
struct HandlerStreams<'a> {
    shared: &'a EndpointShared,
    caller: &'a Caller,
    deadline: Option<Instant>,
    token: &'a CancellationToken,
    permits: Option<&'a YieldingPermits>,
}

impl HandlerStreams<'_> {
    /// The requests for the handler, if they are a stream; otherwise the half stays here.
    fn requests(
        &self,
        recv: RecvHalf,
        is_stream: bool,
    ) -> (Option<UntypedReceiver>, Option<RecvHalf>) {
        if !is_stream {
            return (None, Some(recv));
        }
        let counters = Arc::clone(&self.shared.counters);
        let runtime = self.shared.runtime.clone();
        let (peer, yielding) = (self.caller.peer.clone(), self.permits.cloned());
        let requests = UntypedReceiver::for_handler(recv, runtime, peer, counters, yielding);
        (Some(requests), None)
    }

    /// The sender for the handler, if the replies are a stream, and where the final reply is sent.
    fn replies(&self, send: SendHalf, is_stream: bool) -> (Option<UntypedSender>, ReplyStream) {
        if !is_stream {
            return (None, ReplyStream::Owned(send));
        }
        let account = &self.caller.account.peer;
        let call = IncomingCall {
            cancelled: self.token.clone(),
            counters: Arc::clone(&self.shared.counters),
            permits: self.permits.cloned(),
            account: Arc::clone(account),
            stall_timer: self.caller.replies.stall_timer().clone(),
        };
        let context = SenderContext {
            runtime: self.shared.runtime.clone(),
            peer: self.caller.peer.clone(),
            message_bytes_max: self.shared.config.message_bytes_max,
            deadline: self.deadline,
        };
        let (replies, returned) = UntypedSender::for_handler(send, context, call);
        (Some(replies), ReplyStream::WithHandler(returned))
    }
}

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
enum ReplyStream {
    Owned(SendHalf),
    /// The handler has the half, which comes back when its sender is dropped.
    WithHandler(oneshot::Receiver<ReturnedHalf>),
}

/// A handler with its input, ready to run.
struct HandlerRun {
    handler: Handler,
    cx: CallContext,
    input: HandlerInput,
    reply_stream: ReplyStream,
}

impl HandlerRun {
    /// Runs the handler until it returns, is cancelled or reaches its deadline. Returns the stream
    /// half for the reply, if the handler has given it back. A handler whose sender was aborted has
    /// not returned, whatever it says: only a complete stream may end well.
    async fn finish(
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
                    let end = abort.map_or(HandlerEnd::Returned(outcome), HandlerEnd::from);
                    (end, returned.ok().map(|returned| returned.half))
                }
                end = &mut ended_outside => (end, None),
            },
            (ReplyStream::WithHandler(mut returned), end) => {
                (end, returned.try_recv().ok().map(|returned| returned.half))
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
