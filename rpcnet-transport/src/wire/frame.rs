//! Frames of a call with a stream of its own.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::{CallSchema, LoadReport, MAGIC, PREFACE_BYTES, VERSION, WireError};
use crate::{Code, Priority, Processed};

/// Contents of a stream, the last byte of its preface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamKind {
    /// One call, on a bidirectional stream.
    Call,
    /// Control frames of a connection, on a unidirectional stream.
    Control,
    /// Lane: many small calls on a bidirectional stream.
    Lane,
    /// Reply to one call of a lane that is too large for it, on a unidirectional stream.
    LaneReply,
}

/// First bytes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preface {
    /// Contents of the stream.
    pub kind: StreamKind,
}

/// Reason for which four bytes are not a preface.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PrefaceError {
    /// The peer speaks another protocol.
    #[error("wrong magic")]
    Magic,
    /// The peer speaks another version of this protocol.
    #[error("unsupported version {0}")]
    Version(u8),
    /// The kind of the stream is unknown or not allowed here.
    #[error("unexpected stream kind {0}")]
    Kind(u8),
}

/// Flags of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestFlags {
    /// The caller sends its requests as items, not as the body.
    pub streams_requests: bool,
    /// The caller expects replies as items.
    pub streams_replies: bool,
    /// The caller declares that the call may run more than once.
    pub idempotent: bool,
}

/// Flags of the headers of a request or a reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeaderFlags {
    /// The first 25 bytes are a trace context.
    pub has_trace: bool,
    /// The caller reads metadata of the reply.
    pub wants_reply_metadata: bool,
}

/// Request without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Method name, 1 to 255 bytes.
    pub method: String,
    /// Number of the attempt, from 0.
    pub attempt: u8,
    /// Flags of the request.
    pub flags: RequestFlags,
    /// Priority of the call.
    pub priority: Priority,
    /// Idempotency key that all attempts of the call share.
    pub idempotency_key: Option<u128>,
    /// Schema of a typed call.
    pub schema: Option<CallSchema>,
    /// Time left when the request was written; `None` if the call has no deadline.
    pub deadline: Option<Duration>,
}

/// Reply without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHeader {
    /// Code with which the call ended.
    pub code: Code,
    /// Whether the request was processed.
    pub processed: Processed,
    /// Time after which a retry is sensible, in whole milliseconds; [`Duration::MAX`] for never.
    pub retry_after: Option<Duration>,
    /// Load of the server.
    pub load: LoadReport,
    /// Message for people; empty on success.
    pub message: String,
}

impl ReplyHeader {
    /// A reply without a retry-after, a load and a message.
    #[must_use]
    pub fn new(code: Code, processed: Processed) -> Self {
        Self {
            code,
            processed,
            retry_after: None,
            load: LoadReport::default(),
            message: String::new(),
        }
    }
}

/// Hello: the limits that a server announces when a connection is established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The server drains.
    pub draining: bool,
    /// Largest message that it accepts, in bytes.
    pub message_bytes_max: u32,
    /// Most concurrent streams on one connection.
    pub streams_max: u32,
    /// Most lanes on one connection.
    pub lanes_max: u8,
    /// Most concurrent calls on one lane.
    pub lane_calls_max: u16,
    /// Largest body on a lane, in bytes, in both directions.
    pub lane_body_bytes_max: u16,
    /// The server knows the schemas of typed calls.
    pub has_schemas: bool,
    /// The server takes headers of requests: metadata and trace contexts.
    pub has_headers: bool,
}

/// Frame with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// Starts a call.
    Request(RequestHeader, Bytes),
    /// One message of a stream of messages.
    Item(Bytes),
    /// Ends a call.
    Reply(ReplyHeader, Bytes),
    /// First frame of a connection.
    Hello(Hello),
    /// Names the call of a lane that the following reply belongs to.
    ReplyTo {
        /// QUIC's index of the lane's stream.
        lane: u64,
        /// Id of the call.
        id: u32,
    },
    /// The server started to drain, or stopped draining.
    Draining(bool),
    /// Headers of the request or the reply that follows: a trace context, if the flags say so, and
    /// metadata.
    Headers(HeaderFlags, Bytes),
}

impl StreamKind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Call => 1,
            Self::Control => 2,
            Self::Lane => 3,
            Self::LaneReply => 4,
        }
    }
}

impl Preface {
    /// Encodes the preface.
    #[must_use]
    pub const fn encode(self) -> [u8; PREFACE_BYTES] {
        [MAGIC[0], MAGIC[1], VERSION, self.kind.to_byte()]
    }

    /// Decodes a preface.
    ///
    /// # Errors
    ///
    /// [`PrefaceError`], which says which of the bytes is wrong.
    pub fn decode(bytes: [u8; PREFACE_BYTES]) -> Result<Self, PrefaceError> {
        let [magic_0, magic_1, version, kind] = bytes;
        if [magic_0, magic_1] != MAGIC {
            return Err(PrefaceError::Magic);
        }
        if version != VERSION {
            return Err(PrefaceError::Version(version));
        }
        let kind = match kind {
            1 => StreamKind::Call,
            2 => StreamKind::Control,
            3 => StreamKind::Lane,
            4 => StreamKind::LaneReply,
            other => return Err(PrefaceError::Kind(other)),
        };
        Ok(Self { kind })
    }
}

impl RequestFlags {
    pub(super) fn to_byte(self) -> u8 {
        u8::from(self.streams_requests)
            | u8::from(self.streams_replies) << 1
            | u8::from(self.idempotent) << 2
    }

    /// Decodes a byte that also holds the priority and the flags of key and schema.
    pub(super) fn from_byte(byte: u8) -> Result<Self, WireError> {
        if byte & !(0b111 | PRIORITY_BITS | FLAG_KEY | FLAG_SCHEMA) != 0 {
            return Err(WireError::UnknownValue {
                field: "flags",
                value: byte,
            });
        }
        Ok(Self {
            streams_requests: byte & 1 != 0,
            streams_replies: byte & 2 != 0,
            idempotent: byte & 4 != 0,
        })
    }
}

impl HeaderFlags {
    pub(super) fn to_byte(self) -> u8 {
        u8::from(self.has_trace) | u8::from(self.wants_reply_metadata) << 1
    }

    pub(super) fn from_byte(byte: u8) -> Result<Self, WireError> {
        if byte & !0b11 != 0 {
            return Err(WireError::UnknownValue {
                field: "header flags",
                value: byte,
            });
        }
        Ok(Self {
            has_trace: byte & 1 != 0,
            wants_reply_metadata: byte & 2 != 0,
        })
    }
}

/// Position of the priority in the flags of a request.
pub(super) const PRIORITY_SHIFT: u32 = 3;
pub(super) const PRIORITY_BITS: u8 = 0b11 << PRIORITY_SHIFT;

/// Flag of a request with an idempotency key, which stands before the body.
pub(super) const FLAG_KEY: u8 = 1 << 5;
/// Flag of a typed request, whose schema stands before the body.
pub(super) const FLAG_SCHEMA: u8 = 1 << 6;

/// Bits of the features of a hello.
pub(super) const FEATURE_SCHEMAS: u8 = 1;
pub(super) const FEATURE_HEADERS: u8 = 1 << 1;

pub(super) const IDEMPOTENCY_KEY_BYTES: usize = 16;

pub(super) const KIND_REQUEST: u8 = 1;
pub(super) const KIND_ITEM: u8 = 2;
pub(super) const KIND_REPLY: u8 = 3;
pub(super) const KIND_HELLO: u8 = 4;
pub(super) const KIND_REPLY_TO: u8 = 5;
pub(super) const KIND_DRAINING: u8 = 6;
pub(super) const KIND_HEADERS: u8 = 7;

pub(super) const REQUEST_HEADER_BYTES: usize = 16;
pub(crate) const ITEM_HEADER_BYTES: usize = 8;
pub(super) const REPLY_HEADER_BYTES: usize = 24;
pub(super) const HELLO_BYTES: usize = 16;
pub(super) const REPLY_TO_BYTES: usize = 16;
pub(super) const DRAINING_BYTES: usize = 4;
pub(super) const HEADERS_FRAME_BYTES: usize = 8;
