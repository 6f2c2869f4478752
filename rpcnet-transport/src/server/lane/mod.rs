//! Server side of a lane: a stream that many small calls share.

mod admit;
mod begin_call;
mod deadlines;
mod dispatch;
mod lane_methods;
mod late_admission;
mod layered_start;
mod pending_calls;
mod replies;
mod reply_writer;
mod round_stats;
mod shutdown;
mod spawned_call;
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
use tokio::time::{Instant, Sleep};

use self::{
    begin_call::NextHeaders,
    lane_methods::LaneMethods,
    pending_calls::{CallStage, PendingCalls},
    reply_writer::{RepliesNotRead, ReplyWriter},
    round_stats::{PollTimer, RoundStats},
    task_results::{TaskResult, TaskResults},
};
use super::{caller::Caller, handler_result::maybe_processed};
use crate::{
    Code,
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
        let polls_token =
            !std::mem::replace(&mut is_registered, true) || shared.lifecycle.is_closed();
        if polls_token && closing.as_mut().poll(cx).is_ready() {
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
    next_headers: Option<Box<NextHeaders>>,
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
            next_headers: None,
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
            self.shared
                .busy_poll
                .record_requests(Arc::as_ptr(&self.task_results).addr(), frames);
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
        if self.next_headers.is_some() && !matches!(frame, LaneFrame::Request(..)) {
            return Err(ProtocolViolation);
        }
        match frame {
            LaneFrame::Request(request, body) => self.serve_request(request, body, arrived),
            LaneFrame::Headers { id, flags, bytes } => self.take_headers(id, flags, &bytes),
            LaneFrame::Method {
                method,
                name,
                schema,
            } => self
                .methods
                .define(method, &name, schema, &self.shared)
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
                let headers = call.take_reply_headers();
                call.end();
                match result {
                    TaskResult::Returned(outcome) => self.finish_call(id, outcome, headers),
                    TaskResult::Panicked => self.finish_panicked(id, headers),
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
