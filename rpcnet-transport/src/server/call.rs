//! A connection's streams, each served as a call.

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
    admission::{self, CallerShare, Entry, Gates, LentPlaces, Newcomer, Places},
    answer::{answer, hold_reply},
    context::{Asked, CallInfo},
    early::Handshake,
    first::Caller,
    keys::Lent,
    request::{Unserved, read_body, read_header, settled},
    router::{Arguments, Handler, Started},
    rules::Rules,
};
use crate::{
    Code, Processed, Status,
    accounts::InFlight,
    endpoint::Shared,
    stream::{Cut, GivenBack, RecvCore, RecvHalf, SendCore, SendHalf, SenderCut, ServedCall},
    wire::RequestHeader,
};

/// Serves the call of one stream, from the first bytes after its preface to the acknowledgement of its last.
pub(super) async fn serve(
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    send: SendHalf,
    mut recv: RecvHalf,
    arrived: Instant,
    early: Option<Handshake>,
) {
    let request = read_header(&shared, &mut recv, arrived).await;
    let request = match &early {
        Some(handshake) => request.and_then(|request| handshake.admit(&shared, request)),
        None => request,
    };
    let (header, body) = match request {
        Ok(request) => request,
        Err(why) => return turn_away(&shared, &caller, send, recv, why).await,
    };
    // Before it is asked whether the server drains: a shutdown either sees this call or is seen by it.
    let (_unacknowledged, _) = shared.unacknowledged.enter();
    match Call::admit(&shared, &caller, &send, &mut recv, header, body, arrived).await {
        Ok(call) => call.run(&shared, &caller, send, recv).await,
        Err(why) => turn_away(&shared, &caller, send, recv, why).await,
    }
}

/// Ends a call that reaches no handler.
async fn turn_away(
    shared: &Shared,
    caller: &Caller,
    mut send: SendHalf,
    mut recv: RecvHalf,
    why: Unserved,
) {
    match why {
        Unserved::Cut(why) => {
            recv.cut(why);
            send.cut(why);
        }
        Unserved::Refused(status) => {
            let stopped = pin!(send.stopped());
            let sending = caller.sending.of(None);
            answer(shared, sending, &mut send, stopped, Err(status), None).await;
            // Only now: a caller that is told to stop sending looks for its answer at once.
            recv.cut(Cut::Cancelled);
        }
    }
}

/// One call that has a handler and all of its request.
struct Call {
    name: Arc<str>,
    handler: Handler,
    header: RequestHeader,
    body: Bytes,
    asked: Asked,
    places: Places,
    in_flight: InFlight,
}

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
    /// Refuses by the header what is refused in any case, reads the body, and takes a place only then: what waits for its
    /// caller holds none.
    async fn admit(
        shared: &Shared,
        caller: &Caller,
        send: &SendHalf,
        recv: &mut RecvHalf,
        header: RequestHeader,
        body: Option<Bytes>,
        arrived: Instant,
    ) -> Result<Self, Unserved> {
        let account = &caller.account.peer;
        let (guard, in_flight) = account.enter(&shared.in_flight);
        let is_full = account.is_full(in_flight, true);
        let deadline = header.deadline.and_then(|left| arrived.checked_add(left));
        let (name, handler) = find_handler(shared, &header, deadline, in_flight, is_full)?;
        let asked = Asked {
            attempt: header.attempt,
            idempotent: header.flags.idempotent,
            priority: header.priority,
            idempotency_key: header.idempotency_key.map(u128::to_le_bytes),
            deadline,
        };
        let rules = handler.rules();
        let is_limited = shared.gate.is_some() || rules.is_some();
        let of_method = rules.and_then(|rules| rules.gate.as_ref());
        let of_method = of_method.map(|gate| gate.caller(caller.peer.shared_name()));
        let gates = gates(caller, rules, of_method.as_ref());
        let body = match body {
            Some(body) => body,
            None => {
                if is_limited && let Some(status) = refusal(shared, gates, &asked) {
                    return Err(Unserved::Refused(status));
                }
                let body = read_body(shared, caller, recv, deadline);
                tokio::select! {
                    biased;
                    body = body => body?,
                    // Its end is not read while it waits for room.
                    _ = send.stopped() => {
                        shared.counters.calls_cancelled.add_one();
                        return Err(Unserved::Cut(Cut::Cancelled));
                    }
                }
            }
        };
        if account.is_overdrawn() {
            let settled = Box::pin(settled(shared, account));
            wait_for_turn(shared, settled, send.stopped(), deadline).await?;
        }
        let mut places = Places::default();
        if is_limited {
            places = match enter(shared, gates, Instant::now(), &asked) {
                Entry::Now(places) => places,
                Entry::Later(queued) => {
                    let began = Instant::now();
                    let turn = Box::pin(queued.turn(&shared.counters));
                    let places = wait_for_turn(shared, turn, send.stopped(), deadline).await?;
                    shared.queue_delay.note(began.elapsed());
                    places
                }
                Entry::Never(status) => return Err(Unserved::Refused(status)),
            };
        }
        // It may have waited for its body or its place.
        if is_over(deadline) {
            return Err(Unserved::Refused(expired(shared)));
        }
        if !header.flags.streams_requests {
            recv.note_end();
        }
        Ok(Self {
            name,
            handler,
            header,
            body,
            asked,
            places,
            in_flight: guard,
        })
    }

    async fn run(self, shared: &Arc<Shared>, caller: &Caller, send: SendHalf, mut recv: RecvHalf) {
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
        let limit = shared.config.message_bytes_max;
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
        let (requests, mut unused_recv) = if flags.streams_requests {
            let counters = Arc::clone(&shared.counters);
            let runtime = shared.runtime.clone();
            let core = RecvCore::of_handler(recv, runtime, peer.clone(), counters, lent.clone());
            (Some(core), None)
        } else {
            (None, Some(recv))
        };
        let (replies, send_back) = if flags.streams_replies {
            let call = ServedCall {
                cancelled: token.clone(),
                lent: lent.clone(),
                account: Arc::clone(account),
                settling: account.patience(&shared.config),
            };
            let patience = caller.sending.patience().with_deadline(deadline);
            let (core, back) =
                SendCore::of_handler(send, shared, peer.clone(), deadline, patience, call);
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
            unended.0 = None;
        }
        let returned = match &ended {
            Ended::Returned(outcome) => Some(outcome),
            _ => None,
        };
        if let Some(lent) = lent {
            lent.end(returned);
        }
        if let Some(outcome) = returned {
            places.note(outcome);
        }
        drop(places);
        // What the handler has spawned need not wait for the caller's acknowledgement.
        token.cancel();
        let Some(mut send) = send else {
            // The handler gave its sender away and the call is over: whoever has it finds it cancelled.
            unended.0 = None;
            count_unanswered(shared, &ended);
            return;
        };
        let mut in_flight = Some(in_flight);
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
                    "deadline exceeded before the handler returned",
                ))
            }
            Ended::Stopping => {
                shared.counters.calls_cancelled.add_one();
                shared.cancelled_by_shutdown.add_one();
                // It is counted as cut, and not as one that goes on.
                in_flight = None;
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

/// The gates that a call has to pass: of its method, and of the server.
pub(super) fn gates<'a>(
    caller: &'a Caller,
    rules: Option<&Rules>,
    method: Option<&'a Arc<CallerShare>>,
) -> Gates<'a> {
    let is_exempt = rules.is_some_and(|rules| rules.is_exempt);
    let server = caller.admission.as_ref().filter(|_| !is_exempt);
    Gates { method, server }
}

/// Brings a call past its gates. `now` may be a little behind.
pub(super) fn enter(shared: &Shared, gates: Gates<'_>, now: Instant, asked: &Asked) -> Entry {
    admission::enter(&shared.counters, gates, now, || newcomer(asked))
}

/// Why a call would not pass the gates whatever it waits, if that is known already.
fn refusal(shared: &Shared, gates: Gates<'_>, asked: &Asked) -> Option<Status> {
    admission::refusal(&shared.counters, gates, Instant::now(), newcomer(asked))
}

fn newcomer(asked: &Asked) -> Newcomer {
    Newcomer {
        priority: asked.priority,
        is_retry: asked.attempt > 0,
        deadline: asked.deadline,
    }
}

/// Waits for the turn of a call as long as its caller waits for its answer.
async fn wait_for_turn<T>(
    shared: &Shared,
    turn: impl Future<Output = Result<T, Status>>,
    stopped: impl Future<Output = bool>,
    deadline: Option<Instant>,
) -> Result<T, Unserved> {
    let until = async {
        match deadline {
            Some(at) => sleep_until(at).await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        biased;
        turn = turn => turn.map_err(Unserved::Refused),
        _ = stopped => {
            shared.counters.calls_cancelled.add_one();
            Err(Unserved::Cut(Cut::Cancelled))
        }
        () = shared.cancel_calls.cancelled() => {
            let message = "the server shut down before the handler started";
            Err(Unserved::refused(Code::Draining, message))
        }
        () = until => {
            Err(Unserved::Refused(expired(shared)))
        }
    }
}

/// Finds the handler, unless the call is not to be served.
fn find_handler(
    shared: &Shared,
    header: &RequestHeader,
    deadline: Option<Instant>,
    in_flight: usize,
    is_full: bool,
) -> Result<(Arc<str>, Handler), Unserved> {
    admit(shared, in_flight, is_full).map_err(Unserved::Refused)?;
    let router = shared.router();
    let Some((name, handler)) = router.find(&header.method) else {
        return Err(Unserved::Refused(unknown_method(shared)));
    };
    let wanted = (header.flags.streams_requests, header.flags.streams_replies);
    if wanted != handler.streams_by_direction() {
        return Err(Unserved::Refused(wrong_kind()));
    }
    if is_over(deadline) {
        return Err(Unserved::Refused(expired(shared)));
    }
    Ok((Arc::clone(name), handler.clone()))
}

/// Refuses calls that the server does not take at all at the moment. The refused ones are counted.
#[inline(always)]
pub(super) fn admit(shared: &Shared, in_flight: usize, is_full: bool) -> Result<(), Status> {
    if shared.refuses_calls() {
        return Err(refused_draining(shared));
    }
    if is_full || in_flight > shared.config.calls_max.get() {
        return Err(refused_overloaded(shared));
    }
    Ok(())
}

pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|at| at <= Instant::now())
}

/// Refuses a call whose deadline passed before its handler began.
#[cold]
pub(super) fn expired(shared: &Shared) -> Status {
    shared.counters.calls_expired.add_one();
    let message = "deadline exceeded before the handler started";
    Status::new(Code::DeadlineExceeded, message).not_processed()
}

#[cold]
fn refused_draining(shared: &Shared) -> Status {
    shared.counters.calls_refused_draining.add_one();
    Status::new(Code::Draining, "the server takes no new calls").not_processed()
}

#[cold]
fn refused_overloaded(shared: &Shared) -> Status {
    shared.counters.calls_refused_overloaded.add_one();
    Status::overloaded("the limit of concurrent calls is reached")
}

pub(super) fn unknown_method(shared: &Shared) -> Status {
    shared.counters.unknown_methods.add_one();
    Status::new(Code::Unimplemented, "the server has no such method").not_processed()
}

pub(super) fn wrong_kind() -> Status {
    let message = "the method streams its requests or replies otherwise than the call does";
    Status::new(Code::InvalidRequest, message).not_processed()
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

/// Runs a handler until it returns, is cancelled or reaches its deadline. Gets back what was lent to it, if it can be had. A handler
/// whose sender was cut has not returned, whatever it says: only a whole stream may end well.
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
    // Dropping the handler drops its sender, unless it gave that to somebody else.
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

pub(super) fn within_limit(reply: Bytes, limit: usize) -> Result<Bytes, Status> {
    if reply.len() <= limit {
        return Ok(reply);
    }
    let message = format!(
        "the reply of {} bytes exceeds the limit of {limit} bytes",
        reply.len()
    );
    Err(Status::new(Code::PayloadTooLarge, message))
}

pub(super) fn unsure(code: Code, message: &str) -> Status {
    Status::new(code, message).with_processed(Processed::Maybe)
}
