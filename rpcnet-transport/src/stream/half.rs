//! The two halves of a QUIC stream, as frames.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use quinn::{ReadError, VarInt, WriteError, Written};
use tokio::time::timeout;

use super::{
    StallTimer,
    write_turns::{LARGE_BYTES_MIN, STEP_BYTES, TURN_WAIT_MAX, WriteTurns},
};
use crate::{
    accounts::{BufferReservation, StreamBudget},
    code::{Code, Processed},
    runtime::EndpointRuntime,
    wire::{self, Decoder, Frame, ReplyHeader, WireError},
};

/// Error code of a stream reset, which tells the other side the reason (RFC 9000 section 19.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResetCode {
    /// The stream is no longer wanted.
    Cancelled = 0,
    /// The bytes are not of this protocol, or a frame is not allowed here.
    Malformed = 1,
    /// The header did not arrive in time.
    HeaderTimeout = 2,
    /// The other side stopped reading or writing.
    Stalled = 3,
    /// The message could not be completed.
    Failed = 4,
    /// The server shuts down, and the reply was not complete.
    ShuttingDown = 5,
    /// The deadline of the call passed.
    DeadlineExceeded = 6,
}

/// Send half of a stream: whole frames, and a reset instead of a silent end when it is dropped
/// early.
#[derive(Debug)]
pub(crate) struct SendHalf {
    stream: quinn::SendStream,
    is_open: bool,
    is_inside_frame: bool,
    write_turns: Arc<WriteTurns>,
}

/// Reason for which a frame was not written.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// The other side stopped the stream.
    Stopped,
    /// The other side read too little for too long.
    Stalled,
    /// The connection is lost.
    Lost(quinn::ConnectionError),
    /// The half was finished or reset before.
    Closed,
}

/// Waits until one write makes progress.
async fn write_progress(
    stall_timer: Option<&StallTimer>,
    write: impl Future<Output = Result<Written, WriteError>>,
) -> Result<Written, WriteFailure> {
    let Some(stall_timer) = stall_timer else {
        return write.await.map_err(WriteFailure::of);
    };
    let mut write = pin!(write);
    let written = match write.as_mut().now_or_never() {
        Some(written) => written,
        // On the heap, since most writes do not wait.
        None => Box::pin(stall_timer.wait(write))
            .await
            .map_err(|_| WriteFailure::Stalled)?,
    };
    let written = written.map_err(WriteFailure::of)?;
    stall_timer.note(written.bytes);
    Ok(written)
}

impl WriteFailure {
    fn of(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(_) => Self::Stopped,
            WriteError::ConnectionLost(e) => Self::Lost(e),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Closed,
        }
    }
}

impl SendHalf {
    /// The send half of a stream that takes turns with others of its connection.
    pub(crate) fn new(stream: quinn::SendStream, turns: Arc<WriteTurns>) -> Self {
        Self {
            stream,
            is_open: true,
            is_inside_frame: false,
            write_turns: turns,
        }
    }

    /// Writes one frame, as flow control permits, for at most the stall timeout without progress if
    /// there is one. A large frame waits for its turn among those of its connection.
    pub(crate) async fn write(
        &mut self,
        head: BytesMut,
        body: Bytes,
        stall_timer: Option<&StallTimer>,
    ) -> Result<(), WriteFailure> {
        let mut parts = [head.freeze(), body];
        if parts[1].len() < LARGE_BYTES_MIN {
            if !self.write_now(&mut parts, stall_timer)? {
                self.write_rest(&mut parts, stall_timer).await?;
            }
            return Ok(());
        }
        self.begin_frame()?;
        // On the heap, so that the future of a small frame stays small.
        Box::pin(self.write_large(parts, stall_timer)).await
    }

    /// Begins a frame before anything of it is written, so that no frame follows one that is
    /// abandoned.
    pub(crate) fn begin_frame(&mut self) -> Result<(), WriteFailure> {
        if std::mem::replace(&mut self.is_inside_frame, true) {
            return Err(WriteFailure::Closed);
        }
        Ok(())
    }

    /// Undoes the [beginning](Self::begin_frame) of a frame of which nothing was written.
    pub(crate) fn undo_begin_frame(&mut self) {
        self.is_inside_frame = false;
    }

    /// Writes a large frame that has [begun](Self::begin_frame), when it is its turn.
    pub(crate) async fn write_large(
        &mut self,
        parts: [Bytes; 2],
        stall_timer: Option<&StallTimer>,
    ) -> Result<(), WriteFailure> {
        self.write_in_turns(parts, stall_timer).await?;
        self.is_inside_frame = false;
        Ok(())
    }

    /// Begins a small frame. `false` if flow control does not permit all of it now: then the rest
    /// is still to be [written](Self::write_rest).
    pub(crate) fn write_now(
        &mut self,
        parts: &mut [Bytes; 2],
        stall_timer: Option<&StallTimer>,
    ) -> Result<bool, WriteFailure> {
        self.begin_frame()?;
        let written = self.write_parts(parts, stall_timer).now_or_never();
        self.is_inside_frame = !matches!(written, Some(Ok(())));
        written.map_or(Ok(false), |written| written.map(|()| true))
    }

    /// Writes the rest that [`write_now`](Self::write_now) left.
    pub(crate) async fn write_rest(
        &mut self,
        parts: &mut [Bytes; 2],
        stall_timer: Option<&StallTimer>,
    ) -> Result<(), WriteFailure> {
        self.write_parts(parts, stall_timer).await?;
        self.is_inside_frame = false;
        Ok(())
    }

    /// Writes the parts, and removes from them what was written, also if the future is dropped
    /// before its end.
    async fn write_parts(
        &mut self,
        parts: &mut [Bytes; 2],
        stall_timer: Option<&StallTimer>,
    ) -> Result<(), WriteFailure> {
        let mut rest = &mut parts[..];
        while let Some(first) = rest.first() {
            if first.is_empty() {
                rest = &mut rest[1..];
                continue;
            }
            let written = write_progress(stall_timer, self.stream.write_chunks(rest)).await?;
            rest = &mut rest[written.chunks..];
        }
        Ok(())
    }

    /// Writes the parts a few bytes at a time.
    async fn write_in_turns(
        &mut self,
        [mut head, mut body]: [Bytes; 2],
        stall_timer: Option<&StallTimer>,
    ) -> Result<(), WriteFailure> {
        let (turns, stream) = (Arc::clone(&self.write_turns), self.index());
        let mut turn = None;
        loop {
            let own = match turn.take() {
                Some(own) => own,
                None => turns.acquire(stream).await,
            };
            own.yield_to_sender().await;
            turn = Some(own);
            let step = body.len().min(STEP_BYTES);
            let mut parts = [head.clone(), body.slice(..step)];
            let parts = &mut parts[usize::from(head.is_empty())..];
            let mut write = pin!(write_progress(stall_timer, self.stream.write_chunks(parts)));
            let written = match write.as_mut().now_or_never() {
                Some(written) => written?,
                // A peer that is near and reads gives credit by then.
                None => match timeout(TURN_WAIT_MAX, &mut write).await {
                    Ok(written) => written?,
                    Err(_) => {
                        turn = None;
                        write.await?
                    }
                },
            };
            let of_head = written.bytes.min(head.len());
            head.advance(of_head);
            body.advance(written.bytes - of_head);
            if body.is_empty() {
                return Ok(());
            }
            turn = turn.and_then(|own| own.after_writing(written.bytes));
        }
    }

    /// Writes the frame that ends a call, and finishes the stream.
    pub(crate) async fn reply(
        &mut self,
        header: &ReplyHeader,
        body: Bytes,
        stall_timer: &StallTimer,
    ) -> Result<(), WriteFailure> {
        let mut head = BytesMut::new();
        wire::encode_reply(&mut head, header, body.len());
        self.write(head, body, Some(stall_timer)).await?;
        self.finish();
        Ok(())
    }

    /// Finishes the stream. A half inside a frame is reset instead.
    pub(crate) fn finish(&mut self) {
        if self.is_inside_frame {
            return self.reset(ResetCode::Failed);
        }
        if std::mem::replace(&mut self.is_open, false) {
            // Fails only if the other side stopped the stream before and so does not wait for its
            // end.
            let _ = self.stream.finish();
        }
    }

    pub(crate) fn reset(&mut self, why: ResetCode) {
        self.is_open = false;
        // Fails only if the stream was reset before.
        let _ = self.stream.reset(VarInt::from_u32(why as u32));
    }

    /// Completes when the other side has all that was written (`false`), or when it stopped the
    /// stream or is gone (`true`).
    pub(crate) fn stopped(&self) -> impl Future<Output = bool> + Send + 'static {
        self.stream
            .stopped()
            .map(|ended| !matches!(ended, Ok(None)))
    }

    pub(crate) fn index(&self) -> u64 {
        self.stream.id().index()
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.is_open {
            self.reset(ResetCode::Cancelled);
        }
    }
}

/// Receive half of a stream: frames, as they arrive.
#[derive(Debug)]
pub(crate) struct RecvHalf {
    stream: quinn::RecvStream,
    decoder: Decoder,
    budget: StreamBudget,
    has_ended: bool,
}

/// Reason for which no frame was read.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// The bytes are not a frame.
    Wire(WireError),
    /// The other side reset the stream.
    Reset(u64),
    /// The connection is lost.
    Lost(quinn::ConnectionError),
    /// A frame with such a body had begun, and was not complete after so long.
    TooSlow { body_bytes: usize, took: Duration },
}

impl RecvHalf {
    pub(crate) fn new(stream: quinn::RecvStream, decoder: Decoder, room: StreamBudget) -> Self {
        Self {
            stream,
            decoder,
            budget: room,
            has_ended: false,
        }
    }

    pub(crate) fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// The next frame, if all of it was read.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let frame = self.decoder.next_frame();
        if let Ok(Some(_)) = &frame {
            self.budget.on_message_taken();
        }
        frame
    }

    /// Whether a frame has begun, or the preface of the stream is awaited.
    pub(crate) fn is_inside_frame(&self) -> bool {
        self.decoder.finish().is_err()
    }

    /// Bytes that were read from the streams of the connection.
    pub(crate) fn bytes_read_of_connection(&self) -> u64 {
        self.budget
            .account()
            .map_or(0, |account| account.received().bytes())
    }

    /// Bytes of the messages that the connection is reading, as far as they are counted.
    pub(crate) fn awaited_bytes_of_connection(&self) -> usize {
        self.budget.account().map_or(0, |account| account.bytes())
    }

    /// Whether a message waits for buffer bytes of this side, and not for its sender.
    pub(crate) fn is_waiting_to_reserve(&self) -> bool {
        self.budget.is_waiting()
    }

    /// Waits for reservations in a task, see [`StreamBudget::reserve_in_task`].
    pub(crate) fn reserve_in_task(&mut self, runtime: EndpointRuntime) {
        self.budget.reserve_in_task(runtime);
    }

    /// Stops waiting for the reservation of a message.
    pub(crate) fn cancel_reserve(&mut self) {
        self.budget.cancel_reserve();
    }

    /// Takes the reservation of the last message, for a call that outlives the stream.
    pub(crate) fn take_reservation(&mut self) -> Option<BufferReservation> {
        self.budget.take_reservation()
    }

    /// Releases the reservation of the last message.
    pub(crate) fn release_reservation(&mut self) {
        self.budget.release();
    }

    /// Ready when the bytes of the message that is being read are reserved.
    pub(crate) fn poll_reserve(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReadFailure>> {
        let Some(bytes) = self.decoder.awaited_body_bytes() else {
            return Poll::Ready(Ok(()));
        };
        if self.has_ended || self.budget.poll_reserve(bytes, cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        // Nothing is read meanwhile, but the end of the connection is noticed. The stream is not
        // polled for a reset: QUIC would keep a waker for it that nothing removes once all is read.
        let lost = ready!(self.budget.poll_closed(cx));
        self.has_ended = true;
        self.budget.release();
        Poll::Ready(Err(ReadFailure::Lost(lost)))
    }

    /// Reads once, when the bytes of the message that is being read are reserved. `false` says that
    /// the stream has ended, between two frames.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ReadFailure>> {
        if self.has_ended {
            return Poll::Ready(Ok(false));
        }
        ready!(self.poll_reserve(cx))?;
        let read = pin!(self.stream.read_chunk(READ_BYTES_MAX, true));
        match ready!(read.poll(cx)) {
            Ok(Some(chunk)) => {
                self.budget.note_read(chunk.bytes.len());
                self.decoder.push(chunk.bytes);
                Poll::Ready(Ok(true))
            }
            Ok(None) => {
                self.has_ended = true;
                Poll::Ready(
                    self.decoder
                        .finish()
                        .map(|()| false)
                        .map_err(ReadFailure::Wire),
                )
            }
            Err(e) => {
                self.has_ended = true;
                Poll::Ready(Err(match e {
                    ReadError::Reset(code) => ReadFailure::Reset(code.into_inner()),
                    ReadError::ConnectionLost(e) => ReadFailure::Lost(e),
                    ReadError::ClosedStream
                    | ReadError::IllegalOrderedRead
                    | ReadError::ZeroRttRejected => ReadFailure::Reset(ResetCode::Cancelled as u64),
                }))
            }
        }
    }

    /// The next frame, or `None` at the end of the stream.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, ReadFailure>> {
        self.budget.begin_next();
        loop {
            match self.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Ok(Some(frame))),
                Ok(None) => {}
                Err(e) => return Poll::Ready(Err(ReadFailure::Wire(e))),
            }
            if !ready!(self.poll_fill(cx))? {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// Records the end of the stream if it is already known, so that QUIC need not be told to stop
    /// it.
    pub(crate) fn note_end(&mut self) {
        let _ = std::future::poll_fn(|cx| self.poll_fill(cx)).now_or_never();
    }

    pub(crate) fn stop(&mut self, why: ResetCode) {
        self.has_ended = true;
        self.budget.release();
        // Fails only if the stream has ended before.
        let _ = self.stream.stop(VarInt::from_u32(why as u32));
    }
}

/// Status and message for a call that was reset with this code.
pub(crate) fn reset_to_error(cut: u64) -> (Code, Processed, &'static str) {
    match cut {
        c if c == ResetCode::Malformed as u64 => (
            Code::Internal,
            Processed::Maybe,
            "the server reset the stream as malformed",
        ),
        c if c == ResetCode::HeaderTimeout as u64 => (
            Code::Unavailable,
            Processed::No,
            "header timeout: the request did not reach the server in time",
        ),
        c if c == ResetCode::Stalled as u64 => (
            Code::Unavailable,
            Processed::Maybe,
            "stall timeout: the server reset a call whose request or response was too slow",
        ),
        c if c == ResetCode::Failed as u64 => (
            Code::Internal,
            Processed::Maybe,
            "the server could not complete its response",
        ),
        c if c == ResetCode::ShuttingDown as u64 => (
            Code::Unavailable,
            Processed::Maybe,
            "the server shut down before its response was complete",
        ),
        c if c == ResetCode::DeadlineExceeded as u64 => (
            Code::DeadlineExceeded,
            Processed::Maybe,
            "deadline exceeded before the handler returned",
        ),
        _ => (Code::Cancelled, Processed::Maybe, "cancelled by the server"),
    }
}

/// Most bytes that are read from QUIC at a time. QUIC returns what it has, so this only bounds
/// unfairness.
const READ_BYTES_MAX: usize = 256 * 1024;
