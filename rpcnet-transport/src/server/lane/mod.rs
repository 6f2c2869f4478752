//! Server side of a lane: a stream that many small calls share.

mod lane_methods;
mod pending_calls;
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
use quinn::{ReadError, VarInt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use self::{
    lane_methods::LaneMethods,
    pending_calls::{CallStage, PendingCalls},
    round_stats::{PollTimer, RoundStats},
    task_results::{TaskResult, TaskResults},
};
use super::{
    answer::reply_parts,
    call::expired_status,
    caller::Caller,
    reply::{HandlerResult, maybe_processed},
};
use crate::{
    Code, Status,
    accounts::BufferReservation,
    endpoint::EndpointShared,
    outbox::Outbox,
    stream::{MinRateTracker, ResetCode},
    wire::{self, LaneDecoder, LaneFrame, LoadReport},
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
    let (_unacknowledged, _) = shared.unacknowledged.enter();
    let mut lane = LaneServer::new(Arc::clone(&shared), caller, outbox, recv, first_bytes);
    let mut closing = pin!(shared.closing.cancelled());
    let mut is_registered = false;
    let end = poll_fn(|cx| {
        // Polling the token takes a lock that all lanes share: once to register, and then when it
        // is cancelled.
        let look = !std::mem::replace(&mut is_registered, true) || shared.is_shutting_down();
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

/// State of the task of one lane.
struct LaneServer {
    shared: Arc<EndpointShared>,
    caller: Arc<Caller>,
    recv: quinn::RecvStream,
    decoder: LaneDecoder,
    /// Chunks that were read and not yet given to the decoder.
    chunks: [Bytes; CHUNKS_MAX],
    unread: std::ops::Range<usize>,
    /// When the chunks were read.
    read_at: Instant,
    methods: LaneMethods,
    pending: PendingCalls,
    task_results: Arc<TaskResults>,
    /// Results of one round; kept here so that rounds share the memory.
    results: Vec<(u32, TaskResult)>,
    stats: RoundStats,
    poll_timer: PollTimer,
    outbox: Outbox,
    /// While the caller has not read everything: the bytes that had left, and whether it reads fast
    /// enough.
    stall_rate: Option<(u64, MinRateTracker)>,
    /// Charges to the peer for replies that it does not read.
    reply_reservations: Vec<BufferReservation>,
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
        let calls_max = usize::try_from(shared.config.lane_calls_max.get()).unwrap_or(usize::MAX);
        let body_bytes_max = shared.config.lane_body_bytes_max;
        let mut chunks = [const { Bytes::new() }; CHUNKS_MAX];
        chunks[0] = first_bytes;
        Self {
            load: shared.load(),
            shared,
            caller,
            recv,
            decoder: LaneDecoder::new().with_body_bytes_max(body_bytes_max),
            chunks,
            unread: 0..1,
            read_at: now,
            methods: LaneMethods::default(),
            pending: PendingCalls::new(calls_max),
            task_results: Arc::default(),
            results: Vec::new(),
            stats: RoundStats::default(),
            poll_timer: PollTimer::default(),
            outbox,
            stall_rate: None,
            reply_reservations: Vec::new(),
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
        while self.outbox.len() < OUTBOX_BYTES_MAX {
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
        let was_full = self.outbox.len() >= OUTBOX_BYTES_MAX;
        if self.last_active == round_began {
            self.shared.busy_poll.note(true);
        }
        // Before the replies leave: a caller that has a reply finds it counted.
        self.stats.flush(&self.shared);
        match self.poll_flush(cx) {
            Poll::Ready(Err(RepliesNotRead)) => return Poll::Ready(LaneServerEnd::Closed),
            Poll::Ready(Ok(())) => has_more |= was_full,
            // QUIC wakes the task when it accepts more bytes. Only then more is read, if the outbox
            // was full.
            Poll::Pending => {}
        }
        if has_more {
            cx.waker().wake_by_ref();
        }
        self.poll_timer(cx)
    }

    /// Polls the next frame; reads when none is left.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<LaneFrame, LaneServerEnd>> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Ok(frame)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err(LaneServerEnd::Malformed)),
            }
            if let Some(chunk) = self.unread.next() {
                self.decoder.push(std::mem::take(&mut self.chunks[chunk]));
                continue;
            }
            let read = pin!(self.recv.read_chunks(&mut self.chunks)).poll(cx);
            match ready!(read) {
                Ok(Some(chunks)) => {
                    self.unread = 0..chunks;
                    self.read_at = self.now;
                }
                Ok(None) if self.decoder.finish().is_err() => {
                    return Poll::Ready(Err(LaneServerEnd::Malformed));
                }
                Ok(None)
                | Err(
                    ReadError::Reset(_)
                    | ReadError::ConnectionLost(_)
                    | ReadError::ClosedStream
                    | ReadError::IllegalOrderedRead
                    | ReadError::ZeroRttRejected,
                ) => return Poll::Ready(Err(LaneServerEnd::Closed)),
            }
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
        for (id, work) in results.drain(..) {
            // A call that was cancelled needs no answer.
            let Some(call) = self.pending.find(id) else {
                continue;
            };
            if matches!(work, TaskResult::ReplySent { delivered: true }) {
                call.stage = CallStage::Delivered;
            } else if let Some(call) = self.pending.remove(id) {
                call.end();
                match work {
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
        let details_max = self.shared.config.lane_body_bytes_max;
        let (header, body) = reply_parts(Err(status), self.load, details_max);
        let bytes = FRAME_BYTES_MAX + header.message.len() + body.len();
        wire::encode_lane_failure(self.outbox.reserve(bytes), id, &header, &body);
    }

    /// Gives QUIC the queued replies, and records whether the caller reads them.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RepliesNotRead>> {
        match self.outbox.poll_flush(cx) {
            Poll::Ready(flushed) => {
                self.stall_rate = None;
                self.reply_reservations.clear();
                Poll::Ready(flushed.map_err(|_| RepliesNotRead))
            }
            Poll::Pending => {
                let (taken, now) = (self.outbox.bytes_written(), self.now);
                let least = self.shared.config.transfer_rate_min;
                let stall = self
                    .stall_rate
                    .get_or_insert_with(|| (taken, MinRateTracker::new(least, now)));
                let before = std::mem::replace(&mut stall.0, taken);
                stall.1.note(taken - before, now);
                if self.outbox.len() < OUTBOX_BYTES_MAX {
                    self.reply_reservations.clear();
                }
                Poll::Pending
            }
        }
    }

    /// Charges the peer for a reply of so many bytes if it has left too many unread. Returns
    /// whether it may have the reply.
    fn charge_reply(&mut self, bytes: usize) -> bool {
        let charged = OUTBOX_BYTES_MAX + self.reply_reservations.len() * CHARGE_BYTES;
        if self.outbox.len() + bytes <= charged {
            return true;
        }
        let held = self.caller.account.peer.reserve_reply(CHARGE_BYTES);
        let is_held = held.is_some();
        self.reply_reservations.extend(held);
        is_held
    }

    /// Waits for the next deadline, or for the stall timeout of a caller that reads nothing.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<LaneServerEnd> {
        let stall_timeout = self.shared.config.stall_timeout;
        let stalled_at = self
            .stall_rate
            .map(|(_, rate)| rate.met_until() + stall_timeout);
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
        self.outbox.reset(why);
        // Fails only if the stream has ended before.
        let _ = self.recv.stop(VarInt::from_u32(why as u32));
        let is_stopping = self.shared.cancel_calls.is_cancelled();
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
        let cancel = self.shared.cancel_calls.clone();
        let drained = tokio::select! {
            biased;
            drained = poll_fn(|cx| self.poll_drain(cx)) => drained,
            () = cancel.cancelled() => {
                self.cancel_all();
                let stall = self.shared.config.stall_timeout;
                let flushed = timeout(stall, poll_fn(|cx| self.outbox.poll_flush(cx))).await;
                if matches!(flushed, Ok(Ok(()))) { Ok(()) } else { Err(RepliesNotRead) }
            }
        };
        if drained.is_err() {
            return self.abort(ResetCode::Stalled);
        }
        // Further requests are not read, and the end of the replies says so.
        let _ = self
            .recv
            .stop(VarInt::from_u32(ResetCode::Cancelled as u32));
        self.outbox.finish();
        // Older replies were acknowledged, or the connection is as good as lost.
        if self.last_active.elapsed() < self.shared.config.idle_timeout {
            let _ = timeout(self.shared.config.stall_timeout, self.outbox.acknowledged()).await;
        }
    }

    /// Serves until all calls in progress are answered. New calls are rejected, since the server
    /// drains.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RepliesNotRead>> {
        match self.poll_serve(cx) {
            Poll::Ready(_) => Poll::Ready(Err(RepliesNotRead)),
            Poll::Pending if self.pending.is_empty() && self.outbox.is_empty() => {
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

impl pending_calls::PendingCall {
    /// Whether the caller has the reply and only its receipt is missing.
    fn is_delivered(&self) -> bool {
        matches!(self.stage, CallStage::Delivered)
    }

    /// Cancels a call whose handler has not started. `false` if it has.
    fn cancel_before_start(&self) -> bool {
        let CallStage::Running {
            start_once: turn, ..
        } = &self.stage
        else {
            return false;
        };
        turn.as_ref().is_some_and(|turn| turn.try_cancel())
    }

    /// Counts the call as cancelled by a shutdown.
    fn count_cancelled_by_shutdown(&self, shared: &EndpointShared) {
        shared.cancelled_by_shutdown.add_one();
        shared.aborted_by_shutdown.lock().push(self.task.clone());
    }

    /// Aborts the task of the call, and ends its context.
    fn end(self) {
        self.task.abort();
        if let CallStage::Running { context, .. } = self.stage {
            context.end();
        }
    }
}

/// A frame that no caller may write.
#[derive(Debug)]
struct ProtocolViolation;

/// The caller does not read its replies.
#[derive(Debug)]
struct RepliesNotRead;

/// Chunks that are read from QUIC at a time; each is at most a packet.
const CHUNKS_MAX: usize = 32;

/// Bytes of unread replies above which no more requests are read.
const OUTBOX_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that a peer is charged for at a time beyond that.
const CHARGE_BYTES: usize = 256 * 1024;

/// Requests that are served before the first of their replies leave: of all lanes together a few
/// full packets. The caller works on these replies while the next requests are served; with 64
/// calls in flight that is worth 40 percent.
const ROUND_FRAMES_MAX: usize = 12;

/// How long requests are served before the first of their replies leave.
const ROUND_MAX: Duration = Duration::from_micros(500);

/// More than the header of any frame that a server writes.
const FRAME_BYTES_MAX: usize = 32;
