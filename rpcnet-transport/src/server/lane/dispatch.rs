//! Dispatch of the requests of a lane: inline, or in tasks of their own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
};

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;

use super::{
    LaneServer, ProtocolViolation, TaskResult,
    admit::CheckedRequest,
    begin_call::NextHeaders,
    pending_calls::{self, CallStage},
    spawned_call::SpawnedCall,
};
use crate::{
    Code,
    server::{
        CallContext, Dispatch,
        admission::Permits,
        call_checks::runs_detached,
        call_parts::CallParts,
        call_properties::CallProperties,
        call_status,
        detached_call::DetachedCall,
        handler::{Handler, UnaryMethod},
        handler_future::HandlerFuture,
        handler_result::{HandlerResult, check_reply_size},
    },
    wire::LaneRequest,
};

impl LaneServer {
    /// Serves a request, inline or in a task of its own.
    pub(super) fn serve_request(
        &mut self,
        request: LaneRequest,
        body: Bytes,
        arrived: Instant,
    ) -> Result<(), ProtocolViolation> {
        let headers = self.next_headers.take();
        let request_bytes = body.len() + headers.as_ref().map_or(0, |next| next.bytes);
        let Some(checked) = self.check_request(&request, request_bytes, arrived)? else {
            return Ok(());
        };
        if headers.is_some() || checked.has_layers {
            return self.serve_with_parts(&request, headers, checked, body, arrived);
        }
        let meta = checked.meta;
        // Most servers limit nothing but the number of all calls.
        let mut permits = Permits::default();
        if checked.is_limited {
            match self.admit_call(&request, &meta, &body, arrived, None)? {
                Some(acquired) => permits = acquired,
                None => return Ok(()),
            }
        }
        self.start_call(&request, &meta, body, arrived, permits, None)
    }

    /// Serves a request that has headers, or whose method has layers.
    #[inline(never)]
    fn serve_with_parts(
        &mut self,
        request: &LaneRequest,
        headers: Option<Box<NextHeaders>>,
        checked: CheckedRequest,
        body: Bytes,
        arrived: Instant,
    ) -> Result<(), ProtocolViolation> {
        let mut meta = checked.meta;
        let begun = self.begin_call(request, headers, body.len(), &mut meta)?;
        let Some(mut parts) = begun else {
            return Ok(());
        };
        if parts.awaits_layers() {
            let is_limited = checked.is_limited;
            return self.spawn_layered(request, &meta, &body, arrived, parts, is_limited);
        }
        let mut permits = Permits::default();
        if checked.is_limited {
            match self.admit_call(request, &meta, &body, arrived, Some(&mut parts))? {
                Some(acquired) => permits = acquired,
                None => return Ok(()),
            }
        }
        self.start_call(request, &meta, body, arrived, permits, Some(&mut parts))
    }

    /// Starts a call: inline, or in a task of its own if its handler is known to be slow.
    #[inline(always)]
    fn start_call(
        &mut self,
        request: &LaneRequest,
        meta: &CallProperties,
        body: Bytes,
        arrived: Instant,
        mut permits: Permits,
        mut parts: Option<&mut CallParts>,
    ) -> Result<(), ProtocolViolation> {
        let id = request.id;
        let method = self
            .methods
            .find(request.method, &self.shared)
            .map_err(|_| ProtocolViolation)?;
        let attachments = parts.as_mut().and_then(|parts| parts.attachments.take());
        let mut context = method.take_context(&self.caller.peer, meta, attachments);
        let Some(Handler::Unary(unary)) = &method.handler else {
            return Err(ProtocolViolation);
        };
        self.stats.record_start(self.now.duration_since(arrived));
        if unary.needs_task() {
            let call = SpawnedCall {
                layered: parts.and_then(CallParts::take_layered),
                ..SpawnedCall::new(unary.clone(), body, arrived, permits)
            };
            self.spawn_call(id, call, context, meta.deadline);
            return Ok(());
        }
        if runs_detached(unary.config.as_deref(), meta) {
            let (served, counters) = (&self.shared.served, &self.shared.counters);
            let (account, permits) = (&self.caller.account.peer, std::mem::take(&mut permits));
            context.set_detached(DetachedCall::new(served, counters, account, permits));
        }
        let polled = poll_inline(unary, meta, &context, body, &mut method.future_memory);
        if let Some(took) = self.poll_timer.lap(&mut self.stats, &mut self.now)
            && unary.dispatch == Dispatch::Adaptive
        {
            unary.poll_cost.record(took, self.now);
        }
        match polled {
            Ok(Poll::Ready(outcome)) => {
                let outcome = checked_result(outcome, self.shared.config.message_bytes_max);
                if let Some(parts) = parts {
                    parts.end(&outcome);
                }
                let headers = context.take_reply_headers();
                if context.end_unless_unique() {
                    method.spare_context = Some(context);
                }
                self.finish_call(id, outcome, headers);
            }
            Ok(Poll::Pending) => {
                let call = SpawnedCall {
                    handler_future: Some(std::mem::take(&mut method.future_memory)),
                    layered: parts.and_then(CallParts::take_layered),
                    ..SpawnedCall::new(unary.clone(), Bytes::new(), arrived, permits)
                };
                self.spawn_call(id, call, context, meta.deadline);
            }
            Err(_) => {
                // A future that panicked must not be polled again.
                method.future_memory = HandlerFuture::default();
                context.end();
                if let Some(parts) = parts {
                    parts.end_without_result(Code::Internal);
                }
                self.finish_panicked(id, context.take_reply_headers());
            }
        }
        Ok(())
    }

    /// Gives a call a task of its own.
    pub(super) fn spawn_call(
        &mut self,
        id: u32,
        mut call: SpawnedCall,
        context: CallContext,
        deadline: Option<Instant>,
    ) {
        call.permits.measure();
        let start_once = call.queued.as_ref().map(|queued| Arc::clone(&queued.once));
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
}

/// The result of a handler that has returned, unless its reply is too large.
#[inline]
fn checked_result(outcome: Option<HandlerResult>, reply_bytes_max: usize) -> HandlerResult {
    let outcome = outcome.unwrap_or_else(|| Err(call_status::not_started()));
    outcome.and_then(|reply| check_reply_size(reply, reply_bytes_max))
}

/// Starts a handler and polls its future once, in the task of the lane. The error is a panic.
#[inline(always)]
fn poll_inline(
    unary: &UnaryMethod,
    meta: &CallProperties,
    context: &CallContext,
    body: Bytes,
    future_memory: &mut HandlerFuture,
) -> thread::Result<Poll<Option<HandlerResult>>> {
    // Around it and not inside: that leaves nothing to unwind there, which makes it cheaper.
    let scope = meta.inherited().enter();
    let polled = catch_unwind(AssertUnwindSafe(|| {
        unary.start(context.clone(), body, future_memory);
        future_memory.poll(&mut Context::from_waker(Waker::noop()))
    }));
    drop(scope);
    polled
}
