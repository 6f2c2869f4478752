//! Receive half of a QUIC stream, as frames.

use std::{
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use quinn::{ReadError, VarInt};

use super::ResetCode;
use crate::{
    accounts::StreamBudget,
    metadata::{CallHeaders, deliver_reply_metadata},
    wire::{Decoder, Frame, HeaderFlags, WireError},
};

/// Receive half of a stream: frames, as they arrive.
#[derive(Debug)]
pub(crate) struct RecvHalf {
    stream: quinn::RecvStream,
    decoder: Decoder,
    budget: StreamBudget,
    headers: Option<CallHeaders>,
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
    pub(crate) fn new(stream: quinn::RecvStream, decoder: Decoder, budget: StreamBudget) -> Self {
        Self {
            stream,
            decoder,
            budget,
            headers: None,
            has_ended: false,
        }
    }

    pub(crate) fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// The next frame, if all of it was read. Headers are kept for
    /// [`take_headers`](Self::take_headers).
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            let frame = self.decoder.next_frame();
            if let Ok(Some(_)) = &frame {
                self.budget.on_message_taken();
            }
            match frame {
                Ok(Some(Frame::Headers(flags, bytes))) => self.keep_headers(flags, &bytes)?,
                frame => return frame,
            }
        }
    }

    /// The next item, if all of it was read in one piece with what came before it.
    #[inline]
    pub(crate) fn next_whole_item(&mut self) -> Option<Bytes> {
        let item = self.decoder.next_whole_item()?;
        self.budget.begin_next();
        self.budget.on_message_taken();
        Some(item)
    }

    /// Keeps the headers of what follows. There is one frame of them at most.
    fn keep_headers(&mut self, flags: HeaderFlags, bytes: &[u8]) -> Result<(), WireError> {
        if self.headers.is_some() {
            return Err(WireError::UnexpectedFrame);
        }
        // In memory of its own, so that no packet is kept with it.
        let headers = CallHeaders::decode(flags, Bytes::copy_from_slice(bytes));
        self.headers = Some(headers.map_err(WireError::Headers)?);
        Ok(())
    }

    /// Headers that were read.
    pub(crate) fn take_headers(&mut self) -> Option<CallHeaders> {
        self.headers.take()
    }

    /// Hands the metadata of a reply, if it has any, to the future that waits for it. To be called
    /// once, when a call ends with a reply or without.
    pub(crate) fn deliver_metadata(&mut self) {
        let headers = self.take_headers();
        deliver_reply_metadata(headers.map(|headers| headers.metadata));
    }

    /// Whether the stream came or went before the end of the handshake (0-RTT).
    pub(crate) fn is_early(&self) -> bool {
        self.stream.is_0rtt()
    }

    /// Whether a frame has begun, or the preface of the stream is awaited.
    pub(crate) fn is_inside_frame(&self) -> bool {
        self.decoder.finish().is_err()
    }

    /// The buffer bytes of the stream, and its waits for them.
    pub(crate) fn budget(&mut self) -> &mut StreamBudget {
        &mut self.budget
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
                self.budget.record_read(chunk.bytes.len());
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
    pub(crate) fn record_end(&mut self) {
        let _ = std::future::poll_fn(|cx| self.poll_fill(cx)).now_or_never();
    }

    pub(crate) fn stop(&mut self, why: ResetCode) {
        self.has_ended = true;
        self.budget.release();
        // Fails only if the stream has ended before.
        let _ = self.stream.stop(VarInt::from_u32(why as u32));
    }
}

/// Most bytes that are read from QUIC at a time. QUIC returns what it has, so this only bounds
/// unfairness.
const READ_BYTES_MAX: usize = 256 * 1024;
