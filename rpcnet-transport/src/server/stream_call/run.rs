//! Run of an admitted call: its resources, its handler, and its reply.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    admit::AdmittedCall,
    handler_end::{CancelledOnDrop, HandlerEnd},
    handler_run::HandlerRun,
    handler_streams::HandlerStreams,
};
use crate::{
    accounts::InFlightGuard,
    endpoint::EndpointShared,
    metadata::CallHeaders,
    server::{
        CallContext,
        admission::{Permits, YieldingPermits},
        call_checks::runs_detached,
        call_parts::CallParts,
        caller::Caller,
        context::CallInfo,
        detached_call::DetachedCall,
        handler::{Handler, HandlerInput},
        send_reply::{reserve_reply, send_reply},
    },
    stream::{RecvHalf, ResetCode, SendHalf},
};

impl AdmittedCall {
    /// Runs the handler, and answers the caller.
    pub(super) async fn run(
        mut self,
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
        let mut parts = std::mem::take(&mut self.parts);
        let (run, mut resources) = self.prepare(shared, caller, &token, &parts, (send, recv));
        let (end, send) = run.finish(stopped.as_mut(), deadline, &token).await;
        if !matches!(end, HandlerEnd::Returned(_)) {
            uncounted.0 = None;
        }
        resources.release_permits(&end);
        let end = end.with_checked_size(shared.config.message_bytes_max);
        end.tell_layers(&mut parts);
        // Tasks that the handler spawned need not wait for the acknowledgement of the caller.
        token.cancel();
        match send {
            Some(send) => {
                let headers = parts.take_reply_headers();
                let answered =
                    resources.answer(shared, caller, (deadline, headers), end, send, stopped);
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
        parts: &CallParts,
        (send, mut recv): (SendHalf, RecvHalf),
    ) -> (HandlerRun, CallResources) {
        let Self {
            name,
            handler,
            header,
            body,
            encoding,
            meta,
            mut permits,
            in_flight,
            ..
        } = self;
        let flags = header.flags;
        let info = CallInfo {
            method: name,
            encoding,
            meta,
            attachments: parts.attachments.clone(),
        };
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
                encoding,
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
            permits.record(outcome);
        }
    }

    /// Sends the reply, unless the caller is gone.
    async fn answer(
        self,
        shared: &EndpointShared,
        caller: &Caller,
        (deadline, headers): (Option<Instant>, Option<Box<CallHeaders>>),
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
        let Some(outcome) = end.into_reply() else {
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
        let reply = (outcome, headers);
        send_reply(shared, sending, &mut send, stopped, reply).await;
        if let Some(mut recv) = unused_recv {
            recv.record_end();
        }
    }
}
