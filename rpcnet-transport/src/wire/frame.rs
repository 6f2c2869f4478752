use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::{MAGIC, METHOD_BYTES_MAX, PREFACE_BYTES, STATUS_MESSAGE_BYTES_MAX, VERSION, WireError};
use crate::{Code, Processed};

/// What a stream carries, the last byte of its preface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamKind {
    /// One call, on a bidirectional stream.
    Call,
    /// What one side tells the other about the connection, on a unidirectional stream.
    Control,
}

/// First bytes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preface {
    /// What the stream carries.
    pub kind: StreamKind,
}

/// Why four bytes are not a preface.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadPreface {
    /// Another protocol speaks.
    #[error("wrong magic")]
    Magic,
    /// A version of this protocol that we do not speak.
    #[error("version {0} is not spoken here")]
    Version(u8),
    /// A stream of a kind that we do not know, or that does not belong here.
    #[error("stream kind {0} does not belong here")]
    Kind(u8),
}

/// Properties of a call that travel with its request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// The caller sends its requests as items, not as the body.
    pub streams_requests: bool,
    /// The caller takes replies as items.
    pub streams_replies: bool,
    /// The caller says that the call may run more than once.
    pub idempotent: bool,
}

/// A request but for its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Method name, 1 to 255 bytes.
    pub method: String,
    /// Which attempt this is, from 0.
    pub attempt: u8,
    /// Properties of the call.
    pub flags: Flags,
    /// Time left when the request was written; `None` if the call has no deadline.
    pub deadline: Option<Duration>,
}

/// A reply but for its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHeader {
    /// How the call ended.
    pub code: Code,
    /// Whether the request was processed.
    pub processed: Processed,
    /// When another attempt makes sense, in whole milliseconds.
    pub retry_after: Option<Duration>,
    /// For people; empty on success.
    pub message: String,
}

/// What a server says about itself when a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The server takes no new calls at the moment.
    pub draining: bool,
    /// Largest message that it accepts, in bytes.
    pub message_bytes_max: u32,
    /// Most calls at a time on one connection.
    pub streams_max: u32,
}

/// One frame with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// Begins a call.
    Request(RequestHeader, Bytes),
    /// One message of a stream of messages.
    Item(Bytes),
    /// Ends a call.
    Reply(ReplyHeader, Bytes),
    /// Begins a connection.
    Hello(Hello),
}

impl StreamKind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Call => 1,
            Self::Control => 2,
        }
    }
}

impl Preface {
    /// Four bytes of the wire.
    pub const fn encode(self) -> [u8; PREFACE_BYTES] {
        [MAGIC[0], MAGIC[1], VERSION, self.kind.to_byte()]
    }

    /// Reads four bytes.
    ///
    /// # Errors
    ///
    /// [`BadPreface`] says which of the bytes is wrong.
    pub fn decode(bytes: [u8; PREFACE_BYTES]) -> Result<Self, BadPreface> {
        let [magic_0, magic_1, version, kind] = bytes;
        if [magic_0, magic_1] != MAGIC {
            return Err(BadPreface::Magic);
        }
        if version != VERSION {
            return Err(BadPreface::Version(version));
        }
        let kind = match kind {
            1 => StreamKind::Call,
            2 => StreamKind::Control,
            other => return Err(BadPreface::Kind(other)),
        };
        Ok(Self { kind })
    }
}

impl Flags {
    fn to_byte(self) -> u8 {
        u8::from(self.streams_requests)
            | u8::from(self.streams_replies) << 1
            | u8::from(self.idempotent) << 2
    }

    fn from_byte(byte: u8) -> Result<Self, WireError> {
        if byte & !0b111 != 0 {
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

/// Appends the header of a request whose body has `body_bytes` bytes; the body follows as it is.
///
/// # Panics
///
/// If the method name has no or more than 255 bytes, or the body more than `u32::MAX`. Callers check first.
pub fn encode_request(out: &mut BytesMut, header: &RequestHeader, body_bytes: usize) {
    let method = header.method.as_bytes();
    assert!(
        !method.is_empty() && method.len() <= METHOD_BYTES_MAX,
        "a method name has 1 to 255 bytes"
    );
    out.reserve(REQUEST_HEADER_BYTES + method.len());
    out.put_u8(KIND_REQUEST);
    out.put_u8(header.flags.to_byte());
    out.put_u8(header.attempt);
    out.put_u8(method.len() as u8);
    out.put_u32_le(body_len(body_bytes));
    // A deadline that has just passed is written as one microsecond: zero means none.
    let deadline_us = header.deadline.map_or(0, |left| {
        u64::try_from(left.as_micros()).unwrap_or(u64::MAX).max(1)
    });
    out.put_u64_le(deadline_us);
    out.put_slice(method);
}

/// Appends the header of an item whose body has `body_bytes` bytes.
///
/// # Panics
///
/// If the body has more than `u32::MAX` bytes.
pub fn encode_item_header(out: &mut BytesMut, body_bytes: usize) {
    out.reserve(ITEM_HEADER_BYTES);
    out.put_u8(KIND_ITEM);
    out.put_bytes(0, 3);
    out.put_u32_le(body_len(body_bytes));
}

/// Appends the header of a reply whose body has `body_bytes` bytes. A message past
/// [`STATUS_MESSAGE_BYTES_MAX`] is cut at a character.
///
/// # Panics
///
/// If the body has more than `u32::MAX` bytes.
pub fn encode_reply(out: &mut BytesMut, header: &ReplyHeader, body_bytes: usize) {
    let message = cut(&header.message, STATUS_MESSAGE_BYTES_MAX);
    out.reserve(REPLY_HEADER_BYTES + message.len());
    out.put_u8(KIND_REPLY);
    out.put_u8(header.code.to_wire());
    out.put_u8(header.processed.to_wire());
    out.put_u8(0);
    out.put_u32_le(body_len(body_bytes));
    // Zero means "not said", so a wait that rounds to zero becomes one millisecond.
    let retry_after_ms = header.retry_after.map_or(0, |wait| {
        u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1)
    });
    out.put_u32_le(retry_after_ms);
    out.put_u16_le(message.len() as u16);
    out.put_u16_le(0);
    out.put_slice(message.as_bytes());
}

/// Appends a whole hello.
pub fn encode_hello(out: &mut BytesMut, hello: &Hello) {
    out.put_u8(KIND_HELLO);
    out.put_u8(u8::from(hello.draining));
    out.put_u16_le(0);
    out.put_u32_le(hello.message_bytes_max);
    out.put_u32_le(hello.streams_max);
    out.put_u32_le(0);
}

/// A header that was read, and what has to follow it: text, then the body.
#[derive(Debug)]
pub(super) enum Header {
    Request {
        attempt: u8,
        flags: Flags,
        deadline: Option<Duration>,
        method_bytes: usize,
        body_bytes: usize,
    },
    Item {
        body_bytes: usize,
    },
    Reply {
        code: Code,
        processed: Processed,
        retry_after: Option<Duration>,
        message_bytes: usize,
        body_bytes: usize,
    },
    Hello(Hello),
}

impl Header {
    /// Length of the header of frames of this kind.
    pub(super) fn bytes_of_kind(kind: u8) -> Result<usize, WireError> {
        match kind {
            KIND_REQUEST => Ok(REQUEST_HEADER_BYTES),
            KIND_ITEM => Ok(ITEM_HEADER_BYTES),
            KIND_REPLY => Ok(REPLY_HEADER_BYTES),
            KIND_HELLO => Ok(HELLO_BYTES),
            other => Err(WireError::UnknownKind(other)),
        }
    }

    /// Reads a header that is complete. Checks lengths against `limit` and against the format's own bounds.
    pub(super) fn decode(bytes: &[u8], limit: usize) -> Result<Self, WireError> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let body = |at: usize| within("a message", word(at), limit);
        match bytes[0] {
            KIND_REQUEST => {
                let deadline_us = u64::from(word(8)) | u64::from(word(12)) << 32;
                if bytes[3] == 0 {
                    return Err(WireError::BadText("the method name"));
                }
                Ok(Self::Request {
                    flags: Flags::from_byte(bytes[1])?,
                    attempt: bytes[2],
                    method_bytes: usize::from(bytes[3]),
                    body_bytes: body(4)?,
                    deadline: (deadline_us != 0).then(|| Duration::from_micros(deadline_us)),
                })
            }
            KIND_ITEM => Ok(Self::Item {
                body_bytes: body(4)?,
            }),
            KIND_REPLY => {
                let unknown = |field, value| WireError::UnknownValue { field, value };
                let retry_after_ms = word(8);
                let message_bytes = u32::from(u16::from_le_bytes([bytes[12], bytes[13]]));
                Ok(Self::Reply {
                    code: Code::from_wire(bytes[1]).ok_or_else(|| unknown("code", bytes[1]))?,
                    processed: Processed::from_wire(bytes[2])
                        .ok_or_else(|| unknown("processed", bytes[2]))?,
                    body_bytes: body(4)?,
                    retry_after: (retry_after_ms != 0)
                        .then(|| Duration::from_millis(u64::from(retry_after_ms))),
                    message_bytes: within(
                        "a status message",
                        message_bytes,
                        STATUS_MESSAGE_BYTES_MAX,
                    )?,
                })
            }
            KIND_HELLO => Ok(Self::Hello(Hello {
                draining: bytes[1] & 1 != 0,
                message_bytes_max: word(4),
                streams_max: word(8),
            })),
            other => Err(WireError::UnknownKind(other)),
        }
    }

    /// Bytes that follow the header: text and body.
    pub(super) fn rest_bytes(&self) -> usize {
        match self {
            Self::Request {
                method_bytes,
                body_bytes,
                ..
            } => method_bytes + body_bytes,
            Self::Item { body_bytes } => *body_bytes,
            Self::Reply {
                message_bytes,
                body_bytes,
                ..
            } => message_bytes + body_bytes,
            Self::Hello(_) => 0,
        }
    }

    /// Joins the header with what followed it.
    pub(super) fn with_rest(self, mut rest: Bytes) -> Result<Frame, WireError> {
        match self {
            Self::Request {
                attempt,
                flags,
                deadline,
                method_bytes,
                ..
            } => {
                let method = text("the method name", &rest.split_to(method_bytes))?;
                Ok(Frame::Request(
                    RequestHeader {
                        method,
                        attempt,
                        flags,
                        deadline,
                    },
                    rest,
                ))
            }
            Self::Item { .. } => Ok(Frame::Item(rest)),
            Self::Reply {
                code,
                processed,
                retry_after,
                message_bytes,
                ..
            } => {
                let message = text("the status message", &rest.split_to(message_bytes))?;
                Ok(Frame::Reply(
                    ReplyHeader {
                        code,
                        processed,
                        retry_after,
                        message,
                    },
                    rest,
                ))
            }
            Self::Hello(hello) => Ok(Frame::Hello(hello)),
        }
    }
}

fn within(what: &'static str, bytes: u32, limit: usize) -> Result<usize, WireError> {
    match usize::try_from(bytes) {
        Ok(len) if len <= limit => Ok(len),
        _ => Err(WireError::TooLarge {
            what,
            bytes: u64::from(bytes),
            limit: limit as u64,
        }),
    }
}

fn text(what: &'static str, bytes: &[u8]) -> Result<String, WireError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| WireError::BadText(what))
}

fn body_len(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("the length of a body fits 32 bits")
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

const KIND_REQUEST: u8 = 1;
const KIND_ITEM: u8 = 2;
const KIND_REPLY: u8 = 3;
const KIND_HELLO: u8 = 4;

const REQUEST_HEADER_BYTES: usize = 16;
const ITEM_HEADER_BYTES: usize = 8;
const REPLY_HEADER_BYTES: usize = 16;
const HELLO_BYTES: usize = 16;
