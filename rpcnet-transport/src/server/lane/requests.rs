//! Requests of a lane: inline calls, spawned calls, and their replies.

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
    HandlerResult, LaneServer, ProtocolViolation, TaskResult,
    pending_calls::{self, CallStage},
    start_once::StartOnce,
};
use crate::{
    Code, Status,
    accounts::{InFlightGuard, PeerAccount},
    deadline::has_passed,
    endpoint::EndpointShared,
    server::{
        CallContext, Dispatch,
        admission::{AdmissionOutcome, PendingAdmission, Permits},
        call_checks::{
            call_type_mismatch_status, check_capacity, expired_status, quotas_for,
            request_admission, runs_detached, unknown_method_status,
        },
        caller::Caller,
        context::CallMeta,
        detached::DetachedCall,
        handler::{Handler, HandlerFuture, UnaryMethod},
        handler_result::{check_reply_size, maybe_processed},
        send_reply::{reply_dropped_status, reserve_reply, send_reply},
    },
    stream::SendHalf,
    wire::{self, LaneRequest, Preface, StreamKind},
};

impl LaneServer {
    /// Serves a request, inline or in a task of its own.
    pub(super) fn serve_request(
        &mut self,
        request: LaneRequest,
        body: Bytes,
        arrived: Instant,
    ) -> Result<(), ProtocolViolation> {
        let Some(checked) = self.check_request(&request, body.len(), arrived)? else {
            return Ok(());
        };
        // Most servers limit nothing but the number of all calls.
        let mut permits = Permits::default();
        if checked.is_limited {
            match self.admit_call(&request, &checked.meta, &body, arrived)? {
                Some(acquired) => permits = acquired,
                None => return Ok(()),
            }
        }
        self.start_call(&request, &checked.meta, body, arrived, permits)
    }

    /// Checks a request before it needs a permit. `None` if it is rejected.
    #[inline(always)]
    fn check_request(
        &mut self,
        request: &LaneRequest,
        body_bytes: usize,
        arrived: Instant,
    ) -> Result<Option<CheckedRequest>, ProtocolViolation> {
        let id = request.id;
        self.pending.check(id).map_err(|_| ProtocolViolation)?;
        let shared = &self.shared;
        let method = self
            .methods
            .find(request.method, shared)
            .map_err(|_| ProtocolViolation)?;
        let in_flight = self.stats.count_request(shared);
        let is_full = self
            .caller
            .account
            .peer
            .exceeds_call_limit(in_flight, false);
        let admitted = check_capacity(shared, in_flight, is_full).and_then(|()| {
            let limit = shared.config.message_bytes_max;
            request_within_limit(shared, body_bytes, limit)
        });
        let unary = match admitted {
            Err(status) => Err(status),
            Ok(()) => match &method.handler {
                Some(Handler::Unary(unary)) => Ok(unary),
                Some(handler @ Handler::Streaming(_)) => {
                    let streams = handler.streams_by_direction();
                    Err(call_type_mismatch_status(streams, (false, false)))
                }
                None => Err(unknown_method_status(shared, &method.name)),
            },
        };
        let unary = match unary {
            Ok(unary) => unary,
            Err(status) => {
                if status.code == Code::InvalidRequest {
                    shared.counters.invalid_requests.add_one();
                }
                self.write_failure(id, status);
                return Ok(None);
            }
        };
        let deadline = request.deadline.and_then(|left| arrived.checked_add(left));
        // The clock is read only where it may decide: earlier handlers may have taken some time
        // since it was last read.
        if deadline.is_some_and(|at| at < self.now + CLOCK_LAG_MAX) && has_passed(deadline) {
            let status = expired_status(shared);
            self.write_failure(id, status);
            return Ok(None);
        }
        let meta = CallMeta {
            attempt: request.attempt,
            idempotent: request.idempotent,
            priority: request.priority,
            idempotency_key: request.idempotency_key,
            deadline,
        };
        let is_limited = shared.admission.is_some() || unary.config.is_some();
        Ok(Some(CheckedRequest { meta, is_limited }))
    }

    /// Starts a call: inline, or in a task of its own if its handler is known to be slow.
    #[inline(always)]
    fn start_call(
        &mut self,
        request: &LaneRequest,
        meta: &CallMeta,
        body: Bytes,
        arrived: Instant,
        mut permits: Permits,
    ) -> Result<(), ProtocolViolation> {
        let id = request.id;
        let method = self
            .methods
            .find(request.method, &self.shared)
            .map_err(|_| ProtocolViolation)?;
        let Some(Handler::Unary(unary)) = &method.handler else {
            return Err(ProtocolViolation);
        };
        self.stats.record_start(self.now.duration_since(arrived));
        let mut spare = method.spare_context.take();
        let is_reused = spare.as_mut().is_some_and(|context| context.reuse(meta));
        let mut context = match spare {
            Some(context) if is_reused => context,
            _ => method.new_context(&self.caller.peer, meta),
        };
        let has_task = match unary.dispatch {
            Dispatch::Adaptive => unary.poll_cost.is_slow(),
            Dispatch::Inline => false,
            Dispatch::Spawned => true,
        };
        if has_task {
            let call = SpawnedCall {
                unary: unary.clone(),
                body,
                handler_future: None,
                arrived,
                permits,
                queued: None,
            };
            self.spawn_call(id, call, context, meta.deadline);
            return Ok(());
        }

        if runs_detached(unary.config.as_deref(), meta) {
            let account = &self.caller.account.peer;
            let permits = std::mem::take(&mut permits);
            let (served, counters) = (&self.shared.served, &self.shared.counters);
            context.set_detached(DetachedCall::new(served, counters, account, permits));
        }
        // Around it and not inside: that leaves nothing to unwind there, which makes it cheaper.
        let scope = meta.inherited().enter();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            unary.start(context.clone(), body, &mut method.future_memory);
            method
                .future_memory
                .poll(&mut Context::from_waker(Waker::noop()))
        }));
        drop(scope);
        if let Some(took) = self.poll_timer.lap(&mut self.stats, &mut self.now)
            && unary.dispatch == Dispatch::Adaptive
        {
            unary.poll_cost.record(took, self.now);
        }
        match polled {
            Ok(Poll::Ready(outcome)) => {
                if context.end_unless_unique() {
                    method.spare_context = Some(context);
                }
                let outcome =
                    outcome.unwrap_or_else(|| Err(Status::internal("the handler was not started")));
                self.finish_call(id, outcome);
            }
            Ok(Poll::Pending) => {
                let call = SpawnedCall {
                    unary: unary.clone(),
                    body: Bytes::new(),
                    handler_future: Some(std::mem::take(&mut method.future_memory)),
                    arrived,
                    permits,
                    queued: None,
                };
                self.spawn_call(id, call, context, meta.deadline);
            }
            Err(_) => {
                context.end();
                // A future that panicked must not be polled again.
                method.future_memory = HandlerFuture::default();
                self.finish_panicked(id);
            }
        }
        Ok(())
    }

    /// Asks the gates to admit a call. `None` if it is rejected, or queued in a task of its own.
    #[inline(never)]
    fn admit_call(
        &mut self,
        request: &LaneRequest,
        meta: &CallMeta,
        body: &Bytes,
        arrived: Instant,
    ) -> Result<Option<Permits>, ProtocolViolation> {
        let (id, shared) = (request.id, &self.shared);
        let method = self
            .methods
            .find(request.method, shared)
            .map_err(|_| ProtocolViolation)?;
        method.resolve_quota(&self.caller.peer);
        let Some(Handler::Unary(unary)) = &method.handler else {
            return Err(ProtocolViolation);
        };
        let method_quota = method.quota.as_ref();
        let quotas = quotas_for(&self.caller, unary.config.as_deref(), method_quota);
        match request_admission(shared, quotas, self.now, meta) {
            AdmissionOutcome::Admitted(permits) => return Ok(Some(permits)),
            AdmissionOutcome::Rejected(status) => self.write_failure(id, status),
            AdmissionOutcome::Queued(pending) => {
                let context = method.new_context(&self.caller.peer, meta);
                let call = SpawnedCall {
                    unary: unary.clone(),
                    // A copy, so that the packets of the request are freed.
                    body: Bytes::copy_from_slice(body),
                    handler_future: None,
                    arrived,
                    permits: Permits::default(),
                    queued: Some(Box::new((pending, Arc::default()))),
                };
                self.spawn_call(id, call, context, meta.deadline);
            }
        }
        Ok(None)
    }

    /// Gives a call a task of its own.
    fn spawn_call(
        &mut self,
        id: u32,
        mut call: SpawnedCall,
        context: CallContext,
        deadline: Option<Instant>,
    ) {
        call.permits.measure();
        let start_once = call.queued.as_ref().map(|queued| Arc::clone(&queued.1));
        let account = Arc::clone(&self.caller.account.peer);
        let (guard, _) = account.begin_call(&self.shared.served.in_flight);
        let (done, shared) = (Arc::clone(&self.task_results), Arc::clone(&self.shared));
        let handed = context.clone();
        let task = tokio::spawn(async move {
            let scoped = handed.scope(call.run(handed.clone(), &shared, account));
            let outcome = AssertUnwindSafe(scoped).catch_unwind().await;
            drop(guard);
            done.push(
                id,
                outcome.map_or(TaskResult::Panicked, TaskResult::Returned),
            );
        });
        self.pending.insert(pending_calls::PendingCall {
            id,
            deadline,
            task: task.abort_handle(),
            stage: CallStage::Running {
                context,
                start_once,
            },
        });
    }

    /// Writes the reply of a handler that has returned.
    pub(super) fn finish_call(&mut self, id: u32, outcome: HandlerResult) {
        let config = &self.shared.config;
        let outcome = outcome.and_then(|reply| check_reply_size(reply, config.message_bytes_max));
        let lane_body_bytes_max = config.lane.lane_body_bytes_max;
        match outcome {
            Ok(body) if body.len() <= lane_body_bytes_max => {
                let peer = &self.caller.account.peer;
                if !self.replies.charge(peer, body.len()) {
                    let status = reply_dropped_status(&self.shared, body.len());
                    return self.write_failure(id, status);
                }
                self.stats.record_completion();
                self.replies.write_reply(id, self.load, &body);
            }
            Err(status) if status.details.len() <= lane_body_bytes_max => {
                self.count_failure(&status);
                self.write_failure(id, status);
            }
            large => self.reply_on_own_stream(id, large),
        }
    }

    pub(super) fn finish_panicked(&mut self, id: u32) {
        self.shared.counters.handler_panics.add_one();
        self.write_failure(id, maybe_processed(Code::Internal, "the handler panicked"));
    }

    fn count_failure(&mut self, status: &Status) {
        use crate::Processed::{Maybe, No, Yes};
        match (status.code, status.processed) {
            (_, Yes) => self.stats.record_completion(),
            (Code::InvalidRequest, No) => self.shared.counters.invalid_requests.add_one(),
            (_, No | Maybe) => {}
        }
    }

    /// Sends a large reply on a stream of its own, so that no small reply waits behind it.
    fn reply_on_own_stream(&mut self, id: u32, outcome: HandlerResult) {
        let account = &self.caller.account.peer;
        let (outcome, reservation) = match reserve_reply(&self.shared, account, outcome) {
            Ok(reserved) => reserved,
            Err(dropped) => return self.write_failure(id, dropped),
        };
        let (unacknowledged, _) = self.shared.served.unacknowledged.enter();
        let (in_flight, _) = account.begin_call(&self.shared.served.in_flight);
        let (shared, caller) = (Arc::clone(&self.shared), Arc::clone(&self.caller));
        let (done, lane) = (Arc::clone(&self.task_results), self.replies.stream_index());
        let task = self.shared.served.tasks.spawn(async move {
            let _guards = (unacknowledged, reservation);
            let sent = send_on_own_stream(&shared, &caller, (lane, id), outcome, in_flight);
            let delivered = sent.await;
            done.push(id, TaskResult::ReplySent { delivered });
        });
        self.pending.insert(pending_calls::PendingCall {
            id,
            deadline: None,
            task: task.abort_handle(),
            stage: CallStage::Replying,
        });
    }
}

/// Delivers a reply on a stream of its own. Returns whether it arrived.
async fn send_on_own_stream(
    shared: &EndpointShared,
    caller: &Caller,
    (lane, id): (u64, u32),
    outcome: HandlerResult,
    in_flight: InFlightGuard,
) -> bool {
    let sending = caller.replies.begin(None, Some(in_flight));
    // Waits while the caller has not read earlier replies.
    let opened = sending.stall_timer.wait(caller.connection.open_uni()).await;
    let Ok(Ok(stream)) = opened else {
        return false;
    };
    let mut head = BytesMut::new();
    let kind = StreamKind::LaneReply;
    head.extend_from_slice(&Preface { kind }.encode());
    wire::encode_reply_to(&mut head, lane, id);
    let mut send = SendHalf::new(stream, Arc::clone(&caller.write_turns));
    let head_written = send.write(head, Bytes::new(), Some(&sending.stall_timer));
    if head_written.await.is_err() {
        return false;
    }
    let mut stopped = Box::pin(send.stopped());
    send_reply(shared, sending, &mut send, stopped.as_mut(), outcome).await
}

fn request_within_limit(shared: &EndpointShared, bytes: usize, limit: usize) -> Result<(), Status> {
    if bytes <= limit {
        return Ok(());
    }
    shared.counters.oversized_messages.add_one();
    let message = format!("the request of {bytes} bytes exceeds the limit of {limit} bytes");
    Err(Status::new(Code::PayloadTooLarge, message).not_processed())
}

/// A request that passed the checks that need no permit.
struct CheckedRequest {
    meta: CallMeta,
    /// Whether the call needs permits of its method or of the server.
    is_limited: bool,
}

/// A call with a task of its own.
struct SpawnedCall {
    unary: UnaryMethod,
    body: Bytes,
    /// The future of the handler, if it was polled before.
    handler_future: Option<HandlerFuture>,
    arrived: Instant,
    permits: Permits,
    /// The position in the admission queue, if the call has to wait for permits.
    queued: Option<Box<(PendingAdmission, Arc<StartOnce>)>>,
}

impl SpawnedCall {
    async fn run(
        self,
        context: CallContext,
        shared: &Arc<EndpointShared>,
        account: Arc<PeerAccount>,
    ) -> HandlerResult {
        let Self {
            unary,
            body,
            handler_future: started,
            arrived,
            mut permits,
            queued,
        } = self;
        if let Some(queued) = queued {
            let (queued, start_once) = *queued;
            permits = Box::pin(queued.wait_admitted(&shared.counters)).await?;
            if !start_once.try_start() {
                return Err(Status::new(Code::Cancelled, "cancelled by the caller").not_processed());
            }
            if has_passed(context.meta().deadline) {
                return Err(expired_status(shared));
            }
            permits.measure();
            shared.counters.calls_started.add_one();
        }
        if let Some(started) = started {
            let outcome = started.finish().await;
            permits.note(&outcome);
            return outcome;
        }
        if has_passed(context.meta().deadline) {
            return Err(expired_status(shared));
        }
        shared.queue_delay.record(arrived.elapsed());
        if runs_detached(unary.config.as_deref(), &context.meta()) {
            let permits = std::mem::take(&mut permits);
            let (served, counters) = (&shared.served, &shared.counters);
            context.set_detached(DetachedCall::new(served, counters, &account, permits));
        }
        let mut started = HandlerFuture::default();
        let began = Instant::now();
        unary.start(context, body, &mut started);
        let first = poll_fn(|cx| Poll::Ready(started.poll(cx))).await;
        let now = Instant::now();
        unary.poll_cost.record(now.duration_since(began), now);
        let outcome = match first {
            Poll::Ready(Some(outcome)) => outcome,
            Poll::Ready(None) | Poll::Pending => started.finish().await,
        };
        permits.note(&outcome);
        outcome
    }
}

/// Longest time since the clock was read at which an expired call is still noticed: handlers of a
/// lane may take this long together.
const CLOCK_LAG_MAX: Duration = Duration::from_secs(1);
