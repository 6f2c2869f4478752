//! Replies of a lane: on the lane, or on streams of their own if they are large.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    LaneServer, TaskResult,
    pending_calls::{self, CallStage},
};
use crate::{
    Code, Status,
    accounts::InFlightGuard,
    endpoint::EndpointShared,
    metadata::CallHeaders,
    server::{
        call_status,
        caller::Caller,
        handler_result::HandlerResult,
        send_reply::{reply_dropped_status, reply_parts, reserve_reply, send_reply},
    },
    stream::SendHalf,
    wire::{self, Preface, StreamKind},
};

impl LaneServer {
    /// Writes the status of a call that was rejected, or whose handler will not return.
    pub(super) fn write_failure(&mut self, id: u32, status: Status) {
        let details_max = self.shared.config.lane.lane_body_bytes_max;
        let (header, body) = reply_parts(Err(status), self.load, details_max);
        self.replies.write_failure(id, &header, &body);
    }

    /// Writes the reply of a handler that has returned.
    pub(super) fn finish_call(
        &mut self,
        id: u32,
        outcome: HandlerResult,
        headers: Option<Box<CallHeaders>>,
    ) {
        let config = &self.shared.config;
        let lane_body_bytes_max = config.lane.lane_body_bytes_max;
        match outcome {
            Ok(body) if body.len() <= lane_body_bytes_max => {
                let peer = &self.caller.account.peer;
                let headers_bytes = headers.as_ref().map_or(0, |headers| headers.encoded_len());
                if !self.replies.charge(peer, body.len() + headers_bytes) {
                    let status = reply_dropped_status(&self.shared, body.len());
                    return self.write_failure(id, status);
                }
                self.stats.record_completion();
                if let Some(headers) = &headers {
                    self.replies.write_headers(id, headers);
                }
                self.replies.write_reply(id, self.load, &body);
            }
            Err(status) if status.details.len() <= lane_body_bytes_max => {
                self.count_failure(&status);
                if let Some(headers) = &headers {
                    self.replies.write_headers(id, headers);
                }
                self.write_failure(id, status);
            }
            large => self.reply_on_own_stream(id, large, headers),
        }
    }

    pub(super) fn finish_panicked(&mut self, id: u32, headers: Option<Box<CallHeaders>>) {
        self.shared.counters.handler_panics.add_one();
        if let Some(headers) = &headers {
            self.replies.write_headers(id, headers);
        }
        self.write_failure(id, call_status::panicked());
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
    fn reply_on_own_stream(
        &mut self,
        id: u32,
        outcome: HandlerResult,
        headers: Option<Box<CallHeaders>>,
    ) {
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
            let reply = (outcome, headers);
            let sent = send_on_own_stream(&shared, &caller, (lane, id), reply, in_flight);
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
    (outcome, headers): (HandlerResult, Option<Box<CallHeaders>>),
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
    let reply = (outcome, headers);
    send_reply(shared, sending, &mut send, stopped.as_mut(), reply).await
}
