//! Fixed-length part of a frame.

use std::time::Duration;

use bytes::Bytes;

use super::{
    CallSchema, HEADERS_BYTES_MAX, STATUS_MESSAGE_BYTES_MAX, WireError,
    call_schema::CALL_SCHEMA_BYTES,
    frame::{
        DRAINING_BYTES, FEATURE_HEADERS, FEATURE_SCHEMAS, FLAG_KEY, FLAG_SCHEMA, Frame,
        HEADERS_FRAME_BYTES, HELLO_BYTES, HeaderFlags, Hello, IDEMPOTENCY_KEY_BYTES,
        ITEM_HEADER_BYTES, KIND_DRAINING, KIND_HEADERS, KIND_HELLO, KIND_ITEM, KIND_REPLY,
        KIND_REPLY_TO, KIND_REQUEST, PRIORITY_SHIFT, REPLY_HEADER_BYTES, REPLY_TO_BYTES,
        REQUEST_HEADER_BYTES, ReplyHeader, RequestFlags, RequestHeader,
    },
    load_report::LoadReport,
    retry_after::retry_after,
};
use crate::{Code, Priority, Processed};

/// Fixed-length part of a frame, with the lengths of the text and the body that follow.
#[derive(Debug)]
pub(super) struct FixedHeader {
    head: BodylessFrame,
    pub(super) text_bytes: usize,
    pub(super) body_bytes: usize,
}

/// Frame without its body.
#[derive(Debug)]
pub(super) enum BodylessFrame {
    Request(RequestHeader),
    Item,
    Reply(ReplyHeader),
    Headers(HeaderFlags),
    /// Frame of a kind that has no body.
    Whole(Frame),
}

impl FixedHeader {
    /// Length of the header of frames of this kind.
    pub(super) fn bytes_of_kind(kind: u8) -> Result<usize, WireError> {
        match kind {
            KIND_REQUEST => Ok(REQUEST_HEADER_BYTES),
            KIND_ITEM => Ok(ITEM_HEADER_BYTES),
            KIND_REPLY => Ok(REPLY_HEADER_BYTES),
            KIND_HELLO => Ok(HELLO_BYTES),
            KIND_REPLY_TO => Ok(REPLY_TO_BYTES),
            KIND_DRAINING => Ok(DRAINING_BYTES),
            KIND_HEADERS => Ok(HEADERS_FRAME_BYTES),
            other => Err(WireError::UnknownKind(other)),
        }
    }

    /// Decodes a complete header. Checks lengths against `limit` and against the bounds of the
    /// format.
    pub(super) fn decode(bytes: &[u8], limit: usize) -> Result<Self, WireError> {
        match bytes[0] {
            KIND_REQUEST => Self::decode_request(bytes, limit),
            KIND_ITEM => Ok(Self {
                head: BodylessFrame::Item,
                text_bytes: 0,
                body_bytes: body_bytes(bytes, limit)?,
            }),
            KIND_REPLY => Self::decode_reply(bytes, limit),
            KIND_HELLO => Ok(Self::whole(Frame::Hello(decode_hello(bytes)))),
            KIND_REPLY_TO => Ok(Self::whole(Frame::ReplyTo {
                id: u32_at(bytes, 4),
                lane: u64_at(bytes, 8),
            })),
            KIND_DRAINING => Ok(Self::whole(Frame::Draining(bytes[1] & 1 != 0))),
            KIND_HEADERS => Ok(Self {
                head: BodylessFrame::Headers(HeaderFlags::from_byte(bytes[1])?),
                text_bytes: 0,
                body_bytes: check_length("headers", u16_at(bytes, 2).into(), HEADERS_BYTES_MAX)?,
            }),
            other => Err(WireError::UnknownKind(other)),
        }
    }

    #[inline]
    fn decode_request(bytes: &[u8], limit: usize) -> Result<Self, WireError> {
        let deadline_us = u64_at(bytes, 8);
        if bytes[3] == 0 {
            return Err(WireError::InvalidText(METHOD));
        }
        let has_key = bytes[1] & FLAG_KEY != 0;
        let has_schema = bytes[1] & FLAG_SCHEMA != 0;
        let key_bytes = if has_key { IDEMPOTENCY_KEY_BYTES } else { 0 };
        let schema_bytes = if has_schema { CALL_SCHEMA_BYTES } else { 0 };
        let header = RequestHeader {
            method: String::new(),
            flags: RequestFlags::from_byte(bytes[1])?,
            priority: Priority::from_wire(bytes[1] >> PRIORITY_SHIFT),
            // Follows with the text.
            idempotency_key: has_key.then_some(0),
            schema: has_schema.then_some(CallSchema::unchecked(0)),
            attempt: bytes[2],
            deadline: (deadline_us != 0).then(|| Duration::from_micros(deadline_us)),
        };
        Ok(Self {
            head: BodylessFrame::Request(header),
            text_bytes: usize::from(bytes[3]) + key_bytes + schema_bytes,
            body_bytes: body_bytes(bytes, limit)?,
        })
    }

    #[inline]
    fn decode_reply(bytes: &[u8], limit: usize) -> Result<Self, WireError> {
        let unknown = |field, value| WireError::UnknownValue { field, value };
        let text_bytes = u16_at(bytes, 12).into();
        let header = ReplyHeader {
            code: Code::from_wire(bytes[1]).ok_or_else(|| unknown("code", bytes[1]))?,
            processed: Processed::from_wire(bytes[2])
                .ok_or_else(|| unknown("processed", bytes[2]))?,
            retry_after: retry_after(u32_at(bytes, 8)),
            load: LoadReport::decode(bytes[16..24].try_into().expect("a range of eight")),
            message: String::new(),
        };
        Ok(Self {
            head: BodylessFrame::Reply(header),
            text_bytes: check_length("a status message", text_bytes, STATUS_MESSAGE_BYTES_MAX)?,
            body_bytes: body_bytes(bytes, limit)?,
        })
    }

    fn whole(frame: Frame) -> Self {
        Self {
            head: BodylessFrame::Whole(frame),
            text_bytes: 0,
            body_bytes: 0,
        }
    }

    /// Adds the text to the header.
    pub(super) fn with_text(self, mut text: &[u8]) -> Result<BodylessFrame, WireError> {
        let mut head = self.head;
        // From the end: the method, then the key, then the schema.
        if let BodylessFrame::Request(RequestHeader {
            schema: Some(schema),
            ..
        }) = &mut head
            && let Some((rest, bytes)) = text.split_last_chunk()
        {
            *schema = CallSchema::decode(*bytes)?;
            text = rest;
        }
        if let BodylessFrame::Request(RequestHeader {
            idempotency_key: Some(key),
            ..
        }) = &mut head
            && let Some((name, bytes)) = text.split_last_chunk()
        {
            *key = u128::from_le_bytes(*bytes);
            text = name;
        }
        let utf8 = |what| {
            std::str::from_utf8(text)
                .map(str::to_owned)
                .map_err(|_| WireError::InvalidText(what))
        };
        match &mut head {
            BodylessFrame::Request(header) => header.method = utf8(METHOD)?,
            BodylessFrame::Reply(header) => header.message = utf8(STATUS_MESSAGE)?,
            BodylessFrame::Item | BodylessFrame::Headers(_) | BodylessFrame::Whole(_) => {}
        }
        Ok(head)
    }
}

impl BodylessFrame {
    pub(super) fn with_body(self, body: Bytes) -> Frame {
        match self {
            Self::Request(header) => Frame::Request(header, body),
            Self::Item => Frame::Item(body),
            Self::Reply(header) => Frame::Reply(header, body),
            Self::Headers(flags) => Frame::Headers(flags, body),
            Self::Whole(frame) => frame,
        }
    }
}

fn decode_hello(bytes: &[u8]) -> Hello {
    Hello {
        draining: bytes[1] & 1 != 0,
        lanes_max: bytes[2],
        message_bytes_max: u32_at(bytes, 4),
        streams_max: u32_at(bytes, 8),
        lane_calls_max: u16_at(bytes, 12),
        lane_body_bytes_max: u16_at(bytes, 14),
        has_schemas: bytes[3] & FEATURE_SCHEMAS != 0,
        has_headers: bytes[3] & FEATURE_HEADERS != 0,
    }
}

/// Length of the body in the header of a request, an item or a reply.
fn body_bytes(header: &[u8], limit: usize) -> Result<usize, WireError> {
    check_length("a message", u32_at(header, 4).into(), limit)
}

/// Little-endian number at this position.
#[inline(always)]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Little-endian number at this position.
#[inline(always)]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Little-endian number at this position.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Checks a length that the peer has sent.
pub(super) fn check_length(
    what: &'static str,
    bytes: u64,
    limit: usize,
) -> Result<usize, WireError> {
    match usize::try_from(bytes) {
        Ok(len) if len <= limit => Ok(len),
        _ => Err(WireError::TooLarge {
            what,
            bytes,
            limit: limit as u64,
        }),
    }
}

const METHOD: &str = "the method name";
const STATUS_MESSAGE: &str = "the status message";
