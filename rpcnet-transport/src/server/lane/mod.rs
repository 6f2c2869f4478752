//! Server side of a lane: a stream that many small calls share.

mod lane_methods;
mod pending_calls;
mod reply_writer;
mod requests;
mod round_stats;
mod start_once;
mod task_results;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use self::{
    lane_methods::LaneMethods,
    pending_calls::{CallStage, PendingCalls},
    reply_writer::{RepliesNotRead, ReplyWriter},
    round_stats::{PollTimer, RoundStats},
    task_results::{TaskResult, TaskResults},
};
use super::{
    call_checks::expired_status,
    caller::Caller,
    handler_result::{HandlerResult, maybe_processed},
    send_reply::reply_parts,
};
use crate::{
    Code, Status,
    endpoint::EndpointShared,
    lane_reader::{LaneReadEnd, LaneReader},
    outbox::Outbox,
    stream::ResetCode,
    wire::{LaneFrame, LoadReport},
};

/// Serves a lane until its caller ends it, the server stops, or the connection is lost.
pub(super) async fn serve(
    shared: Arc<EndpointShared>,
    caller: Arc<Caller>,
    outbox: Outbox,
    recv: quinn::RecvStream,
    first_bytes: Bytes,
) {
    // A shutdown waits until the caller has the last reply.
    let (_unacknowledged, _) = shared.served.unacknowledged.enter();
    let mut lane = LaneServer::new(Arc::clone(&shared), caller, outbox, recv, first_bytes);
    let mut closing = pin!(shared.lifecycle.closing.cancelled());
    let mut is_registered = false;
    let end = poll_fn(|cx| {
        // Polling the token takes a lock that all lanes share: once to register, and then when it
        // is cancelled.
        let look = !std::mem::replace(&mut is_registered, true) || shared.lifecycle.is_closed();
        if look && closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(LaneServerEnd::ShuttingDown);
        }
        lane.poll_serve(cx)
    })
    .await;
    match end {
        LaneServerEnd::Closed => lane.abort(ResetCode::Cancelled),
        LaneServerEnd::Malformed => {
            shared.counters.malformed_frames.add_one();
            lane.abort(ResetCode::Malformed);
        }
        LaneServerEnd::Stalled => {
            shared.counters.stalled_calls.add_one();
            lane.abort(ResetCode::Stalled);
        }
        LaneServerEnd::ShuttingDown => lane.shut_down().await,
    }
}

/// Reason for which a lane is no longer served.
#[derive(Debug)]
enum LaneServerEnd {
    /// The caller has ended the lane, or is gone.
    Closed,
    /// The caller broke the protocol.
    Malformed,
    /// The caller does not read its replies.
    Stalled,
    ShuttingDown,
}

impl From<LaneReadEnd> for LaneServerEnd {
    fn from(end: LaneReadEnd) -> Self {
        match end {
            LaneReadEnd::Malformed(_) => Self::Malformed,
            LaneReadEnd::Finished
            | LaneReadEnd::Reset(_)
            | LaneReadEnd::Stopped
            | LaneReadEnd::ConnectionLost(_) => Self::Closed,
        }
    }
}

/// State of the task of one lane.
struct LaneServer {
    shared: Arc<EndpointShared>,
    caller: Arc<Caller>,
    requests: LaneReader,
    /// When the requests were read.
    read_at: Instant,
    replies: ReplyWriter,
    methods: LaneMethods,
    pending: PendingCalls,
    task_results: Arc<TaskResults>,
    /// Results of one round; kept here so that rounds share the memory.
    results: Vec<(u32, TaskResult)>,
    stats: RoundStats,
    poll_timer: PollTimer,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the last round that did something began.
    last_active: Instant,
    /// The clock, as last read.
    now: Instant,
    load: LoadReport,
}

impl LaneServer {
    fn new(
        shared: Arc<EndpointShared>,
        caller: Arc<Caller>,
        outbox: Outbox,
        recv: quinn::RecvStream,
        first_bytes: Bytes,
    ) -> Self {
        let now = Instant::now();
        let calls_max =
            usize::try_from(shared.config.lane.lane_calls_max.get()).unwrap_or(usize::MAX);
        let body_bytes_max = shared.config.lane.lane_body_bytes_max;
        Self {
            load: shared.load(),
            shared,
            caller,
            requests: LaneReader::new(recv, first_bytes, body_bytes_max),
            read_at: now,
            replies: ReplyWriter::new(outbox),
            methods: LaneMethods::default(),
            pending: PendingCalls::new(calls_max),
            task_results: Arc::default(),
            results: Vec::new(),
            stats: RoundStats::default(),
            poll_timer: PollTimer::default(),
            timer: None,
            last_active: now,
            now,
        }
    }

    /// Reads requests and writes replies until there is a reason to end.
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<LaneServerEnd> {
        let served = self.poll_round(cx);
        self.stats.flush(&self.shared);
        served
    }

    fn poll_round(&mut self, cx: &mut Context<'_>) -> Poll<LaneServerEnd> {
        self.now = Instant::now();
        let round_began = self.now;
        self.load = self.shared.load();
        self.take_results(cx);
        self.expire_calls();
        // Replies that the caller does not read hold up further requests.
        let (mut has_more, mut frames) = (false, 0);
        while !self.replies.is_full() {
            match self.poll_frame(cx) {
                Poll::Ready(Ok(frame)) => {
                    self.last_active = round_began;
                    if self.handle_frame(frame, self.read_at).is_err() {
                        return Poll::Ready(LaneServerEnd::Malformed);
                    }
                }
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => break,
            }
            frames += 1;
            if frames == ROUND_FRAMES_MAX || self.now.duration_since(round_began) > ROUND_MAX {
                // The replies so far leave, and other tasks of this thread get their turn.
                has_more = true;
                break;
            }
        }
        let was_full = self.replies.is_full();
        if self.last_active == round_began {
            self.shared.busy_poll.note(true);
        }
        // Before the replies leave: a caller that has a reply finds it counted.
        self.stats.flush(&self.shared);
        let rate_min = self.shared.config.limits.transfer_rate_min;
        match self.replies.poll_flush(self.now, rate_min, cx) {
            Poll::Ready(Err(RepliesNotRead)) => return Poll::Ready(LaneServerEnd::Closed),
            Poll::Ready(Ok(())) => has_more |= was_full,
            // QUIC wakes the task when it accepts more bytes. Only then more is read, if the outbox
            // was full.
            Poll::Pending => {}
        }
        if has_more {
            cx.waker().wake_by_ref();
        }
        self.poll_deadlines(cx)
    }

    /// Polls the next frame; reads when none is left.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<LaneFrame, LaneServerEnd>> {
        loop {
            match self.requests.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Ok(frame)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err(LaneServerEnd::Malformed)),
            }
            ready!(self.requests.poll_read(cx))?;
            self.read_at = self.now;
        }
    }

    fn handle_frame(
        &mut self,
        frame: LaneFrame,
        arrived: Instant,
    ) -> Result<(), ProtocolViolation> {
        match frame {
            LaneFrame::Request(request, body) => self.serve_request(request, body, arrived),
            LaneFrame::Method { method, name } => self
                .methods
                .define(method, &name, &self.shared)
                .map_err(|_| ProtocolViolation),
            LaneFrame::Cancel { id } => {
                if let Some(call) = self.pending.remove(id) {
                    if !call.is_delivered() {
                        self.shared.counters.calls_cancelled.add_one();
                    }
                    call.end();
                }
                Ok(())
            }
            LaneFrame::Received { id } => match self.pending.find(id).map(|call| &call.stage) {
                Some(CallStage::Running { .. }) => Err(ProtocolViolation),
                Some(CallStage::Replying | CallStage::Delivered) => {
                    // Its task may still have to count the acknowledgement.
                    self.pending.remove(id);
                    Ok(())
                }
                // The server took the reply as not delivered.
                None => Ok(()),
            },
            LaneFrame::Reply { .. } | LaneFrame::Failure { .. } => Err(ProtocolViolation),
        }
    }

    /// Answers the calls whose tasks have ended.
    fn take_results(&mut self, cx: &Context<'_>) {
        let mut results = std::mem::take(&mut self.results);
        self.task_results.take(&mut results, cx);
        for (id, result) in results.drain(..) {
            // A call that was cancelled needs no answer.
            let Some(call) = self.pending.find(id) else {
                continue;
            };
            if matches!(result, TaskResult::ReplySent { delivered: true }) {
                call.stage = CallStage::Delivered;
            } else if let Some(call) = self.pending.remove(id) {
                call.end();
                match result {
                    TaskResult::Returned(outcome) => self.finish_call(id, outcome),
                    TaskResult::Panicked => self.finish_panicked(id),
                    // Without a failure the end of the lane would say that the call was not
                    // processed.
                    TaskResult::ReplySent { .. } => {
                        let message = "the reply could not be delivered";
                        self.write_failure(id, maybe_processed(Code::Unavailable, message));
                    }
                }
            }
            self.last_active = self.now;
        }
        self.results = results;
    }

    fn expire_calls(&mut self) {
        let mut calls = Vec::new();
        self.pending.expire(self.now, |call| calls.push(call));
        for call in calls {
            let status = if call.cancel_before_start() {
                expired_status(&self.shared)
            } else {
                self.shared.counters.calls_timed_out.add_one();
                let message = "deadline exceeded before the handler returned";
                maybe_processed(Code::DeadlineExceeded, message)
            };
            self.write_failure(call.id, status);
            call.end();
        }
    }

    /// Writes the status of a call that was rejected, or whose handler will not return.
    fn write_failure(&mut self, id: u32, status: Status) {
        let details_max = self.shared.config.lane.lane_body_bytes_max;
        let (header, body) = reply_parts(Err(status), self.load, details_max);
        self.replies.write_failure(id, &header, &body);
    }

    /// Waits for the next deadline, or for the stall timeout of a caller that reads nothing.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<LaneServerEnd> {
        let stall_timeout = self.shared.config.limits.stall_timeout;
        let stalled_at = self.replies.stalled_at(stall_timeout);
        if stalled_at.is_some_and(|at| at <= self.now) {
            return Poll::Ready(LaneServerEnd::Stalled);
        }
        let deadline = self.pending.earliest_deadline();
        let Some(at) = deadline.into_iter().chain(stalled_at).min() else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Ends the lane at once, without answers to its calls.
    fn abort(&mut self, why: ResetCode) {
        self.replies.reset(why);
        self.requests.stop(why);
        let is_stopping = self.shared.served.cancel.is_cancelled();
        for call in self.pending.drain() {
            if !call.is_delivered() {
                self.shared.counters.calls_cancelled.add_one();
                if is_stopping {
                    call.count_cancelled_by_shutdown(&self.shared);
                }
            }
            call.end();
        }
    }

    /// Ends the lane in a shutdown: answers the calls in progress, rejects further ones, and
    /// finishes the stream.
    async fn shut_down(mut self) {
        let cancel = self.shared.served.cancel.clone();
        let drained = tokio::select! {
            biased;
            drained = poll_fn(|cx| self.poll_drain(cx)) => drained,
            () = cancel.cancelled() => {
                self.cancel_all();
                let stall = self.shared.config.limits.stall_timeout;
                let flushed = timeout(stall, poll_fn(|cx| self.replies.poll_send(cx))).await;
                if matches!(flushed, Ok(Ok(()))) { Ok(()) } else { Err(RepliesNotRead) }
            }
        };
        if drained.is_err() {
            return self.abort(ResetCode::Stalled);
        }
        // Further requests are not read, and the end of the replies says so.
        self.requests.stop(ResetCode::Cancelled);
        self.replies.finish();
        // Older replies were acknowledged, or the connection is as good as lost.
        if self.last_active.elapsed() < self.shared.config.quic.idle_timeout {
            let _ = timeout(
                self.shared.config.limits.stall_timeout,
                self.replies.acknowledged(),
            )
            .await;
        }
    }

    /// Serves until all calls in progress are answered. New calls are rejected, since the server
    /// drains.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RepliesNotRead>> {
        match self.poll_serve(cx) {
            Poll::Ready(_) => Poll::Ready(Err(RepliesNotRead)),
            Poll::Pending if self.pending.is_empty() && self.replies.is_empty() => {
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Cancels all calls, because the deadline of a shutdown has passed.
    fn cancel_all(&mut self) {
        let calls: Vec<_> = self.pending.drain().collect();
        for call in calls {
            if !call.is_delivered() {
                self.shared.counters.calls_cancelled.add_one();
                call.count_cancelled_by_shutdown(&self.shared);
            }
            let status = if call.cancel_before_start() {
                let message = "the server shut down before the handler started";
                Status::new(Code::Draining, message).not_processed()
            } else {
                let message = "the server shut down before the handler returned";
                maybe_processed(Code::Cancelled, message)
            };
            self.write_failure(call.id, status);
            call.end();
        }
    }
}

impl Drop for LaneServer {
    /// Leaves nothing running, also when the task is dropped with its runtime or by a panic.
    fn drop(&mut self) {
        self.stats.flush(&self.shared);
        self.abort(ResetCode::Cancelled);
    }
}

/// A frame that no caller may write.
#[derive(Debug)]
struct ProtocolViolation;

/// Requests that are served before the first of their replies leave: of all lanes together a few
/// full packets. The caller works on these replies while the next requests are served; with 64
/// calls in flight that is worth 40 percent.
const ROUND_FRAMES_MAX: usize = 12;

/// How long requests are served before the first of their replies leave.
const ROUND_MAX: Duration = Duration::from_micros(500);
