//! Run of an admitted call: its handler, how that ends, and the answer.

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

use super::{Call, unsure, within_limit};
use crate::{
    Code, Status,
    accounts::InFlight,
    endpoint::Shared,
    server::{
        CallContext,
        admission::{LentPlaces, Places},
        answer::{answer, hold_reply},
        context::CallInfo,
        first::Caller,
        keys::Lent,
        router::{Arguments, Handler, Started},
    },
    stream::{Cut, GivenBack, RecvCore, RecvHalf, SendCore, SendHalf, SenderCut, ServedCall},
};

/// Counts a call that is dropped before it is answered.
struct Unended<'a>(Option<&'a Shared>);

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.counters.calls_cancelled.add_one();
            if shared.cancel_calls.is_cancelled() {
                shared.cancelled_by_shutdown.add_one();
            }
        }
    }
}

/// How the wait for a handler ended.
enum Ended {
    Returned(Result<Bytes, Status>),
    Panicked,
    CallerGone,
    OutOfTime,
    Stopping,
    /// The caller has left too much untaken for a message of the stream.
    Overloaded,
}

impl Call {
    /// Runs the handler, and answers the caller.
    pub(super) async fn run(
        self,
        shared: &Arc<Shared>,
        caller: &Caller,
        send: SendHalf,
        mut recv: RecvHalf,
    ) {
        let Self {
            name,
            handler,
            header,
            body,
            asked,
            mut places,
            in_flight,
        } = self;
        let (peer, account) = (&caller.peer, &caller.account.peer);
        let deadline = asked.deadline;
        let mut stopped = pin!(send.stopped());
        shared.counters.calls_started.add_one();
        let mut unended = Unended(Some(shared));

        let token = shared.cancel_calls.child_token();
        let flags = header.flags;
        let info = CallInfo {
            method: name,
            asked,
        };
        let cx = CallContext::with_token(peer.clone(), info, token.clone());
        if handler.rules().is_some_and(|rules| rules.remembers) && asked.idempotency_key.is_some() {
            cx.lend(Lent {
                places: std::mem::take(&mut places),
                shared: Arc::clone(shared),
                account: Arc::clone(account),
                room: recv.take_room(),
            });
        } else if matches!(handler, Handler::Unary(_)) {
            places.measure();
        }
        let lent = (flags.streams_requests || flags.streams_replies)
            .then(|| LentPlaces::new(std::mem::take(&mut places)))
            .flatten();
        let ends = StreamEnds {
            shared,
            caller,
            deadline,
            token: &token,
            lent: lent.as_ref(),
        };
        let (requests, mut unused_recv) = match flags.streams_requests {
            true => (Some(ends.requests(recv)), None),
            false => (None, Some(recv)),
        };
        let (replies, send_back) = match flags.streams_replies {
            true => {
                let (core, back) = ends.replies(send);
                (Some(core), Where::Lent(back))
            }
            false => (None, Where::Here(send)),
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
            unended.0 = None;
        }
        give_back(places, lent, &ended);
        // What the handler has spawned need not wait for the caller's acknowledgement.
        token.cancel();
        let Some(mut send) = send else {
            // The handler gave its sender away and the call is over: its holder finds it cancelled.
            unended.0 = None;
            count_unanswered(shared, &ended);
            return;
        };
        let mut in_flight = Some(in_flight);
        let Some(outcome) = conclude(shared, ended, &mut in_flight) else {
            return send.cut(Cut::Cancelled);
        };
        // The request went with its handler.
        if let Some(recv) = &mut unused_recv {
            recv.release_room();
        }
        let (outcome, _held) = match hold_reply(shared, account, outcome) {
            Ok((outcome, held)) => (outcome, Some(held)),
            Err(dropped) => (Err(dropped), None),
        };
        let sending = caller.sending.of(deadline);
        answer(shared, sending, &mut send, stopped, outcome, in_flight).await;
        unended.0 = None;
        if let Some(mut recv) = unused_recv {
            recv.note_end();
        }
    }
}

/// What the ends of a call's streams are made of, for its handler.
struct StreamEnds<'a> {
    shared: &'a Shared,
    caller: &'a Caller,
    deadline: Option<Instant>,
    token: &'a CancellationToken,
    lent: Option<&'a LentPlaces>,
}

impl StreamEnds<'_> {
    fn requests(&self, recv: RecvHalf) -> RecvCore {
        let counters = Arc::clone(&self.shared.counters);
        let runtime = self.shared.runtime.clone();
        let (peer, lent) = (self.caller.peer.clone(), self.lent.cloned());
        RecvCore::of_handler(recv, runtime, peer, counters, lent)
    }

    fn replies(&self, send: SendHalf) -> (SendCore, oneshot::Receiver<GivenBack>) {
        let account = &self.caller.account.peer;
        let call = ServedCall {
            cancelled: self.token.clone(),
            lent: self.lent.cloned(),
            account: Arc::clone(account),
            settling: self.caller.sending.patience().clone(),
        };
        let patience = self.caller.sending.patience();
        let patience = patience.with_deadline(self.deadline);
        let peer = self.caller.peer.clone();
        SendCore::of_handler(send, self.shared, peer, self.deadline, patience, call)
    }
}

/// Gives back the places of a call whose handler has ended.
fn give_back(mut places: Places, lent: Option<LentPlaces>, ended: &Ended) {
    let returned = match ended {
        Ended::Returned(outcome) => Some(outcome),
        _ => None,
    };
    if let Some(lent) = lent {
        lent.end(returned);
    }
    if let Some(outcome) = returned {
        places.note(outcome);
    }
}

/// Counts how a handler ended, and says what its caller is told; `None` if the caller is gone.
fn conclude(
    shared: &Shared,
    ended: Ended,
    in_flight: &mut Option<InFlight>,
) -> Option<Result<Bytes, Status>> {
    let counters = &shared.counters;
    Some(match ended {
        Ended::Returned(outcome) => {
            let limit = shared.config.message_bytes_max;
            outcome.and_then(|reply| within_limit(reply, limit))
        }
        Ended::Panicked => {
            counters.handler_panics.add_one();
            Err(unsure(Code::Internal, "the handler panicked"))
        }
        Ended::CallerGone => {
            counters.calls_cancelled.add_one();
            return None;
        }
        Ended::OutOfTime => {
            counters.calls_timed_out.add_one();
            Err(unsure(
                Code::DeadlineExceeded,
                "deadline exceeded before the handler returned",
            ))
        }
        Ended::Stopping => {
            counters.calls_cancelled.add_one();
            shared.cancelled_by_shutdown.add_one();
            // It is counted as cut, and not as one that goes on.
            *in_flight = None;
            Err(unsure(
                Code::Cancelled,
                "the server shut down before the handler returned",
            ))
        }
        // Its message was counted as dropped.
        Ended::Overloaded => Err(unsure(
            Code::Overloaded,
            "buffer limit reached: earlier messages were not read",
        )),
    })
}

fn count_unanswered(shared: &Shared, ended: &Ended) {
    let counters = &shared.counters;
    match ended {
        Ended::Returned(_) | Ended::CallerGone => counters.calls_cancelled.add_one(),
        Ended::Panicked => counters.handler_panics.add_one(),
        Ended::OutOfTime => counters.calls_timed_out.add_one(),
        Ended::Stopping => {
            counters.calls_cancelled.add_one();
            shared.cancelled_by_shutdown.add_one();
        }
        Ended::Overloaded => {}
    }
}

impl From<SenderCut> for Ended {
    fn from(cut: SenderCut) -> Self {
        match cut {
            SenderCut::Stopping => Self::Stopping,
            SenderCut::OutOfTime => Self::OutOfTime,
            SenderCut::CallerGone => Self::CallerGone,
            SenderCut::Overloaded => Self::Overloaded,
        }
    }
}

/// Where the half is to which the reply goes.
enum Where {
    Here(SendHalf),
    /// With the handler, which sends it back when its sender is dropped.
    Lent(oneshot::Receiver<GivenBack>),
}

/// Runs a handler until it returns, is cancelled or reaches its deadline. Gets back what was lent
/// to it, if it can be had. A handler whose sender was cut has not returned, whatever it says: only
/// a whole stream may end well.
async fn wait(
    handler: &Handler,
    cx: CallContext,
    arguments: Arguments,
    send: Where,
    stopped: Pin<&mut impl Future<Output = bool>>,
    deadline: Option<Instant>,
    token: &CancellationToken,
) -> (Ended, Option<SendHalf>) {
    let handler = handler.clone();
    let bequest = cx.bequest();
    // The handler's function itself may panic too, so it is called inside.
    let handled = bequest.scope(async move {
        match handler {
            Handler::Unary(method) => {
                let mut started = Started::default();
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
            _ = stopped => Ended::CallerGone,
            () = token.cancelled() => Ended::Stopping,
            () = until => Ended::OutOfTime,
        }
    });
    let ended = tokio::select! {
        biased;
        returned = &mut handled => returned.map_or(Ended::Panicked, Ended::Returned),
        ended = &mut over => ended,
    };
    // Dropping the handler drops its sender, unless it gave that to another task.
    drop(handled);
    match (send, ended) {
        (Where::Here(send), ended) => (ended, Some(send)),
        (Where::Lent(back), Ended::Returned(outcome)) => tokio::select! {
            biased;
            back = back => {
                let cut = back.as_ref().ok().and_then(|back| back.cut);
                // It may have looked for the end of the call, and not sent what was to follow.
                let is_cut = outcome.is_ok() && token.is_cancelled();
                let cut = cut.or(if is_cut { Some(SenderCut::Stopping) } else { None });
                let ended = cut.map_or(Ended::Returned(outcome), Ended::from);
                (ended, back.ok().map(|back| back.half))
            }
            ended = &mut over => (ended, None),
        },
        (Where::Lent(mut back), ended) => (ended, back.try_recv().ok().map(|back| back.half)),
    }
}
