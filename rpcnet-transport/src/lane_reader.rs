//! Receive half of a lane, as frames.

use std::{
    ops::Range,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, VarInt};

use crate::{
    stream::ResetCode,
    wire::{LaneDecoder, LaneFrame, WireError},
};

/// Receive half of a lane. Reads all that QUIC has, and returns it frame by frame.
pub(crate) struct LaneReader {
    recv: quinn::RecvStream,
    decoder: LaneDecoder,
    /// Chunks that were read and not yet given to the decoder.
    chunks: [Bytes; CHUNKS_MAX],
    unread: Range<usize>,
}

/// Reason for which no further frame is read.
#[derive(Debug)]
pub(crate) enum LaneReadEnd {
    /// The peer ended the stream between two frames.
    Finished,
    /// The peer reset the stream, with this code.
    Reset(u64),
    /// This side stopped the stream before.
    Stopped,
    /// The connection was lost.
    ConnectionLost(ConnectionError),
    /// The peer violated the protocol of lanes.
    Malformed(WireError),
}

impl LaneReader {
    /// Reader of a lane of which these bytes were read already.
    pub(crate) fn new(recv: quinn::RecvStream, first_bytes: Bytes, body_bytes_max: usize) -> Self {
        let mut chunks = [const { Bytes::new() }; CHUNKS_MAX];
        chunks[0] = first_bytes;
        Self {
            recv,
            decoder: LaneDecoder::new().with_body_bytes_max(body_bytes_max),
            chunks,
            unread: 0..1,
        }
    }

    /// The next frame, if all of it was read.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the bytes are not a frame.
    #[inline]
    pub(crate) fn next_frame(&mut self) -> Result<Option<LaneFrame>, WireError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            let Some(chunk) = self.unread.next() else {
                return Ok(None);
            };
            self.decoder.push(std::mem::take(&mut self.chunks[chunk]));
        }
    }

    /// Reads once. To be called when there is no [next frame](Self::next_frame).
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneReadEnd>> {
        let read = pin!(self.recv.read_chunks(&mut self.chunks)).poll(cx);
        Poll::Ready(Err(match ready!(read) {
            Ok(Some(chunks)) => {
                self.unread = 0..chunks;
                return Poll::Ready(Ok(()));
            }
            Ok(None) => match self.decoder.finish() {
                Ok(()) => LaneReadEnd::Finished,
                Err(error) => LaneReadEnd::Malformed(error),
            },
            Err(ReadError::Reset(code)) => LaneReadEnd::Reset(code.into_inner()),
            Err(ReadError::ConnectionLost(error)) => LaneReadEnd::ConnectionLost(error),
            Err(
                ReadError::ClosedStream
                | ReadError::IllegalOrderedRead
                | ReadError::ZeroRttRejected,
            ) => LaneReadEnd::Stopped,
        }))
    }

    /// QUIC's index of the stream.
    pub(crate) fn stream_index(&self) -> u64 {
        self.recv.id().index()
    }

    /// Tells the peer to stop sending.
    pub(crate) fn stop(&mut self, why: ResetCode) {
        // Fails only if the stream has ended before.
        let _ = self.recv.stop(VarInt::from_u32(why as u32));
    }
}

/// Chunks that are read from QUIC at a time; each is at most a packet.
const CHUNKS_MAX: usize = 32;
