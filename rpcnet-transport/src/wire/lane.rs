//! Frames of a lane: a stream that many small calls share.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    METHOD_BYTES_MAX, STATUS_MESSAGE_BYTES_MAX, WireError,
    frame::{
        FLAG_KEY, IDEMPOTENCY_KEY_BYTES, PRIORITY_BITS, PRIORITY_SHIFT, ReplyHeader, retry_after,
        retry_after_ms, truncate_utf8,
    },
    header::check_length,
    load::{LOAD_BYTES, LoadReport},
};
use crate::{Code, Priority, Processed};

/// Largest body of a call on a lane, in bytes: the header has two bytes for its length.
pub const LANE_BODY_BYTES_MAX: usize = u16::MAX as usize;

/// Longest deadline of a call on a lane: the header has four bytes for it.
pub const LANE_DEADLINE_MAX: Duration = Duration::from_micros(u32::MAX as u64);

/// Request on a lane, without its body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneRequest {
    /// Id of the call, chosen by the caller, free again after its reply or its cancellation.
    pub id: u32,
    /// Number of the method, from an earlier [`LaneFrame::Method`].
    pub method: u16,
    /// Number of the attempt, from 0.
    pub attempt: u8,
    /// The caller declares that the call may run more than once.
    pub idempotent: bool,
    /// Priority of the call.
    pub priority: Priority,
    /// Idempotency key that all attempts of the call share.
    pub idempotency_key: Option<[u8; IDEMPOTENCY_KEY_BYTES]>,
    /// Time left when the request was written; `None` if the call has no deadline.
    pub deadline: Option<Duration>,
}

/// Frame of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneFrame {
    /// Assigns a number to a method, for the rest of the lane. The first is 0, each further one is
    /// one more.
    Method {
        /// Number of the method.
        method: u16,
        /// Name of the method, 1 to 255 bytes of UTF-8.
        name: Bytes,
    },
    /// Starts a call.
    Request(LaneRequest, Bytes),
    /// Cancels a call: the caller does not want the reply any more.
    Cancel {
        /// Id of the call.
        id: u32,
    },
    /// Acknowledges a reply that came on a stream of its own.
    Received {
        /// Id of the call.
        id: u32,
    },
    /// Ends a call with success.
    Reply {
        /// Id of the call.
        id: u32,
        /// Load of the server.
        load: LoadReport,
        /// Body of the reply.
        body: Bytes,
    },
    /// Ends a call with a failure. The header's code is not [`Code::Ok`].
    Failure {
        /// Id of the call.
        id: u32,
        /// Header of the failure.
        header: Box<ReplyHeader>,
        /// Details of the failure.
        body: Bytes,
    },
}

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

/// Appends a frame that assigns a number to a method.
///
/// # Panics
///
/// If the name does not have 1 to 255 bytes. Callers check first.
pub fn encode_lane_method(out: &mut BytesMut, method: u16, name: &str) {
    assert!(
        (1..=METHOD_BYTES_MAX).contains(&name.len()),
        "a method name has 1 to 255 bytes"
    );
    out.reserve(METHOD_HEADER_BYTES + name.len());
    out.put_u8(KIND_METHOD);
    out.put_u8(name.len() as u8);
    out.put_u16_le(method);
    out.put_slice(name.as_bytes());
}

/// Appends a request frame.
///
/// # Panics
///
/// If the body has more than [`LANE_BODY_BYTES_MAX`] bytes. Callers check first.
pub fn encode_lane_request(out: &mut BytesMut, request: &LaneRequest, body: &[u8]) {
    let body_bytes = u16::try_from(body.len()).expect("a lane takes small bodies");
    // A deadline that has just passed is written as one microsecond: zero means none.
    let deadline_us = request.deadline.map_or(0, |left| {
        u32::try_from(left.as_micros()).unwrap_or(u32::MAX).max(1)
    });
    let mut header = [0; REQUEST_HEADER_BYTES];
    header[0] = KIND_REQUEST;
    header[1] = u8::from(request.idempotent) << 2 | request.priority.to_wire() << PRIORITY_SHIFT;
    header[2] = request.attempt;
    header[4..8].copy_from_slice(&request.id.to_le_bytes());
    header[8..10].copy_from_slice(&request.method.to_le_bytes());
    header[10..12].copy_from_slice(&body_bytes.to_le_bytes());
    header[12..16].copy_from_slice(&deadline_us.to_le_bytes());
    out.reserve(REQUEST_HEADER_BYTES + IDEMPOTENCY_KEY_BYTES + body.len());
    if request.idempotency_key.is_some() {
        header[1] |= FLAG_KEY;
    }
    out.put_slice(&header);
    if let Some(key) = &request.idempotency_key {
        out.put_slice(key);
    }
    out.put_slice(body);
}

/// Appends a cancel frame.
pub fn encode_lane_cancel(out: &mut BytesMut, id: u32) {
    encode_id_frame(out, KIND_CANCEL, id);
}

/// Appends a frame that acknowledges a reply on a stream of its own.
pub fn encode_lane_received(out: &mut BytesMut, id: u32) {
    encode_id_frame(out, KIND_RECEIVED, id);
}

/// Appends a reply frame.
///
/// # Panics
///
/// If the body has more than [`LANE_BODY_BYTES_MAX`] bytes. Callers check first.
pub fn encode_lane_reply(out: &mut BytesMut, id: u32, load: LoadReport, body: &[u8]) {
    out.reserve(REPLY_HEADER_BYTES + body.len());
    out.put_slice(&answer_header(KIND_REPLY, id, load, body.len()));
    out.put_slice(body);
}

/// Appends a failure frame. Its message is cut as in [`encode_reply`](super::encode_reply).
///
/// # Panics
///
/// If the body has more than [`LANE_BODY_BYTES_MAX`] bytes. Callers check first.
pub fn encode_lane_failure(out: &mut BytesMut, id: u32, header: &ReplyHeader, body: &[u8]) {
    let message = truncate_utf8(&header.message, STATUS_MESSAGE_BYTES_MAX);
    out.reserve(FAILURE_HEADER_BYTES + message.len() + body.len());
    out.put_slice(&answer_header(KIND_FAILURE, id, header.load, body.len()));
    out.put_u8(header.code.to_wire());
    out.put_u8(header.processed.to_wire());
    out.put_u16_le(message.len() as u16);
    out.put_u32_le(retry_after_ms(header.retry_after));
    out.put_slice(message.as_bytes());
    out.put_slice(body);
}

fn encode_id_frame(out: &mut BytesMut, kind: u8, id: u32) {
    out.reserve(ID_FRAME_BYTES);
    out.put_u32_le(u32::from(kind));
    out.put_u32_le(id);
}

fn answer_header(
    kind: u8,
    id: u32,
    load: LoadReport,
    body_bytes: usize,
) -> [u8; REPLY_HEADER_BYTES] {
    let body_bytes = u16::try_from(body_bytes).expect("a lane takes small bodies");
    let mut header = [0; REPLY_HEADER_BYTES];
    header[0] = kind;
    header[2..4].copy_from_slice(&body_bytes.to_le_bytes());
    header[4..8].copy_from_slice(&id.to_le_bytes());
    header[8..16].copy_from_slice(&load.encode());
    header
}

/// Length of the frame that starts here; `None` if its header is not complete.
fn frame_bytes(bytes: &[u8], body_bytes_max: usize) -> Result<Option<usize>, WireError> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    let header_bytes = header_bytes(kind)?;
    if bytes.len() < header_bytes {
        return Ok(None);
    }
    let half = |at: usize| u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let body = |at| check_length("a body on a lane", half(at), body_bytes_max);
    Ok(Some(
        header_bytes
            + match kind {
                KIND_METHOD => usize::from(bytes[1]),
                KIND_REQUEST => key_bytes(bytes[1]) + body(10)?,
                KIND_REPLY => body(2)?,
                KIND_FAILURE => {
                    body(2)? + check_length("a status message", half(18), STATUS_MESSAGE_BYTES_MAX)?
                }
                _ => 0,
            },
    ))
}

fn header_bytes(kind: u8) -> Result<usize, WireError> {
    match kind {
        KIND_REQUEST => Ok(REQUEST_HEADER_BYTES),
        KIND_REPLY => Ok(REPLY_HEADER_BYTES),
        KIND_FAILURE => Ok(FAILURE_HEADER_BYTES),
        KIND_CANCEL | KIND_RECEIVED => Ok(ID_FRAME_BYTES),
        KIND_METHOD => Ok(METHOD_HEADER_BYTES),
        other => Err(WireError::UnknownKind(other)),
    }
}

/// Length of the header of a frame whose kind is known.
fn header_bytes_of(begun: &[u8]) -> usize {
    header_bytes(begun[0]).expect("its kind is known")
}

/// Takes one complete frame off the bytes.
fn parse_frame(bytes: &mut Bytes) -> Result<LaneFrame, WireError> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let load = || {
        let field: [u8; LOAD_BYTES] = bytes[8..16].try_into().expect("a range of eight");
        LoadReport::decode(field)
    };
    match bytes[0] {
        KIND_REQUEST => {
            let flags = bytes[1];
            if flags & !(IDEMPOTENT | PRIORITY_BITS | FLAG_KEY) != 0 {
                return Err(unknown("flags", flags));
            }
            let deadline_us = word(12);
            let mut request = LaneRequest {
                id: word(4),
                method: half(8),
                attempt: bytes[2],
                idempotent: flags & IDEMPOTENT != 0,
                priority: Priority::from_wire(flags >> PRIORITY_SHIFT),
                idempotency_key: None,
                deadline: (deadline_us != 0).then(|| Duration::from_micros(u64::from(deadline_us))),
            };
            let body_bytes = usize::from(half(10));
            bytes.advance(REQUEST_HEADER_BYTES);
            if flags & FLAG_KEY != 0 {
                let mut key = [0; IDEMPOTENCY_KEY_BYTES];
                bytes.copy_to_slice(&mut key);
                request.idempotency_key = Some(key);
            }
            Ok(LaneFrame::Request(request, take(bytes, body_bytes)))
        }
        KIND_REPLY => {
            let (id, load, body_bytes) = (word(4), load(), usize::from(half(2)));
            bytes.advance(REPLY_HEADER_BYTES);
            Ok(LaneFrame::Reply {
                id,
                load,
                body: take(bytes, body_bytes),
            })
        }
        KIND_FAILURE => {
            let (id, load, body_bytes) = (word(4), load(), usize::from(half(2)));
            let code = Code::from_wire(bytes[16])
                .filter(|code| *code != Code::Ok)
                .ok_or_else(|| unknown("code", bytes[16]))?;
            let processed =
                Processed::from_wire(bytes[17]).ok_or_else(|| unknown("processed", bytes[17]))?;
            let message_bytes = usize::from(half(18));
            let retry_after_ms = word(20);
            bytes.advance(FAILURE_HEADER_BYTES);
            let message = String::from_utf8(take(bytes, message_bytes).to_vec())
                .map_err(|_| WireError::InvalidText("the status message"))?;
            let header = Box::new(ReplyHeader {
                code,
                processed,
                retry_after: retry_after(retry_after_ms),
                load,
                message,
            });
            Ok(LaneFrame::Failure {
                id,
                header,
                body: take(bytes, body_bytes),
            })
        }
        kind @ (KIND_CANCEL | KIND_RECEIVED) => {
            let id = word(4);
            bytes.advance(ID_FRAME_BYTES);
            Ok(if kind == KIND_CANCEL {
                LaneFrame::Cancel { id }
            } else {
                LaneFrame::Received { id }
            })
        }
        KIND_METHOD => {
            let (method, name_bytes) = (half(2), usize::from(bytes[1]));
            bytes.advance(METHOD_HEADER_BYTES);
            let name = take(bytes, name_bytes);
            if name.is_empty() || std::str::from_utf8(&name).is_err() {
                return Err(WireError::InvalidText("the method name"));
            }
            Ok(LaneFrame::Method { method, name })
        }
        other => Err(WireError::UnknownKind(other)),
    }
}

/// Bytes between the header of a request and its body.
fn key_bytes(flags: u8) -> usize {
    if flags & FLAG_KEY == 0 {
        0
    } else {
        IDEMPOTENCY_KEY_BYTES
    }
}

/// An empty slice would share the buffer and keep it alive.
fn take(bytes: &mut Bytes, len: usize) -> Bytes {
    if len == 0 {
        Bytes::new()
    } else {
        bytes.split_to(len)
    }
}

fn unknown(field: &'static str, value: u8) -> WireError {
    WireError::UnknownValue { field, value }
}

const KIND_REQUEST: u8 = 16;
const KIND_REPLY: u8 = 17;
const KIND_FAILURE: u8 = 18;
const KIND_CANCEL: u8 = 19;
const KIND_METHOD: u8 = 20;
const KIND_RECEIVED: u8 = 21;

const REQUEST_HEADER_BYTES: usize = 16;
const REPLY_HEADER_BYTES: usize = 16;
const FAILURE_HEADER_BYTES: usize = 24;
const ID_FRAME_BYTES: usize = 8;
const METHOD_HEADER_BYTES: usize = 4;

/// Same bit as in the flags of a call with a stream of its own.
const IDEMPOTENT: u8 = 1 << 2;

#[cfg(test)]
mod tests;
