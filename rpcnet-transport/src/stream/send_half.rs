//! Send half of a QUIC stream, as frames.

use std::{
    pin::pin,
    slice,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use quinn::{VarInt, WriteError, Written};
use tokio::time::timeout;

use super::{
    ResetCode, StallTimer,
    write_turns::{LARGE_BYTES_MIN, STEP_BYTES, TURN_WAIT_MAX, WriteTurns},
};
use crate::{
    metadata::CallHeaders,
    wire::{self, ReplyHeader},
};

/// Send half of a stream: whole frames, and a reset instead of a silent end when it is dropped
/// early.
#[derive(Debug)]
pub(crate) struct SendHalf {
    stream: quinn::SendStream,
    is_open: bool,
    is_inside_frame: bool,
    /// Whole frames that are written before the next one.
    unsent: BytesMut,
    write_turns: Arc<WriteTurns>,
}

/// Reason for which a frame was not written.
#[derive(Debug, Clone)]
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
    stall_timer.record(written.bytes);
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
            unsent: BytesMut::new(),
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
        self.begin_frame()?;
        let mut parts = [head.freeze(), body];
        if parts[1].len() < LARGE_BYTES_MIN {
            self.write_parts(&mut parts, stall_timer).await?;
            self.is_inside_frame = false;
            return Ok(());
        }
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

    /// Whether a frame has begun and is not written completely.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.is_inside_frame
    }

    /// Sets whole frames that are written before the next one.
    pub(super) fn set_unsent(&mut self, unsent: BytesMut) {
        self.unsent = unsent;
    }

    /// Writes the [unsent](Self::set_unsent) frames as far as flow control permits now. If that is
    /// not all, no frame may follow.
    pub(crate) fn write_or_discard_unsent(&mut self) {
        let mut unsent = std::mem::take(&mut self.unsent).freeze();
        let mut cx = Context::from_waker(Waker::noop());
        while !unsent.is_empty() {
            if !matches!(
                self.poll_write_once(&mut unsent, &mut cx),
                Poll::Ready(Ok(_))
            ) {
                self.is_inside_frame = true;
                return;
            }
        }
    }

    /// Writes whole frames as far as flow control permits. Returns how many bytes were written, and
    /// removes them.
    pub(super) fn poll_write_once(
        &mut self,
        frames: &mut Bytes,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, WriteFailure>> {
        let write = pin!(self.stream.write_chunks(slice::from_mut(frames)));
        let written = ready!(write.poll(cx));
        Poll::Ready(
            written
                .map(|written| written.bytes)
                .map_err(WriteFailure::of),
        )
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
        headers: Option<Box<CallHeaders>>,
        body: Bytes,
        stall_timer: &StallTimer,
    ) -> Result<(), WriteFailure> {
        let mut head = std::mem::take(&mut self.unsent);
        if let Some(headers) = headers {
            wire::encode_headers(&mut head, headers.flags(), headers.encoded_len());
            headers.encode(&mut head);
        }
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
