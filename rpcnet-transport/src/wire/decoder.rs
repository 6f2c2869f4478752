//! Decoder of the frames of one stream.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    BODY_RESERVE_BYTES, PREFACE_BYTES, WireError,
    frame::{
        Frame, ITEM_HEADER_BYTES, KIND_ITEM, Preface, PrefaceError, RequestHeader, StreamKind,
    },
    header::{BodylessFrame, FixedHeader, u32_at},
};

/// Decoder of the frames of one stream.
///
/// Push what was read with [`push`](Self::push), then take frames with
/// [`next_frame`](Self::next_frame) until it returns `None`, then read again: so at most one
/// message and one read are held. A frame that arrived in one read is returned without a copy.
/// After an error every further call returns the same error.
#[derive(Debug)]
pub struct Decoder {
    expected: StreamKind,
    limit: usize,
    state: State,
    /// Bytes that were read and not decoded; starts where `state` says.
    unread: Bytes,
    /// Start of the current item, if it arrived in more than one read.
    partial: BytesMut,
}

#[derive(Debug)]
enum State {
    Preface,
    Kind,
    Header {
        header_bytes: usize,
    },
    Text(FixedHeader),
    Body {
        head: BodylessFrame,
        body_bytes: usize,
    },
    Failed(WireError),
}

impl Decoder {
    /// Decoder of a stream that must be of kind `expected`, with messages of at most
    /// `message_bytes_max` bytes.
    #[must_use]
    pub fn new(expected: StreamKind, message_bytes_max: usize) -> Self {
        Self {
            state: State::Preface,
            ..Self::without_preface(expected, message_bytes_max)
        }
    }

    /// Decoder of the replying half of a call, which has no preface.
    #[must_use]
    pub fn replies(message_bytes_max: usize) -> Self {
        Self::without_preface(StreamKind::Call, message_bytes_max)
    }

    /// Adds the next bytes of the stream. Call it when [`next_frame`](Self::next_frame) returned
    /// `None`.
    pub fn push(&mut self, bytes: Bytes) {
        if self.unread.is_empty() {
            self.unread = bytes;
        } else {
            // Only if the caller reads ahead; correct, at the price of a copy.
            let mut joined = BytesMut::with_capacity(self.unread.len() + bytes.len());
            joined.extend_from_slice(&self.unread);
            joined.extend_from_slice(&bytes);
            self.unread = joined.freeze();
        }
    }

    /// Next frame, or `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the bytes are not a frame, or if a header announces more than the limit.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        self.advance().inspect_err(|error| {
            self.state = State::Failed(error.clone());
            self.unread = Bytes::new();
            self.partial = BytesMut::new();
        })
    }

    /// Next item, if the next frame is an item that was pushed in one piece. Otherwise
    /// [`next_frame`](Self::next_frame) says what is next.
    #[inline]
    pub fn next_whole_item(&mut self) -> Option<Bytes> {
        if !matches!(self.state, State::Kind) {
            return None;
        }
        let header: &[u8; ITEM_HEADER_BYTES] = self.unread.first_chunk()?;
        let body_bytes = u32_at(header, 4) as usize;
        let is_item = header[0] == KIND_ITEM && body_bytes <= self.limit;
        if !is_item || self.unread.len() - ITEM_HEADER_BYTES < body_bytes {
            return None;
        }
        self.unread.advance(ITEM_HEADER_BYTES);
        Some(self.unread.split_to(body_bytes))
    }

    /// Checks whether the stream ended between two frames.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] if it ended inside a frame or before the preface was complete.
    pub fn finish(&self) -> Result<(), WireError> {
        match &self.state {
            State::Kind if self.unread.is_empty() && self.partial.is_empty() => Ok(()),
            State::Failed(error) => Err(error.clone()),
            _ => Err(WireError::Truncated),
        }
    }

    /// Whether the preface and a complete header with its text were read, so that only a body is
    /// missing.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        matches!(self.state, State::Body { .. })
    }

    /// Whether the body that is missing is that of headers, which a request or a reply follows.
    #[must_use]
    pub fn awaits_headers(&self) -> bool {
        let State::Body { head, .. } = &self.state else {
            return false;
        };
        matches!(head, BodylessFrame::Headers(_))
    }

    /// Size of the body that is being read; `None` outside of a body.
    #[must_use]
    pub fn awaited_body_bytes(&self) -> Option<usize> {
        match self.state {
            State::Body { body_bytes, .. } => Some(body_bytes),
            _ => None,
        }
    }

    /// Request whose body is being read, so that a request that is rejected need not be read
    /// completely.
    #[must_use]
    pub fn awaited_request(&self) -> Option<&RequestHeader> {
        match &self.state {
            State::Body {
                head: BodylessFrame::Request(header),
                ..
            } => Some(header),
            _ => None,
        }
    }

    /// Memory reserved for a frame that has not arrived completely.
    #[must_use]
    pub fn reserved_bytes(&self) -> usize {
        self.partial.capacity()
    }

    fn without_preface(expected: StreamKind, limit: usize) -> Self {
        Self {
            expected,
            limit,
            state: State::Kind,
            unread: Bytes::new(),
            partial: BytesMut::new(),
        }
    }

    fn advance(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            let wanted = match &self.state {
                State::Preface => PREFACE_BYTES,
                State::Kind => match self.unread.first() {
                    Some(kind) => {
                        let header_bytes = FixedHeader::bytes_of_kind(*kind)?;
                        self.state = State::Header { header_bytes };
                        header_bytes
                    }
                    None => return Ok(None),
                },
                State::Header { header_bytes } => *header_bytes,
                State::Text(header) => header.text_bytes,
                State::Body { body_bytes, .. } => *body_bytes,
                State::Failed(error) => return Err(error.clone()),
            };
            let Some(bytes) = self.take(wanted) else {
                return Ok(None);
            };
            match std::mem::replace(&mut self.state, State::Kind) {
                State::Preface => {
                    let bytes: [u8; PREFACE_BYTES] = bytes[..].try_into().expect("four were taken");
                    let preface = Preface::decode(bytes)?;
                    if preface.kind != self.expected {
                        return Err(PrefaceError::Kind(bytes[3]).into());
                    }
                }
                State::Header { .. } => {
                    self.state = State::Text(FixedHeader::decode(&bytes, self.limit)?);
                }
                State::Text(header) => {
                    let body_bytes = header.body_bytes;
                    let head = header.with_text(&bytes)?;
                    self.state = State::Body { head, body_bytes };
                }
                State::Body { head, .. } => return Ok(Some(head.with_body(bytes))),
                State::Kind | State::Failed(_) => unreachable!("neither takes bytes"),
            }
        }
    }

    /// Exactly `wanted` bytes, or `None` after buffering what there is.
    fn take(&mut self, wanted: usize) -> Option<Bytes> {
        if self.partial.is_empty() && self.unread.len() >= wanted {
            return Some(self.unread.split_to(wanted));
        }
        let missing = wanted - self.partial.len();
        let part = self.unread.split_to(missing.min(self.unread.len()));
        if self.partial.is_empty() {
            self.partial
                .reserve(wanted.min(BODY_RESERVE_BYTES.max(part.len())));
        }
        self.partial.extend_from_slice(&part);
        (self.partial.len() == wanted).then(|| std::mem::take(&mut self.partial).freeze())
    }
}
