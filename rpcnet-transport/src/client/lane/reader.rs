//! The task of a lane: reads answers, writes what callers have queued, watches deadlines.

use std::{
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use quinn::ReadError;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Answer, End, FRAME_BYTES_MAX, Lane, Phase};
use crate::{
    client::{answer, exchange::out_of_time},
    stream::Cut,
    wire::{self, LaneDecoder, LaneFrame, LoadReport, WireError},
};

/// What one lane's task owns.
pub(super) struct Reader {
    lane: Arc<Lane>,
    recv: quinn::RecvStream,
    decoder: LaneDecoder,
    chunks: [Bytes; CHUNKS_MAX],
    /// Of one round; here so that rounds share their memory.
    answers: Vec<(u32, Answer)>,
    wakers: Vec<Waker>,
    expired: Vec<u32>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The server has reset the stream.
    is_cut: bool,
    /// The end was told. The lane may be another reader's by now.
    has_ended: bool,
}

impl Reader {
    pub(super) fn new(lane: Arc<Lane>, recv: quinn::RecvStream) -> Self {
        let decoder = LaneDecoder::new().with_body_bytes_max(lane.body_bytes_max);
        Self {
            lane,
            recv,
            decoder,
            chunks: [const { Bytes::new() }; CHUNKS_MAX],
            answers: Vec::new(),
            wakers: Vec::new(),
            expired: Vec::new(),
            timer: None,
            is_cut: false,
            has_ended: false,
        }
    }

    /// Reads what is there, once.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let read = pin!(self.recv.read_chunks(&mut self.chunks)).poll(cx);
        let chunks = match ready!(read) {
            Ok(Some(chunks)) => chunks,
            Ok(None) => {
                return Poll::Ready(Err(match self.decoder.finish() {
                    Ok(()) => End::Finished,
                    Err(e) => End::Broken(e),
                }));
            }
            Err(ReadError::Reset(code)) => {
                self.is_cut = true;
                return Poll::Ready(Err(End::Cut(code.into_inner())));
            }
            Err(ReadError::ConnectionLost(e)) => {
                let index = self.recv.id().index();
                let is_untaken = answer::is_untaken(&e, index);
                let end = if is_untaken {
                    End::Untaken(e)
                } else {
                    End::Lost(e)
                };
                return Poll::Ready(Err(end));
            }
            Err(
                ReadError::ClosedStream
                | ReadError::IllegalOrderedRead
                | ReadError::ZeroRttRejected,
            ) => return Poll::Ready(Err(End::Cut(Cut::Cancelled as u64))),
        };
        let mut load = None;
        for chunk in &mut self.chunks[..chunks] {
            self.decoder.push(std::mem::take(chunk));
            loop {
                match self.decoder.next_frame() {
                    Ok(Some(frame)) => match read_answer(frame, self.lane.link.answer_bytes_max) {
                        Ok((id, report, answer)) => {
                            load = Some(report);
                            self.answers.push((id, answer));
                        }
                        Err(e) => return Poll::Ready(Err(End::Broken(e))),
                    },
                    Ok(None) => break,
                    Err(e) => return Poll::Ready(Err(End::Broken(e))),
                }
            }
        }
        if let Some(load) = load {
            self.lane.link.note_load(load);
        }
        Poll::Ready(Ok(()))
    }

    /// Hands answers to their callers, writes what they have queued, and looks at the deadlines. Returns the time of the next.
    fn settle(&mut self, cx: &mut Context<'_>, end: Option<End>) -> Option<Instant> {
        let state = &mut *self.lane.state.lock();
        if !self.answers.is_empty() {
            state.reopening.on_answer();
        }
        for (id, answer) in self.answers.drain(..) {
            self.wakers.extend(state.table.answer(id, answer));
        }
        state.is_reader_woken = false;
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            reader @ None => *reader = Some(cx.waker().clone()),
        }
        if state.table.earliest_deadline().is_some() {
            let Self {
                wakers, expired, ..
            } = self;
            let late = || Err(out_of_time(true));
            state.table.expire(Instant::now(), late, |id, waker| {
                expired.push(id);
                wakers.push(waker);
            });
        }
        if let Phase::Open { outbox, .. } = &mut state.phase {
            for id in self.expired.drain(..) {
                wire::encode_lane_cancel(outbox.room(FRAME_BYTES_MAX), id);
            }
            if let Poll::Ready(Err(_)) = outbox.poll_flush(cx) {
                // The server reads no more; how the lane ends is still to be read.
                state.stop_writing();
            }
        }
        self.expired.clear();
        if let Some(end) = end {
            let wakers = &mut self.wakers;
            let unanswered = || Err(end.unanswered());
            state
                .table
                .answer_all(unanswered, |waker| wakers.push(waker));
            state.phase = Phase::Ended(end);
            self.has_ended = true;
            if self.is_cut {
                state.reopening.on_cut(Instant::now());
                self.lane.link.cut_lanes.fetch_add(1, Relaxed);
            }
            self.lane.link.places.notify_waiters();
        }
        self.lane.note(state);
        // What left may have been too much to take more.
        self.lane.link.pass_on();
        if !self.wakers.is_empty() {
            self.lane.link.note_work(state.table.waiting() > 0);
        }
        state.table.earliest_deadline()
    }

    /// Whether the deadline has come. The task is woken when it does.
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

impl Future for Reader {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        for _ in 0..ROUNDS_MAX {
            let read = this.poll_read(cx);
            let is_idle = read.is_pending();
            let end = match read {
                Poll::Ready(Err(end)) => Some(end),
                Poll::Ready(Ok(())) | Poll::Pending => None,
            };
            let has_ended = end.is_some();
            let deadline = this.settle(cx, end);
            for waker in this.wakers.drain(..) {
                waker.wake();
            }
            if has_ended {
                return Poll::Ready(());
            }
            if !this.poll_deadline(cx, deadline) && is_idle {
                return Poll::Pending;
            }
        }
        // The others of this thread want their turn, the callers just woken above all.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Reader {
    /// A task that is dropped before the lane has ended, because its runtime ends, leaves no caller waiting.
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut wakers = Vec::new();
        {
            let state = &mut *self.lane.state.lock();
            if !matches!(state.phase, Phase::Ended(_)) {
                let end = End::RuntimeEnded;
                let unanswered = || Err(end.unanswered());
                state
                    .table
                    .answer_all(unanswered, |waker| wakers.push(waker));
                state.phase = Phase::Ended(end);
                self.lane.link.places.notify_waiters();
            }
            self.lane.note(state);
        }
        for waker in wakers {
            waker.wake();
        }
    }
}

fn read_answer(frame: LaneFrame, bytes_max: usize) -> Result<(u32, LoadReport, Answer), WireError> {
    match frame {
        LaneFrame::Reply { id, load, body } if body.len() > bytes_max => {
            Ok((id, load, Err(answer::too_large(body.len(), bytes_max))))
        }
        LaneFrame::Reply { id, load, body } => Ok((id, load, Ok(body))),
        LaneFrame::Failure { id, header, body } => {
            let load = header.load;
            Ok((id, load, answer::of_reply(*header, body)))
        }
        LaneFrame::Method { .. }
        | LaneFrame::Request(..)
        | LaneFrame::Cancel { .. }
        | LaneFrame::Received { .. } => Err(WireError::OutOfPlace),
    }
}

/// Chunks taken out of QUIC at a time; each is at most a packet.
const CHUNKS_MAX: usize = 32;

/// Reads before others get their turn.
const ROUNDS_MAX: usize = 4;
