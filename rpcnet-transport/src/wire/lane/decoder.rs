//! Decoder of the frames of a lane.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    frame::{LANE_BODY_BYTES_MAX, LaneFrame},
    parse::{frame_bytes, header_bytes_of, parse_frame},
};
use crate::wire::WireError;

/// Decoder of the frames of a lane. A frame that arrived in one read is returned without a copy.
///
/// Push what was read with [`push`](Self::push), then take frames with
/// [`next_frame`](Self::next_frame) until it returns `None`, then read again. After an error the
/// lane cannot be read any further.
#[derive(Debug)]
pub struct LaneDecoder {
    body_bytes_max: usize,
    unread: Bytes,
    /// Start of a frame that arrived in more than one read.
    partial: BytesMut,
}

impl LaneDecoder {
    /// Decoder that has read nothing, for bodies of any length that a lane can carry.
    #[must_use]
    pub fn new() -> Self {
        Self {
            body_bytes_max: LANE_BODY_BYTES_MAX,
            unread: Bytes::new(),
            partial: BytesMut::new(),
        }
    }

    /// Limits bodies to this many bytes; a header that announces more is an error.
    #[must_use]
    pub fn with_body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// Adds the next bytes of the lane. Call it when [`next_frame`](Self::next_frame) returned
    /// `None`.
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(
            self.unread.is_empty(),
            "frames are taken before more is read"
        );
        self.unread = bytes;
    }

    /// Next frame, or `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the bytes are not a frame.
    pub fn next_frame(&mut self) -> Result<Option<LaneFrame>, WireError> {
        if !self.partial.is_empty() {
            return self.complete_partial();
        }
        match frame_bytes(&self.unread, self.body_bytes_max)? {
            Some(len) if len <= self.unread.len() => parse_frame(&mut self.unread).map(Some),
            _ => {
                self.buffer_partial();
                Ok(None)
            }
        }
    }

    /// Checks whether the lane ended between two frames.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] if it ended inside a frame.
    pub fn finish(&self) -> Result<(), WireError> {
        if self.partial.is_empty() && self.unread.is_empty() {
            Ok(())
        } else {
            Err(WireError::Truncated)
        }
    }

    /// Takes from the new bytes only what the buffered frame lacks.
    fn complete_partial(&mut self) -> Result<Option<LaneFrame>, WireError> {
        loop {
            let wanted = frame_bytes(&self.partial, self.body_bytes_max)?
                .unwrap_or_else(|| header_bytes_of(&self.partial));
            if wanted == self.partial.len() {
                let mut frame = self.partial.split().freeze();
                return parse_frame(&mut frame).map(Some);
            }
            if self.unread.is_empty() {
                return Ok(None);
            }
            let missing = (wanted - self.partial.len()).min(self.unread.len());
            self.partial.extend_from_slice(&self.unread[..missing]);
            self.unread.advance(missing);
        }
    }

    fn buffer_partial(&mut self) {
        self.partial.extend_from_slice(&self.unread);
        self.unread = Bytes::new();
    }
}

impl Default for LaneDecoder {
    fn default() -> Self {
        Self::new()
    }
}
