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

use super::{
    CallContext,
    answer::answer,
    request::{Unread, read_request},
    router::{Arguments, Handler},
};
use crate::{
    Code, Peer, Processed, Status,
    endpoint::Shared,
    gauge::GaugeGuard,
    stream::{Cut, RecvCore, RecvHalf, SendCore, SendHalf},
    wire::{Decoder, RequestHeader, StreamKind},
};

/// A connection that was let in.
pub(super) struct ServedConnection {
    pub(super) connection: quinn::Connection,
    pub(super) peer: Peer,
}

/// Serves the call of one stream, from its first byte to the acknowledgement of its last.
pub(super) async fn serve(
    shared: Arc<Shared>,
    peer: Peer,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
) {
    let arrived = Instant::now();
    let mut send = SendHalf::new(send);
    let decoder = Decoder::new(StreamKind::Call, shared.config.message_bytes_max);
    let mut recv = RecvHalf::new(recv, decoder);
    let (header, body) = match read_request(&shared, &mut recv, arrived).await {
        Ok(request) => request,
        Err(Unread::Cut(why)) => {
            recv.cut(why);
            send.cut(why);
            return;
        }
        Err(Unread::Refused(status)) => {
            let mut stopped = pin!(send.stopped());
            answer(&shared, &mut send, stopped.as_mut(), Err(status), None).await;
            // Only now: a caller that is told to stop sending looks for its answer at once.
            recv.cut(Cut::Cancelled);
            return;
        }
    };
    if !header.flags.streams_requests {
        recv.note_end();
    }
    let (_unacknowledged, _) = shared.unacknowledged.enter();
    let (guard, in_flight) = shared.in_flight.enter();
    let call = Call {
        shared: &shared,
        peer,
        arrived,
        in_flight,
        guard,
    };
    call.run(header, body, send, recv).await;
}

/// One call whose request was read.
struct Call<'a> {
    shared: &'a Arc<Shared>,
    peer: Peer,
    arrived: Instant,
    /// Calls being served, with this one.
    in_flight: usize,
    guard: GaugeGuard,
}

/// How the wait for a handler ended.
enum Ended {
    Returned(Result<Bytes, Status>),
    Panicked,
    CallerGone,
    OutOfTime,
    Stopping,
}

impl Call<'_> {
    async fn run(self, header: RequestHeader, body: Bytes, mut send: SendHalf, recv: RecvHalf) {
        let shared = self.shared;
        let stopped = send.stopped();
        let mut stopped = pin!(stopped);
        let deadline = header
            .deadline
            .and_then(|left| self.arrived.checked_add(left));
        let handler = match self.admit(&header, deadline) {
            Ok(handler) => handler,
            Err(status) => {
                return answer(shared, &mut send, stopped, Err(status), Some(self.guard)).await;
            }
        };
        shared.counters.calls_started.add_one();

        let token = shared.cancel_calls.child_token();
        let limit = shared.config.message_bytes_max;
        let requests = header.flags.streams_requests;
        let replies = header.flags.streams_replies;
        let cx = CallContext::new(
            self.peer.clone(),
            header.method,
            header.attempt,
            header.flags.idempotent,
            deadline,
            token.clone(),
        );
        let mut unused_recv = None;
        let requests = if requests {
            let counters = Arc::clone(&shared.counters);
            Some(RecvCore::of_handler(recv, self.peer.clone(), counters))
        } else {
            unused_recv = Some(recv);
            None
        };
        let (replies, send_back) = if replies {
            let stall = shared.config.stall_timeout;
            let (core, back) = SendCore::of_handler(
                send,
                self.peer.clone(),
                limit,
                stall,
                deadline,
                token.clone(),
            );
            (Some(core), Where::Lent(back))
        } else {
            (None, Where::Here(send))
        };

        let arguments = Arguments {
            body,
            requests,
            replies,
        };
        let (ended, send) = wait(
            &handler,
            cx,
            arguments,
            send_back,
            stopped.as_mut(),
            deadline,
            &token,
        )
        .await;
        if !matches!(ended, Ended::Returned(_)) {
            token.cancel();
        }
        let Some(mut send) = send else {
            // The handler gave its sender away and the call is over: whoever has it finds it cancelled.
            self.count_unanswered(&ended);
            return;
        };
        let outcome = match ended {
            Ended::Returned(outcome) => outcome.and_then(|reply| within_limit(reply, limit)),
            Ended::Panicked => {
                shared.counters.handler_panics.add_one();
                Err(unsure(Code::Internal, "the handler panicked"))
            }
            Ended::CallerGone => {
                shared.counters.calls_cancelled.add_one();
                return send.cut(Cut::Cancelled);
            }
            Ended::OutOfTime => {
                shared.counters.calls_timed_out.add_one();
                Err(unsure(
                    Code::DeadlineExceeded,
                    "the handler did not return in time",
                ))
            }
            Ended::Stopping => {
                shared.counters.calls_cancelled.add_one();
                shared.cancelled_by_shutdown.add_one();
                Err(unsure(
                    Code::Cancelled,
                    "the server shut down before the handler returned",
                ))
            }
        };
        answer(shared, &mut send, stopped, outcome, Some(self.guard)).await;
        if let Some(mut recv) = unused_recv {
            recv.note_end();
        }
    }

    /// Finds the handler, unless the call is not to be served.
    fn admit(&self, header: &RequestHeader, deadline: Option<Instant>) -> Result<Handler, Status> {
        let counters = &self.shared.counters;
        let refuse = |code, message: &str| Err(Status::new(code, message).not_processed());
        if self.shared.is_draining() {
            counters.calls_refused_draining.add_one();
            return refuse(Code::Draining, "the server takes no new calls");
        }
        if self.in_flight > self.shared.config.calls_max.get() {
            counters.calls_refused_overloaded.add_one();
            return refuse(Code::Overloaded, "too many calls at a time");
        }
        let router = self.shared.router();
        let Some(handler) = router.find(&header.method) else {
            counters.unknown_methods.add_one();
            return refuse(Code::Unimplemented, "no such method");
        };
        let wanted = (header.flags.streams_requests, header.flags.streams_replies);
        if wanted != (handler.streams_requests, handler.streams_replies) {
            return refuse(
                Code::InvalidRequest,
                "the method takes calls of another kind",
            );
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            counters.calls_timed_out.add_one();
            return refuse(
                Code::DeadlineExceeded,
                "the time was over before the handler began",
            );
        }
        Ok(handler.clone())
    }

    fn count_unanswered(&self, ended: &Ended) {
        let counters = &self.shared.counters;
        match ended {
            Ended::Returned(_) | Ended::CallerGone => counters.calls_cancelled.add_one(),
            Ended::Panicked => counters.handler_panics.add_one(),
            Ended::OutOfTime => counters.calls_timed_out.add_one(),
            Ended::Stopping => {
                counters.calls_cancelled.add_one();
                self.shared.cancelled_by_shutdown.add_one();
            }
        }
    }
}

/// Where the half is to which the reply goes.
enum Where {
    Here(SendHalf),
    /// With the handler, which sends it back when its sender is dropped.
    Lent(oneshot::Receiver<SendHalf>),
}

/// Runs a handler until it returns or nobody waits for it any more. Gets back what was lent to it, if it can be had.
async fn wait(
    handler: &Handler,
    cx: CallContext,
    arguments: Arguments,
    send: Where,
    stopped: Pin<&mut impl Future<Output = bool>>,
    deadline: Option<Instant>,
    token: &CancellationToken,
) -> (Ended, Option<SendHalf>) {
    let serve = Arc::clone(&handler.serve);
    // The handler's function itself may panic too, so it is called inside.
    let handled = AssertUnwindSafe(async move { serve(cx, arguments).await }).catch_unwind();
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
            _ = stopped => Ended::CallerGone,
            () = token.cancelled() => Ended::Stopping,
            () = until => Ended::OutOfTime,
        }
    });
    let ended = tokio::select! {
        biased;
        returned = &mut handled => returned.map_or(Ended::Panicked, Ended::Returned),ended = &mut over => ended,
    };
    // Dropping the handler drops its sender, unless it gave that to somebody else.
    drop(handled);
    match (send, ended) {
        (Where::Here(send), ended) => (ended, Some(send)),
        (Where::Lent(back), Ended::Returned(outcome)) => tokio::select! {
            biased;
            send = back => (Ended::Returned(outcome), send.ok()),
            ended = &mut over => (ended, None),
        },
        (Where::Lent(mut back), ended) => (ended, back.try_recv().ok()),
    }
}

fn within_limit(reply: Bytes, limit: usize) -> Result<Bytes, Status> {
    if reply.len() <= limit {
        return Ok(reply);
    }
    let message = format!(
        "a reply of {} bytes is past the limit of {limit} bytes",
        reply.len()
    );
    Err(Status::new(Code::PayloadTooLarge, message))
}

fn unsure(code: Code, message: &str) -> Status {
    Status::new(code, message).with_processed(Processed::Maybe)
}
