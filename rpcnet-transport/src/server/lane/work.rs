//! What is done for one request of a lane.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::time::Instant;

use super::{
    FRAME_BYTES_MAX, Lane, Nonsense, Outcome, Work,
    pending::{self, Stage},
    turn::Turn,
    unsure,
};
use crate::{
    Code, Status,
    accounts::{Account, InFlight},
    endpoint::Shared,
    server::{
        CallContext, Dispatch,
        admission::{Entry, Places, Queued},
        answer::{answer, dropped, hold_reply},
        call::{admit, enter, expired, gates, is_over, unknown_method, within_limit, wrong_kind},
        context::Asked,
        first::Caller,
        keys::Lent,
        router::{Handler, Started, Unary},
    },
    stream::SendHalf,
    wire::{self, LaneRequest, Preface, StreamKind},
};

impl Lane {
    /// Serves a request, or gives it a task that does.
    pub(super) fn take_request(
        &mut self,
        request: LaneRequest,
        body: Bytes,
        arrived: Instant,
    ) -> Result<(), Nonsense> {
        let id = request.id;
        self.pending.check(id).map_err(|_| Nonsense)?;
        let shared = &self.shared;
        let method = self
            .methods
            .find(request.method, shared)
            .map_err(|_| Nonsense)?;
        let in_flight = self.round.enter(shared);
        let is_full = self.caller.account.peer.is_full(in_flight, false);
        let admitted = admit(shared, in_flight, is_full).and_then(|()| {
            let limit = shared.config.message_bytes_max;
            request_within_limit(shared, body.len(), limit)
        });
        let unary = match admitted {
            Err(status) => Err(status),
            Ok(()) => match &method.handler {
                Some(Handler::Unary(unary)) => Ok(unary),
                Some(Handler::Streaming(_)) => Err(wrong_kind()),
                None => Err(unknown_method(shared)),
            },
        };
        let unary = match unary {
            Ok(unary) => unary,
            Err(status) => {
                if status.code == Code::InvalidRequest {
                    shared.counters.invalid_requests.add_one();
                }
                self.fail(id, status);
                return Ok(());
            }
        };
        let deadline = request.deadline.and_then(|left| arrived.checked_add(left));
        // The clock is read where that may decide: handlers before this one may have taken some time since it was.
        if deadline.is_some_and(|at| at < self.now + CLOCK_LAG_MAX) && is_over(deadline) {
            let status = expired(shared);
            self.fail(id, status);
            return Ok(());
        }
        let asked = Asked {
            attempt: request.attempt,
            idempotent: request.idempotent,
            priority: request.priority,
            idempotency_key: request.idempotency_key,
            deadline,
        };
        // Most servers limit nothing but the number of all calls.
        let mut places = Places::default();
        if shared.gate.is_some() || unary.rules.is_some() {
            match self.pass_gates(&request, &asked, &body, arrived)? {
                Some(passed) => places = passed,
                None => return Ok(()),
            }
        }
        let method = self
            .methods
            .find(request.method, &self.shared)
            .map_err(|_| Nonsense)?;
        let Some(Handler::Unary(unary)) = &method.handler else {
            return Err(Nonsense);
        };
        let asked = &asked;
        self.round.start(self.now.duration_since(arrived));
        let mut spare = method.spare_context.take();
        let is_reused = spare.as_mut().is_some_and(|context| context.reuse(asked));
        let mut context = match spare {
            Some(context) if is_reused => context,
            _ => method.new_context(&self.caller.peer, asked),
        };
        let has_task = match unary.dispatch {
            Dispatch::Adaptive => unary.pace.is_slow(),
            Dispatch::Inline => false,
            Dispatch::Spawned => true,
        };
        if has_task {
            let work = Spawned {
                unary: unary.clone(),
                body,
                started: None,
                arrived,
                places,
                queued: None,
            };
            self.spawn(id, work, context, asked.deadline);
            return Ok(());
        }

        if runs_apart(unary, asked) {
            let places = std::mem::take(&mut places);
            let shared = Arc::clone(&self.shared);
            let account = Arc::clone(&self.caller.account.peer);
            context.lend(Lent {
                places,
                shared,
                account,
                room: None,
            });
        }
        // Around it and not inside: nothing is to be tidied up there then, which makes it cheaper.
        let scope = asked.bequest().enter();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            unary.start(context.clone(), body, &mut method.started);
            method.started.poll(&mut Context::from_waker(Waker::noop()))
        }));
        drop(scope);
        if let Some(took) = self.stopwatch.lap(&mut self.round, &mut self.now)
            && unary.dispatch == Dispatch::Adaptive
        {
            unary.pace.note(took, self.now);
        }
        match polled {
            Ok(Poll::Ready(outcome)) => {
                if context.end_or_keep() {
                    method.spare_context = Some(context);
                }
                let outcome =
                    outcome.unwrap_or_else(|| Err(Status::internal("the handler was not started")));
                self.finish(id, outcome);
            }
            Ok(Poll::Pending) => {
                let work = Spawned {
                    unary: unary.clone(),
                    body: Bytes::new(),
                    started: Some(std::mem::take(&mut method.started)),
                    arrived,
                    places,
                    queued: None,
                };
                self.spawn(id, work, context, asked.deadline);
            }
            Err(_) => {
                context.end();
                // What panicked is not to be polled again.
                method.started = Started::default();
                self.finish_panicked(id);
            }
        }
        Ok(())
    }

    /// Brings a call past the gates; `None` if it has to wait, in a task of its own, or is refused.
    #[inline(never)]
    fn pass_gates(
        &mut self,
        request: &LaneRequest,
        asked: &Asked,
        body: &Bytes,
        arrived: Instant,
    ) -> Result<Option<Places>, Nonsense> {
        let (id, shared) = (request.id, &self.shared);
        let method = self
            .methods
            .find(request.method, shared)
            .map_err(|_| Nonsense)?;
        method.note_call(&self.caller.peer);
        let Some(Handler::Unary(unary)) = &method.handler else {
            return Err(Nonsense);
        };
        let of_method = method.admission.as_ref();
        let gates = gates(&self.caller, unary.rules.as_deref(), of_method);
        match enter(shared, gates, self.now, asked) {
            Entry::Now(places) => return Ok(Some(places)),
            Entry::Never(status) => self.fail(id, status),
            Entry::Later(later) => {
                let context = method.new_context(&self.caller.peer, asked);
                let work = Spawned {
                    unary: unary.clone(),
                    // So that it does not keep the packets that it came in.
                    body: Bytes::copy_from_slice(body),
                    started: None,
                    arrived,
                    places: Places::default(),
                    queued: Some(Box::new((later, Arc::default()))),
                };
                self.spawn(id, work, context, asked.deadline);
            }
        }
        Ok(None)
    }

    /// Gives a call a task of its own.
    fn spawn(
        &mut self,
        id: u32,
        mut work: Spawned,
        context: CallContext,
        deadline: Option<Instant>,
    ) {
        work.places.measure();
        let turn = work.queued.as_ref().map(|queued| Arc::clone(&queued.1));
        let account = Arc::clone(&self.caller.account.peer);
        let (guard, _) = account.enter(&self.shared.in_flight);
        let (done, shared) = (Arc::clone(&self.done), Arc::clone(&self.shared));
        let handed = context.clone();
        let task = tokio::spawn(async move {
            let scoped = handed.scope(work.run(handed.clone(), &shared, account));
            let outcome = AssertUnwindSafe(scoped).catch_unwind().await;
            drop(guard);
            done.push(id, outcome.map_or(Work::Panicked, Work::Returned));
        });
        self.pending.insert(pending::Call {
            id,
            deadline,
            work: task.abort_handle(),
            stage: Stage::Handled { context, turn },
        });
    }

    /// Writes the answer of a handler that has returned.
    pub(super) fn finish(&mut self, id: u32, outcome: Outcome) {
        let config = &self.shared.config;
        let outcome = outcome.and_then(|reply| within_limit(reply, config.message_bytes_max));
        let lane_body_bytes_max = config.lane_body_bytes_max;
        match outcome {
            Ok(body) if body.len() <= lane_body_bytes_max => {
                if !self.charge(body.len()) {
                    let status = dropped(&self.shared, body.len());
                    return self.fail(id, status);
                }
                self.round.complete();
                let out = self.outbox.room(FRAME_BYTES_MAX + body.len());
                wire::encode_lane_reply(out, id, self.load, &body);
            }
            Err(status) if status.details.len() <= lane_body_bytes_max => {
                self.count_failure(&status);
                self.fail(id, status);
            }
            large => self.reply_apart(id, large),
        }
    }

    pub(super) fn finish_panicked(&mut self, id: u32) {
        self.shared.counters.handler_panics.add_one();
        self.fail(id, unsure(Code::Internal, "the handler panicked"));
    }

    fn count_failure(&mut self, status: &Status) {
        use crate::Processed::{Maybe, No, Yes};
        match (status.code, status.processed) {
            (_, Yes) => self.round.complete(),
            (Code::InvalidRequest, No) => self.shared.counters.invalid_requests.add_one(),
            (_, No | Maybe) => {}
        }
    }

    /// Sends a large answer on a stream of its own, so that no small one waits behind it.
    fn reply_apart(&mut self, id: u32, outcome: Outcome) {
        let account = &self.caller.account.peer;
        let (outcome, held) = match hold_reply(&self.shared, account, outcome) {
            Ok(held) => held,
            Err(dropped) => return self.fail(id, dropped),
        };
        let (unacknowledged, _) = self.shared.unacknowledged.enter();
        let (in_flight, _) = account.enter(&self.shared.in_flight);
        let (shared, caller) = (Arc::clone(&self.shared), Arc::clone(&self.caller));
        let (done, lane) = (Arc::clone(&self.done), self.outbox.index());
        let task = self.shared.calls.spawn(async move {
            let _held = (unacknowledged, held);
            let sent = send_apart(&shared, &caller, (lane, id), outcome, in_flight);
            let delivered = sent.await;
            done.push(id, Work::Replied { delivered });
        });
        self.pending.insert(pending::Call {
            id,
            deadline: None,
            work: task.abort_handle(),
            stage: Stage::Leaving,
        });
    }
}

/// Brings an answer to its caller on a stream of its own. Says whether it arrived.
async fn send_apart(
    shared: &Shared,
    caller: &Caller,
    (lane, id): (u64, u32),
    outcome: Outcome,
    in_flight: InFlight,
) -> bool {
    let sending = caller.sending.of(None);
    // Waits while the caller has not read earlier ones.
    let opened = sending.patience.wait(caller.connection.open_uni()).await;
    let Ok(Ok(stream)) = opened else {
        return false;
    };
    let mut head = BytesMut::new();
    let kind = StreamKind::Answer;
    head.extend_from_slice(&Preface { kind }.encode());
    wire::encode_answer_to(&mut head, lane, id);
    let mut send = SendHalf::new(stream, Arc::clone(&caller.turns));
    let begun = send.write(head, Bytes::new(), Some(&sending.patience));
    if begun.await.is_err() {
        return false;
    }
    let mut stopped = Box::pin(send.stopped());
    answer(
        shared,
        sending,
        &mut send,
        stopped.as_mut(),
        outcome,
        Some(in_flight),
    )
    .await
}

fn request_within_limit(shared: &Shared, bytes: usize, limit: usize) -> Result<(), Status> {
    if bytes <= limit {
        return Ok(());
    }
    shared.counters.oversized_messages.add_one();
    let message = format!("the request of {bytes} bytes exceeds the limit of {limit} bytes");
    Err(Status::new(Code::PayloadTooLarge, message).not_processed())
}

/// Whether the handler runs where its caller does not end it.
fn runs_apart(unary: &Unary, asked: &Asked) -> bool {
    unary.rules.as_ref().is_some_and(|rules| rules.remembers) && asked.idempotency_key.is_some()
}

/// A call with a task of its own.
struct Spawned {
    unary: Unary,
    body: Bytes,
    /// If it was polled before.
    started: Option<Started>,
    arrived: Instant,
    places: Places,
    /// If it has to wait for them.
    queued: Option<Box<(Queued, Arc<Turn>)>>,
}

impl Spawned {
    async fn run(
        self,
        context: CallContext,
        shared: &Arc<Shared>,
        account: Arc<Account>,
    ) -> Outcome {
        let Self {
            unary,
            body,
            started,
            arrived,
            mut places,
            queued,
        } = self;
        if let Some(queued) = queued {
            let (queued, turn) = *queued;
            places = Box::pin(queued.turn(&shared.counters)).await?;
            if !turn.begin() {
                return Err(Status::new(Code::Cancelled, "cancelled by the caller").not_processed());
            }
            if is_over(context.asked().deadline) {
                return Err(expired(shared));
            }
            places.measure();
            shared.counters.calls_started.add_one();
        }
        if let Some(started) = started {
            let outcome = started.finish().await;
            places.note(&outcome);
            return outcome;
        }
        if is_over(context.asked().deadline) {
            return Err(expired(shared));
        }
        shared.queue_delay.note(arrived.elapsed());
        if runs_apart(&unary, &context.asked()) {
            let places = std::mem::take(&mut places);
            let shared = Arc::clone(shared);
            context.lend(Lent {
                places,
                shared,
                account,
                room: None,
            });
        }
        let mut started = Started::default();
        let began = Instant::now();
        unary.start(context, body, &mut started);
        let first = poll_fn(|cx| Poll::Ready(started.poll(cx))).await;
        let now = Instant::now();
        unary.pace.note(now.duration_since(began), now);
        let outcome = match first {
            Poll::Ready(Some(outcome)) => outcome,
            Poll::Ready(None) | Poll::Pending => started.finish().await,
        };
        places.note(&outcome);
        outcome
    }
}

/// How long handlers of a lane may take together since its clock was read, for a call behind them to be known as expired.
const CLOCK_LAG_MAX: Duration = Duration::from_secs(1);
