//! Reader of the frames that the caller of a lane writes.

use std::{
    ops::Range,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use quinn::{ReadError, VarInt};
use tokio::time::Instant;

use crate::{
    stream::ResetCode,
    wire::{LaneDecoder, LaneFrame},
};

/// Receive half of a lane, as frames.
pub(super) struct FrameReader {
    recv: quinn::RecvStream,
    decoder: LaneDecoder,
    /// Chunks that were read and not yet given to the decoder.
    chunks: [Bytes; CHUNKS_MAX],
    unread: Range<usize>,
    /// When the chunks were read.
    read_at: Instant,
}

/// Reason for which no further frame is read.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The caller has ended the lane, or is gone.
    Closed,
    /// The caller broke the protocol.
    Malformed,
}

impl FrameReader {
    /// A reader of frames whose first bytes were read at `now`.
    pub(super) fn new(
        recv: quinn::RecvStream,
        first_bytes: Bytes,
        body_bytes_max: usize,
        now: Instant,
    ) -> Self {
        let mut chunks = [const { Bytes::new() }; CHUNKS_MAX];
        chunks[0] = first_bytes;
        Self {
            recv,
            decoder: LaneDecoder::new().with_body_bytes_max(body_bytes_max),
            chunks,
            unread: 0..1,
            read_at: now,
        }
    }

    /// When the bytes of the last frame were read.
    pub(super) fn read_at(&self) -> Instant {
        self.read_at
    }

    /// Polls the next frame; reads when none is left.
    pub(super) fn poll_frame(
        &mut self,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<LaneFrame, ReadEnd>> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Ok(frame)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err(ReadEnd::Malformed)),
            }
            if let Some(chunk) = self.unread.next() {
                self.decoder.push(std::mem::take(&mut self.chunks[chunk]));
                continue;
            }
            let read = pin!(self.recv.read_chunks(&mut self.chunks)).poll(cx);
            match ready!(read) {
                Ok(Some(chunks)) => {
                    self.unread = 0..chunks;
                    self.read_at = now;
                }
                Ok(None) if self.decoder.finish().is_err() => {
                    return Poll::Ready(Err(ReadEnd::Malformed));
                }
                Ok(None)
                | Err(
                    ReadError::Reset(_)
                    | ReadError::ConnectionLost(_)
                    | ReadError::ClosedStream
                    | ReadError::IllegalOrderedRead
                    | ReadError::ZeroRttRejected,
                ) => return Poll::Ready(Err(ReadEnd::Closed)),
            }
        }
    }

    /// Tells the caller to stop sending.
    pub(super) fn stop(&mut self, why: ResetCode) {
        // Fails only if the stream has ended before.
        let _ = self.recv.stop(VarInt::from_u32(why as u32));
    }
}

/// Chunks that are read from QUIC at a time; each is at most a packet.
const CHUNKS_MAX: usize = 32;
