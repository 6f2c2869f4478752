//! Write buffer of a stream of messages: small items share writes and packets.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{ResetCode, SendHalf, StallTimer, WriteFailure};
use crate::{runtime::EndpointRuntime, wire};

/// Send half of a stream of messages. Small items are collected in a buffer of at most
/// [`BUFFER_BYTES_MAX`], which is written as a whole.
///
/// An item that follows a pause is written at once. The next one in an empty buffer spawns a task
/// that writes the buffer. The runtime polls that task as soon as the task of the sender lets
/// others run, so an item never waits for the next one, and what is sent until then joins it. A
/// full buffer is written at once. While flow control permits no more, the task waits for it, and
/// a sender waits for the task.
pub(super) struct ItemWriter {
    shared: Arc<Mutex<WriteState>>,
    runtime: EndpointRuntime,
}

/// How an item was added to a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The buffer was empty.
    First,
    /// It joined others that are being flushed.
    Joined,
    /// Not at all: the buffer is full, and flow control permits no more.
    Full,
}

struct WriteState {
    /// `None` while a large item is written, and when the writer has ended.
    half: Option<SendHalf>,
    /// Whole frames that were not given to QUIC.
    queued: BytesMut,
    /// Memory to allocate for them next time.
    buffer_bytes: usize,
    /// Frames that are being given to QUIC.
    writing: Bytes,
    /// Bytes that QUIC has accepted.
    bytes_written: u64,
    /// When an item was last added to an empty buffer.
    begun: Option<Instant>,
    /// Reason for which the buffer is not written any more.
    failure: Option<WriteFailure>,
    /// A [`Flush`] exists that will be polled again.
    is_flushing: bool,
    /// Flow control permitted no more at the last write.
    is_blocked: bool,
    /// The stream ends after the buffer.
    is_finishing: bool,
    /// Task of the flush, while it waits for flow control.
    flush: Option<Waker>,
    /// Task of the sender, while it waits for the flush.
    sender: Option<Waker>,
    stall_timer: Option<StallTimer>,
}

impl ItemWriter {
    /// A writer to this half. The stall timer records the bytes that are written.
    pub(super) fn new(
        half: SendHalf,
        stall_timer: Option<StallTimer>,
        runtime: EndpointRuntime,
    ) -> Self {
        let state = WriteState {
            half: Some(half),
            queued: BytesMut::new(),
            buffer_bytes: BUFFER_BYTES_MIN,
            writing: Bytes::new(),
            bytes_written: 0,
            begun: None,
            failure: None,
            is_flushing: false,
            is_blocked: false,
            is_finishing: false,
            flush: None,
            sender: None,
            stall_timer,
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
            runtime,
        }
    }

    /// Adds a small item to the buffer.
    ///
    /// # Errors
    ///
    /// [`WriteFailure`] of this or an earlier item.
    #[inline]
    pub(super) fn push(&self, body: &[u8]) -> Result<Pushed, WriteFailure> {
        let mut state = self.shared.lock();
        state.check()?;
        if !state.append(body) {
            return Ok(Pushed::Full);
        }
        if state.is_flushing {
            return Ok(Pushed::Joined);
        }
        if state.begin_buffer(Instant::now()) {
            drop(state);
            self.spawn_flush();
            return Ok(Pushed::First);
        }
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(Pushed::First),
        }
    }

    /// Ready when flow control has permitted more than the bytes `seen`, or the stream has failed.
    pub(super) fn poll_progress(&self, seen: u64, cx: &mut Context<'_>) -> Poll<u64> {
        let mut state = self.shared.lock();
        if state.bytes_written != seen || state.failure.is_some() || !state.is_blocked {
            return Poll::Ready(state.bytes_written);
        }
        if !state
            .sender
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.sender = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Bytes that QUIC has accepted.
    pub(super) fn bytes_written(&self) -> u64 {
        self.shared.lock().bytes_written
    }

    /// Begins a large item, so that none follows it if it is abandoned.
    pub(super) fn begin_item(&self) -> Result<(), WriteFailure> {
        let mut state = self.shared.lock();
        state.check()?;
        state
            .half
            .as_mut()
            .map_or(Err(WriteFailure::Closed), SendHalf::begin_frame)
    }

    /// Undoes the [beginning](Self::begin_item) of an item of which nothing was written.
    pub(super) fn undo_begin_item(&self) {
        if let Some(half) = &mut self.shared.lock().half {
            half.undo_begin_frame();
        }
    }

    /// Takes the half to write a large item that has [begun](Self::begin_item) to it, after the
    /// bytes that are returned with it.
    pub(super) fn borrow_half(&self) -> Result<(BorrowedHalf<'_>, BytesMut), WriteFailure> {
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let unsent = state.take_unsent();
        let half = state.take_half().ok_or(WriteFailure::Closed)?;
        let borrowed = BorrowedHalf {
            writer: self,
            half: Some(half),
        };
        Ok((borrowed, unsent))
    }

    /// Ends the writer and gives back its half, with what was not written.
    pub(super) fn into_half(self) -> Option<SendHalf> {
        let mut state = self.shared.lock();
        let unsent = state.take_unsent();
        let mut half = state.take_half()?;
        half.set_unsent(unsent);
        Some(half)
    }

    /// Ends the stream after what is in the buffer.
    pub(super) fn finish(&self) {
        let mut state = self.shared.lock();
        state.is_finishing = true;
        if !state.is_blocked {
            state.write_now();
        }
        if state.is_buffer_empty() || state.failure.is_some() {
            if let Some(mut half) = state.take_half() {
                half.finish();
            }
        } else if !state.is_flushing {
            state.is_flushing = true;
            drop(state);
            self.spawn_flush();
        }
    }

    /// Resets the stream.
    pub(super) fn reset(&self, why: ResetCode) {
        let mut state = self.shared.lock();
        state.failure.get_or_insert(WriteFailure::Closed);
        state.take_unsent();
        if let Some(half) = &mut state.half {
            half.reset(why);
        }
    }

    #[cold]
    fn spawn_flush(&self) {
        self.runtime.spawn(Flush {
            shared: Arc::clone(&self.shared),
            is_done: false,
        });
    }
}

impl Drop for ItemWriter {
    /// Resets the stream, unless it was finished or its half was given back.
    fn drop(&mut self) {
        let half = {
            let mut state = self.shared.lock();
            match state.is_finishing {
                true => None,
                false => state.take_half(),
            }
        };
        drop(half);
    }
}

impl WriteState {
    /// Whether a further item may be written.
    fn check(&self) -> Result<(), WriteFailure> {
        match (&self.failure, &self.half) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(half)) if !half.is_inside_frame() => Ok(()),
            _ => Err(WriteFailure::Closed),
        }
    }

    fn len(&self) -> usize {
        self.queued.len() + self.writing.len()
    }

    fn is_buffer_empty(&self) -> bool {
        self.queued.is_empty() && self.writing.is_empty()
    }

    /// Adds an item, and writes the buffer if it is full then. `false` if there is no room.
    #[inline]
    fn append(&mut self, body: &[u8]) -> bool {
        let bytes = wire::ITEM_HEADER_BYTES + body.len();
        if self.len() + bytes > BUFFER_BYTES_MAX && !self.is_buffer_empty() {
            self.write_now();
            if !self.is_buffer_empty() {
                return false;
            }
        }
        if self.queued.capacity() - self.queued.len() < bytes {
            self.queued.reserve(bytes.max(self.buffer_bytes));
        }
        wire::encode_item_header(&mut self.queued, body.len());
        self.queued.extend_from_slice(body);
        true
    }

    /// Writes the first item of a buffer if it follows a pause. Returns whether a flush is to be
    /// spawned, which then counts as such.
    #[cold]
    fn begin_buffer(&mut self, now: Instant) -> bool {
        let before = self.begun.replace(now);
        if before.is_none_or(|before| now.saturating_duration_since(before) >= PAUSE_MIN) {
            self.write_now();
        }
        self.is_flushing = !self.is_buffer_empty() && self.failure.is_none();
        self.is_flushing
    }

    /// Writes the buffer as far as flow control permits. Once it does not, only the flush writes,
    /// since QUIC wakes one task when it permits more.
    #[cold]
    fn write_now(&mut self) {
        if self.is_blocked {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        if self.poll_write(&mut cx).is_pending()
            && let Some(flush) = self.flush.take()
        {
            flush.wake();
        }
    }

    /// Ready when the buffer is empty or the stream has failed.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.is_blocked = false;
        while self.failure.is_none() {
            if self.writing.is_empty() {
                if self.queued.is_empty() {
                    break;
                }
                let bytes = 2 * self.queued.len();
                self.buffer_bytes = bytes.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
                self.writing = self.queued.split().freeze();
            }
            let Some(half) = &mut self.half else {
                break;
            };
            match half.poll_write_once(&mut self.writing, cx) {
                Poll::Ready(Ok(bytes)) => {
                    self.bytes_written += bytes as u64;
                    if let Some(stall_timer) = &self.stall_timer {
                        stall_timer.record(bytes);
                    }
                }
                Poll::Ready(Err(failure)) => self.failure = Some(failure),
                Poll::Pending => {
                    self.is_blocked = true;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    /// Takes what was not written, in one piece.
    fn take_unsent(&mut self) -> BytesMut {
        let (writing, queued) = (std::mem::take(&mut self.writing), self.queued.split());
        if writing.is_empty() {
            return queued;
        }
        let mut unsent = BytesMut::with_capacity(writing.len() + queued.len());
        unsent.extend_from_slice(&writing);
        unsent.extend_from_slice(&queued);
        unsent
    }

    /// Takes the half, so that a flush has nothing to write.
    fn take_half(&mut self) -> Option<SendHalf> {
        if let Some(flush) = self.flush.take() {
            flush.wake();
        }
        self.half.take()
    }
}

/// Write of a buffer, as a task: it ends when the buffer is empty.
struct Flush {
    shared: Arc<Mutex<WriteState>>,
    is_done: bool,
}

impl Future for Flush {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        let before = state.bytes_written;
        let is_pending = state.poll_write(cx).is_pending();
        let has_progress = state.bytes_written != before || !is_pending;
        let sender = has_progress.then(|| state.sender.take()).flatten();
        let finished = (!is_pending && state.is_finishing)
            .then(|| state.half.take())
            .flatten();
        state.flush = is_pending.then(|| cx.waker().clone());
        state.is_flushing = is_pending;
        drop(state);
        if let Some(mut half) = finished {
            half.finish();
        }
        if let Some(sender) = sender {
            sender.wake();
        }
        if is_pending {
            return Poll::Pending;
        }
        self.is_done = true;
        Poll::Ready(())
    }
}

impl Drop for Flush {
    /// The runtime has ended, and the connection with it.
    fn drop(&mut self) {
        if !self.is_done {
            let sender = {
                let mut state = self.shared.lock();
                state.failure.get_or_insert(WriteFailure::Closed);
                state.is_flushing = false;
                state.sender.take()
            };
            if let Some(sender) = sender {
                sender.wake();
            }
        }
    }
}

/// Half of a writer that writes a large item. It is given back when it is dropped.
pub(super) struct BorrowedHalf<'a> {
    writer: &'a ItemWriter,
    half: Option<SendHalf>,
}

impl BorrowedHalf<'_> {
    pub(super) fn half(&mut self) -> &mut SendHalf {
        self.half.as_mut().expect("it is given back at the end")
    }
}

impl Drop for BorrowedHalf<'_> {
    fn drop(&mut self) {
        self.writer.shared.lock().half = self.half.take();
    }
}

impl fmt::Debug for ItemWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemWriter").finish_non_exhaustive()
    }
}

/// Memory for the first items of a stream.
const BUFFER_BYTES_MIN: usize = 512;

/// Most bytes that are collected before they are written.
pub(super) const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Time between two items after which the second is not expected to be followed by more at once:
/// longer than a busy task takes from one to the next, and shorter than a round trip.
const PAUSE_MIN: Duration = Duration::from_micros(20);
