//! Run of an admitted call: its handler, the end of that, and the reply.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
};

use bytes::Bytes;
use futures::{FutureExt, future};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::AdmittedCall;
use crate::{
    Code, Status,
    accounts::InFlightGuard,
    endpoint::EndpointShared,
    server::{
        CallContext,
        admission::{Permits, YieldingPermits},
        answer::{check_reply_size, maybe_processed, reserve_reply, send_reply},
        caller::Caller,
        context::CallInfo,
        detached::DetachedCall,
        handler::{Handler, HandlerFuture, HandlerInput},
    },
    stream::{
        IncomingCall, RecvHalf, ResetCode, ReturnedHalf, SendAbort, SendHalf, UntypedReceiver,
        UntypedSender,
    },
};

/// Counts a call as cancelled if it is dropped before it is answered.
struct CancelledOnDrop<'a>(Option<&'a EndpointShared>);

impl Drop for CancelledOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.counters.calls_cancelled.add_one();
            if shared.cancel_calls.is_cancelled() {
                shared.cancelled_by_shutdown.add_one();
            }
        }
    }
}

/// How the run of a handler ended.
enum HandlerEnd {
    Returned(Result<Bytes, Status>),
    Panicked,
    CallerGone,
    DeadlineExceeded,
    ShuttingDown,
    /// The caller has not read earlier messages of the stream, so there is no room for another.
    Overloaded,
}

impl AdmittedCall {
    /// Runs the handler, and answers the caller.
    pub(super) async fn run(
        self,
        shared: &Arc<EndpointShared>,
        caller: &Caller,
        send: SendHalf,
        mut recv: RecvHalf,
    ) {
        let Self {
            name,
            handler,
            header,
            body,
            meta,
            mut permits,
            in_flight,
        } = self;
        let (peer, account) = (&caller.peer, &caller.account.peer);
        let deadline = meta.deadline;
        let mut stopped = pin!(send.stopped());
        shared.counters.calls_started.add_one();
        let mut unended = CancelledOnDrop(Some(shared));

        let token = shared.cancel_calls.child_token();
        let flags = header.flags;
        let info = CallInfo { method: name, meta };
        let cx = CallContext::with_token(peer.clone(), info, token.clone());
        if handler
            .config()
            .is_some_and(|rules| rules.uses_idempotency_cache)
            && meta.idempotency_key.is_some()
        {
            cx.set_detached(DetachedCall {
                permits: std::mem::take(&mut permits),
                shared: Arc::clone(shared),
                account: Arc::clone(account),
                request_buffer: recv.take_reservation(),
            });
        } else if matches!(handler, Handler::Unary(_)) {
            permits.measure();
        }
        let yielding = (flags.streams_requests || flags.streams_replies)
            .then(|| YieldingPermits::new(std::mem::take(&mut permits)))
            .flatten();
        let ends = HandlerStreams {
            shared,
            caller,
            deadline,
            token: &token,
            permits: yielding.as_ref(),
        };
        let (requests, mut unused_recv) = match flags.streams_requests {
            true => (Some(ends.for_requests(recv)), None),
            false => (None, Some(recv)),
        };
        let (replies, reply_stream) = match flags.streams_replies {
            true => {
                let (core, back) = ends.for_replies(send);
                (Some(core), ReplyStream::WithHandler(back))
            }
            false => (None, ReplyStream::Owned(send)),
        };

        let arguments = HandlerInput {
            body,
            requests,
            replies,
        };
        let (ended, send) = run_handler(
            &handler,
            cx,
            arguments,
            reply_stream,
            stopped.as_mut(),
            deadline,
            &token,
        )
        .await;
        if !matches!(ended, HandlerEnd::Returned(_)) {
            unended.0 = None;
        }
        release_permits(permits, yielding, &ended);
        // Tasks that the handler spawned need not wait for the acknowledgement of the caller.
        token.cancel();
        let Some(mut send) = send else {
            // The handler moved its sender to another task, and the call is over: that task finds
            // it cancelled.
            unended.0 = None;
            count_unanswered(shared, &ended);
            return;
        };
        let mut in_flight = Some(in_flight);
        let Some(outcome) = reply_for(shared, ended, &mut in_flight) else {
            return send.reset(ResetCode::Cancelled);
        };
        // The handler has dropped the request.
        if let Some(recv) = &mut unused_recv {
            recv.release_reservation();
        }
        let (outcome, _held) = match reserve_reply(shared, account, outcome) {
            Ok((outcome, held)) => (outcome, Some(held)),
            Err(dropped) => (Err(dropped), None),
        };
        let sending = caller.replies.begin(deadline);
        send_reply(shared, sending, &mut send, stopped, outcome, in_flight).await;
        unended.0 = None;
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
    fn for_requests(&self, recv: RecvHalf) -> UntypedReceiver {
        let counters = Arc::clone(&self.shared.counters);
        let runtime = self.shared.runtime.clone();
        let (peer, yielding) = (self.caller.peer.clone(), self.permits.cloned());
        UntypedReceiver::for_handler(recv, runtime, peer, counters, yielding)
    }

    fn for_replies(&self, send: SendHalf) -> (UntypedSender, oneshot::Receiver<ReturnedHalf>) {
        let account = &self.caller.account.peer;
        let call = IncomingCall {
            cancelled: self.token.clone(),
            counters: Arc::clone(&self.shared.counters),
            permits: self.permits.cloned(),
            account: Arc::clone(account),
            stall_timer: self.caller.replies.stall_timer().clone(),
        };
        let stall_timer = self.caller.replies.stall_timer();
        let stall_timer = stall_timer.with_deadline(self.deadline);
        let peer = self.caller.peer.clone();
        let (runtime, limit) = (
            self.shared.runtime.clone(),
            self.shared.config.message_bytes_max,
        );
        UntypedSender::for_handler(send, runtime, peer, limit, self.deadline, stall_timer, call)
    }
}

/// Releases the permits of a call whose handler has ended.
fn release_permits(mut permits: Permits, yielding: Option<YieldingPermits>, ended: &HandlerEnd) {
    let returned = match ended {
        HandlerEnd::Returned(outcome) => Some(outcome),
        _ => None,
    };
    if let Some(yielding) = yielding {
        yielding.end(returned);
    }
    if let Some(outcome) = returned {
        permits.note(outcome);
    }
}

/// Counts how a handler ended, and returns the result for its caller; `None` if the caller is gone.
fn reply_for(
    shared: &EndpointShared,
    ended: HandlerEnd,
    in_flight: &mut Option<InFlightGuard>,
) -> Option<Result<Bytes, Status>> {
    let counters = &shared.counters;
    Some(match ended {
        HandlerEnd::Returned(outcome) => {
            let limit = shared.config.message_bytes_max;
            outcome.and_then(|reply| check_reply_size(reply, limit))
        }
        HandlerEnd::Panicked => {
            counters.handler_panics.add_one();
            Err(maybe_processed(Code::Internal, "the handler panicked"))
        }
        HandlerEnd::CallerGone => {
            counters.calls_cancelled.add_one();
            return None;
        }
        HandlerEnd::DeadlineExceeded => {
            counters.calls_timed_out.add_one();
            Err(maybe_processed(
                Code::DeadlineExceeded,
                "deadline exceeded before the handler returned",
            ))
        }
        HandlerEnd::ShuttingDown => {
            counters.calls_cancelled.add_one();
            shared.cancelled_by_shutdown.add_one();
            // The call is counted as cancelled, and not as one that goes on.
            *in_flight = None;
            Err(maybe_processed(
                Code::Cancelled,
                "the server shut down before the handler returned",
            ))
        }
        // The message was counted as dropped.
        HandlerEnd::Overloaded => Err(maybe_processed(
            Code::Overloaded,
            "buffer limit reached: earlier messages were not read",
        )),
    })
}

fn count_unanswered(shared: &EndpointShared, ended: &HandlerEnd) {
    let counters = &shared.counters;
    match ended {
        HandlerEnd::Returned(_) | HandlerEnd::CallerGone => counters.calls_cancelled.add_one(),
        HandlerEnd::Panicked => counters.handler_panics.add_one(),
        HandlerEnd::DeadlineExceeded => counters.calls_timed_out.add_one(),
        HandlerEnd::ShuttingDown => {
            counters.calls_cancelled.add_one();
            shared.cancelled_by_shutdown.add_one();
        }
        HandlerEnd::Overloaded => {}
    }
}

impl From<SendAbort> for HandlerEnd {
    fn from(cut: SendAbort) -> Self {
        match cut {
            SendAbort::ShuttingDown => Self::ShuttingDown,
            SendAbort::DeadlineExceeded => Self::DeadlineExceeded,
            SendAbort::CallerGone => Self::CallerGone,
            SendAbort::Overloaded => Self::Overloaded,
        }
    }
}

/// The stream half on which the reply is sent.
enum ReplyStream {
    Owned(SendHalf),
    /// The handler has the half, which comes back when its sender is dropped.
    WithHandler(oneshot::Receiver<ReturnedHalf>),
}

/// Runs a handler until it returns, is cancelled or reaches its deadline. Returns the stream half
/// for the reply, if the handler has given it back. A handler whose sender was aborted has not
/// returned, whatever it says: only a complete stream may end well.
async fn run_handler(
    handler: &Handler,
    cx: CallContext,
    arguments: HandlerInput,
    send: ReplyStream,
    stopped: Pin<&mut impl Future<Output = bool>>,
    deadline: Option<Instant>,
    token: &CancellationToken,
) -> (HandlerEnd, Option<SendHalf>) {
    let handler = handler.clone();
    let inherited = cx.inherited();
    // The function of the handler may panic too, so it is called inside.
    let handled = inherited.scope(async move {
        match handler {
            Handler::Unary(method) => {
                let mut started = HandlerFuture::default();
                method.start(cx, arguments.body, &mut started);
                started.finish().await
            }
            Handler::Streaming(method) => (method.serve)(cx, arguments).await,
        }
    });
    let handled = AssertUnwindSafe(handled).catch_unwind();
    let until = async {
        match deadline {
            Some(at) => sleep_until(at).await,
            None => future::pending().await,
        }
    };
    let mut handled = Box::pin(handled);
    let mut over = pin!(async {
        tokio::select! {
            biased;
            _ = stopped => HandlerEnd::CallerGone,
            () = token.cancelled() => HandlerEnd::ShuttingDown,
            () = until => HandlerEnd::DeadlineExceeded,
        }
    });
    let ended = tokio::select! {
        biased;
        returned = &mut handled => returned.map_or(HandlerEnd::Panicked, HandlerEnd::Returned),
        ended = &mut over => ended,
    };
    // Dropping the handler drops its sender, unless the handler moved it to another task.
    drop(handled);
    match (send, ended) {
        (ReplyStream::Owned(send), ended) => (ended, Some(send)),
        (ReplyStream::WithHandler(back), HandlerEnd::Returned(outcome)) => tokio::select! {
            biased;
            back = back => {
                let cut = back.as_ref().ok().and_then(|back| back.abort);
                // The handler may have checked for the end of the call, and not sent what was to
                // follow.
                let is_cut = outcome.is_ok() && token.is_cancelled();
                let cut = cut.or(if is_cut { Some(SendAbort::ShuttingDown) } else { None });
                let ended = cut.map_or(HandlerEnd::Returned(outcome), HandlerEnd::from);
                (ended, back.ok().map(|back| back.half))
            }
            ended = &mut over => (ended, None),
        },
        (ReplyStream::WithHandler(mut back), ended) => {
            (ended, back.try_recv().ok().map(|back| back.half))
        }
    }
}
