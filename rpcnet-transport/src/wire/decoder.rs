//! From bytes as they come to whole frames.

use bytes::{Bytes, BytesMut};

use super::{
    BODY_RESERVE_BYTES, PREFACE_BYTES, WireError,
    frame::{Frame, Preface, PrefaceError, RequestHeader, StreamKind},
    header::{BodylessFrame, FixedHeader},
};

/// Cuts the bytes of one stream into frames.
///
/// Feed what was read with [`push`](Self::push), then take frames with [`next_frame`](Self::next_frame)
/// until it has none, then read again: so at most one message and one read are held. A frame that arrived
/// in one read is handed out without a copy. After an error the stream is beyond repair and every further
/// call returns the same error.
#[derive(Debug)]
pub struct Decoder {
    expected: StreamKind,
    limit: usize,
    state: State,
    /// Read but not used; begins where `state` says.
    unread: Bytes,
    /// Start of what is being read, when it came in more than one read.
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
    /// Reads a stream that must be of kind `expected`, with messages of at most `message_bytes_max` bytes.
    pub fn new(expected: StreamKind, message_bytes_max: usize) -> Self {
        Self {
            state: State::Preface,
            ..Self::without_preface(expected, message_bytes_max)
        }
    }

    /// Reads a half of a stream that has no preface: the answering half of a call.
    pub fn replies(message_bytes_max: usize) -> Self {
        Self::without_preface(StreamKind::Call, message_bytes_max)
    }

    /// Takes the next bytes of the stream. Call when [`next_frame`](Self::next_frame) returned `None`.
    pub fn push(&mut self, bytes: Bytes) {
        if self.unread.is_empty() {
            self.unread = bytes;
        } else {
            // Only a caller who reads ahead gets here; correct, at the price of a copy.
            let mut joined = BytesMut::with_capacity(self.unread.len() + bytes.len());
            joined.extend_from_slice(&self.unread);
            joined.extend_from_slice(&bytes);
            self.unread = joined.freeze();
        }
    }

    /// The next frame, or `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the bytes are no frame, or if a header promises more than the limit.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        self.advance().inspect_err(|error| {
            self.state = State::Failed(error.clone());
            self.unread = Bytes::new();
            self.partial = BytesMut::new();
        })
    }

    /// To be asked when the stream has ended: whether it ended between two frames.
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

    /// Whether the preface and a whole header with its text have been read, so that only a body is awaited.
    pub fn awaits_body(&self) -> bool {
        matches!(self.state, State::Body { .. })
    }

    /// Size of the body that is awaited: a header was read, and not all of what follows it.
    pub fn awaited_body_bytes(&self) -> Option<usize> {
        match self.state {
            State::Body { body_bytes, .. } => Some(body_bytes),
            _ => None,
        }
    }

    /// The request whose body is awaited, so that one that will be refused need not be read in whole.
    pub fn awaited_request(&self) -> Option<&RequestHeader> {
        match &self.state {
            State::Body {
                head: BodylessFrame::Request(header),
                ..
            } => Some(header),
            _ => None,
        }
    }

    /// Room that was made for a frame that has not arrived in whole.
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

    /// Exactly `wanted` bytes, or `None` after putting aside what there is.
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
