//! A connection's streams, each served as a call.

mod run;

use std::{future::Future, pin::pin, sync::Arc};

use bytes::Bytes;
use futures::future;
use tokio::time::{Instant, sleep_until};

use super::{
    admission::{self, CallerShare, Entry, Gates, Newcomer, Places},
    answer::answer,
    context::Asked,
    early::Handshake,
    first::Caller,
    request::{Unserved, read_body, read_header, settled},
    router::Handler,
    rules::Rules,
};
use crate::{
    Code, Processed, Status,
    accounts::InFlight,
    endpoint::Shared,
    stream::{Cut, RecvHalf, SendHalf},
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
            let settled = Box::pin(settled(shared, caller));
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
