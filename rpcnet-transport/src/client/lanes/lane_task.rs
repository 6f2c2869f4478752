//! Task of a lane: reads replies, writes queued requests, enforces deadlines.

use std::{
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::yield_now,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::lane::{CallResult, FRAME_BYTES_MAX, Lane, LaneEnd, LanePhase, LaneState};
use crate::{
    Metadata,
    client::{call_error::deadline_exceeded, reply},
    lane_reader::{LaneReadEnd, LaneReader},
    metadata::CallHeaders,
    stream::ResetCode,
    wire::{self, HeaderFlags, LaneFrame, WireError},
};

/// Task of one lane.
pub(super) struct LaneTask {
    lane: Arc<Lane>,
    reader: LaneReader,
    /// Replies of one round; kept here so that rounds share the memory.
    read: ReadReplies,
    /// Headers of the reply that comes next.
    next_headers: Option<Box<(u32, CallHeaders)>>,
    wakers: Vec<Waker>,
    expired: Vec<u32>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Times in a row that requests were held back.
    holds: u8,
    /// Requests are held back, until other tasks have run.
    is_holding: bool,
    /// Ends a hold.
    hold_timer: Option<Pin<Box<Sleep>>>,
    /// The server has reset the stream.
    was_reset: bool,
    /// The end was reported. Another task may own the lane by now.
    has_ended: bool,
}

/// Replies that were read and not yet delivered.
#[derive(Default)]
struct ReadReplies {
    replies: Vec<(u32, CallResult)>,
    metadata: Vec<(u32, Metadata)>,
}

impl ReadReplies {
    /// Completes the calls that wait for these replies.
    fn complete_calls(&mut self, state: &mut LaneState, wakers: &mut Vec<Waker>) {
        if !self.replies.is_empty() {
            state.reopen_backoff.on_reply();
        }
        for (id, metadata) in self.metadata.drain(..) {
            // Only for a call that can still take it.
            if state.table.is_waiting(id) {
                state.reply_metadata.insert(id, metadata);
            }
        }
        for (id, reply) in self.replies.drain(..) {
            wakers.extend(state.table.complete(id, reply));
        }
        state.fresh_replies.on_round(wakers.len());
    }
}

impl LaneTask {
    fn new(lane: Arc<Lane>, recv: quinn::RecvStream) -> Self {
        let reader = LaneReader::new(recv, Bytes::new(), lane.body_bytes_max);
        Self {
            lane,
            reader,
            read: ReadReplies::default(),
            next_headers: None,
            wakers: Vec::new(),
            expired: Vec::new(),
            timer: None,
            holds: 0,
            is_holding: false,
            hold_timer: None,
            was_reset: false,
            has_ended: false,
        }
    }

    /// Starts the task of a lane that was opened. Must not be called under the lock: a runtime that
    /// has ended drops the task at once, which takes the lock.
    pub(super) fn spawn(lane: &Arc<Lane>, recv: quinn::RecvStream) {
        let task = Self::new(Arc::clone(lane), recv);
        let task = lane.shared.runtime.spawn(task);
        lane.set_task(task.abort_handle());
    }

    /// Reads the available replies, once. Returns when, if there were any.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Instant>, LaneEnd>> {
        if let Err(end) = ready!(self.reader.poll_read(cx)) {
            return Poll::Ready(Err(self.lane_end(end)));
        }
        let mut load = None;
        while let Some(frame) = self.reader.next_frame().map_err(LaneEnd::Malformed)? {
            let bytes_max = self.lane.shared.reply_bytes_max;
            let (id, report, reply) = match frame {
                LaneFrame::Reply { id, load, body } if body.len() > bytes_max => {
                    (id, load, Err(reply::too_large(body.len(), bytes_max)))
                }
                LaneFrame::Reply { id, load, body } => (id, load, Ok(body)),
                LaneFrame::Failure { id, header, body } => {
                    (id, header.load, reply::into_result(*header, body))
                }
                LaneFrame::Headers { id, flags, bytes } => {
                    self.keep_headers(id, flags, &bytes)?;
                    continue;
                }
                LaneFrame::Method { .. }
                | LaneFrame::Request(..)
                | LaneFrame::Cancel { .. }
                | LaneFrame::Received { .. } => {
                    return Poll::Ready(Err(LaneEnd::Malformed(WireError::UnexpectedFrame)));
                }
            };
            if self.next_headers.is_some() {
                self.use_headers(id)?;
            }
            load = Some(report);
            self.read.replies.push((id, reply));
        }
        let read_at = load.map(|load| {
            let now = Instant::now();
            self.lane.shared.record_reply(load, now);
            now
        });
        Poll::Ready(Ok(read_at))
    }

    /// Keeps the headers of a reply until it comes.
    #[cold]
    fn keep_headers(&mut self, id: u32, flags: HeaderFlags, bytes: &[u8]) -> Result<(), LaneEnd> {
        if self.next_headers.is_some() {
            return Err(LaneEnd::Malformed(WireError::UnexpectedFrame));
        }
        // In memory of its own, so that no packet is kept with it.
        let headers = CallHeaders::decode(flags, Bytes::copy_from_slice(bytes));
        let headers = headers.map_err(|error| LaneEnd::Malformed(error.into()))?;
        self.next_headers = Some(Box::new((id, headers)));
        Ok(())
    }

    /// Gives the headers that were kept to the reply of this call.
    #[cold]
    fn use_headers(&mut self, id: u32) -> Result<(), LaneEnd> {
        if let Some((of, headers)) = self.next_headers.take().map(|next| *next) {
            if of != id {
                return Err(LaneEnd::Malformed(WireError::UnexpectedFrame));
            }
            self.read.metadata.push((id, headers.metadata));
        }
        Ok(())
    }

    fn lane_end(&mut self, end: LaneReadEnd) -> LaneEnd {
        match end {
            LaneReadEnd::Finished => LaneEnd::Finished,
            LaneReadEnd::Reset(code) => {
                self.was_reset = true;
                LaneEnd::Reset(code)
            }
            LaneReadEnd::Stopped => LaneEnd::Reset(ResetCode::Cancelled as u64),
            LaneReadEnd::ConnectionLost(error)
                if reply::is_stream_not_accepted(&error, self.reader.stream_index()) =>
            {
                LaneEnd::NotAccepted(error)
            }
            LaneReadEnd::ConnectionLost(error) => LaneEnd::ConnectionLost(error),
            LaneReadEnd::Malformed(error) => LaneEnd::Malformed(error),
        }
    }

    /// Delivers replies to their callers, writes queued frames, and expires calls. Returns the next
    /// deadline. The clock is read if replies were not `read_at` some instant.
    fn deliver(
        &mut self,
        cx: &mut Context<'_>,
        read_at: Option<Instant>,
        end: Option<LaneEnd>,
    ) -> Option<Instant> {
        let state = &mut *self.lane.state.lock();
        self.read.complete_calls(state, &mut self.wakers);
        self.is_holding = end.is_none() && self.may_hold() && state.expects_requests();
        self.holds = if self.is_holding { self.holds + 1 } else { 0 };
        // While requests are held back, no further one needs to wake the task.
        state.is_task_woken = self.is_holding;
        match &mut state.task {
            Some(waker) => waker.clone_from(cx.waker()),
            waker @ None => *waker = Some(cx.waker().clone()),
        }
        if state.table.earliest_deadline().is_some() {
            let Self {
                wakers, expired, ..
            } = self;
            let now = read_at.unwrap_or_else(Instant::now);
            let late = || Err(deadline_exceeded(true));
            state.table.expire(now, late, |id, waker| {
                expired.push(id);
                wakers.push(waker);
            });
        }
        if let LanePhase::Open { outbox, .. } = &mut state.phase {
            for id in self.expired.drain(..) {
                wire::encode_lane_cancel(outbox.reserve(FRAME_BYTES_MAX), id);
            }
            if !self.is_holding
                && let Poll::Ready(Err(_)) = outbox.poll_flush(cx)
            {
                // The server stopped reading; the reason for the end of the lane has yet to be
                // read. Calls that wait for capacity take another lane.
                state.stop_writing();
                self.lane.shared.capacity_available.notify_waiters();
            }
        }
        self.expired.clear();
        if let Some(end) = end {
            let wakers = &mut self.wakers;
            let unanswered = || Err(end.error_after_sending());
            state
                .table
                .complete_all(unanswered, |waker| wakers.push(waker));
            state.phase = LanePhase::Ended(end);
            self.has_ended = true;
            if self.was_reset {
                state.reopen_backoff.on_reset(Instant::now());
                self.lane.shared.reset_lanes.fetch_add(1, Relaxed);
            }
            self.lane.shared.capacity_available.notify_waiters();
        }
        self.lane.publish_counts(state);
        // The flush may have freed capacity for further calls.
        self.lane.shared.wake_next_waiting();
        if !self.wakers.is_empty() {
            self.lane.shared.record_replies();
        }
        state.table.earliest_deadline()
    }

    fn may_hold(&self) -> bool {
        let is_over = |timer: &Pin<Box<Sleep>>| timer.is_elapsed();
        self.holds == 0
            || (self.holds < HOLDS_MAX && !self.hold_timer.as_ref().is_some_and(is_over))
    }

    /// Has the task polled again once the thread has nothing else to do: the callers have run then.
    /// One of them may block the thread, so a timer does it in any case, on another thread.
    fn yield_to_callers(&mut self, cx: &mut Context<'_>) {
        let _ = pin!(yield_now()).poll(cx);
        let timer = (self.hold_timer).get_or_insert_with(|| Box::pin(sleep(HOLD_MAX)));
        // Set again only when it is over, since that is not free.
        if timer.is_elapsed() {
            timer.as_mut().reset(Instant::now() + HOLD_MAX);
        }
        let _ = timer.as_mut().poll(cx);
    }

    /// Whether the deadline has passed. Registers the task to be woken at the deadline.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else {
            return false;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

impl Future for LaneTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        for _ in 0..READS_PER_POLL_MAX {
            let read = this.poll_read(cx);
            let is_idle = read.is_pending();
            let (read_at, end) = match read {
                Poll::Ready(Err(end)) => (None, Some(end)),
                Poll::Ready(Ok(read_at)) => (read_at, None),
                Poll::Pending => (None, None),
            };
            let has_ended = end.is_some();
            let deadline = this.deliver(cx, read_at, end);
            for waker in this.wakers.drain(..) {
                waker.wake();
            }
            if has_ended {
                return Poll::Ready(());
            }
            if !this.poll_deadline(cx, deadline) && is_idle {
                if this.is_holding {
                    this.yield_to_callers(cx);
                }
                return Poll::Pending;
            }
        }
        // Other tasks of the thread are scheduled first, above all the callers just woken.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for LaneTask {
    /// If the runtime drops the task before the lane has ended, all waiting calls fail.
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut wakers = Vec::new();
        {
            let state = &mut *self.lane.state.lock();
            if !matches!(state.phase, LanePhase::Ended(_)) {
                let end = LaneEnd::RuntimeEnded;
                let unanswered = || Err(end.error_after_sending());
                state
                    .table
                    .complete_all(unanswered, |waker| wakers.push(waker));
                state.phase = LanePhase::Ended(end);
                self.lane.shared.capacity_available.notify_waiters();
            }
            self.lane.publish_counts(state);
        }
        for waker in wakers {
            waker.wake();
        }
    }
}

/// Times in a row that requests are held back, so that some leave while many callers still run.
const HOLDS_MAX: u8 = 3;

/// Longest hold, when the thread is blocked that is to resume the task.
const HOLD_MAX: Duration = Duration::from_millis(1);

/// Reads before other tasks are scheduled.
const READS_PER_POLL_MAX: usize = 4;
