//! Parser of the frames of a lane.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::frame::{
    FAILURE_HEADER_BYTES, HEADERS_FRAME_BYTES, ID_FRAME_BYTES, IDEMPOTENT, KIND_CANCEL,
    KIND_FAILURE, KIND_HEADERS, KIND_METHOD, KIND_RECEIVED, KIND_REPLY, KIND_REQUEST,
    KIND_TYPED_METHOD, LaneFrame, LaneRequest, METHOD_HEADER_BYTES, REPLY_HEADER_BYTES,
    REQUEST_HEADER_BYTES, TYPED_METHOD_HEADER_BYTES,
};
use crate::{
    Code, Priority, Processed,
    wire::{
        CallSchema, LoadReport, STATUS_MESSAGE_BYTES_MAX, WireError,
        call_schema::LANE_SCHEMA_FLAGS,
        frame::{
            FLAG_KEY, HeaderFlags, IDEMPOTENCY_KEY_BYTES, PRIORITY_BITS, PRIORITY_SHIFT,
            ReplyHeader,
        },
        header::{check_length, u16_at, u32_at, u64_at},
        load_report::LOAD_BYTES,
        retry_after::retry_after,
    },
};

/// Length of the frame that starts here; `None` if its header is not complete.
pub(super) fn frame_bytes(bytes: &[u8], body_bytes_max: usize) -> Result<Option<usize>, WireError> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    let header_bytes = header_bytes(kind)?;
    if bytes.len() < header_bytes {
        return Ok(None);
    }
    let body = |at| {
        let announced = u16_at(bytes, at).into();
        check_length("a body on a lane", announced, body_bytes_max)
    };
    let message = || {
        let announced = u16_at(bytes, 18).into();
        check_length("a status message", announced, STATUS_MESSAGE_BYTES_MAX)
    };
    Ok(Some(
        header_bytes
            + match kind {
                KIND_METHOD | KIND_TYPED_METHOD => usize::from(bytes[1]),
                KIND_REQUEST => key_bytes(bytes[1]) + body(10)?,
                KIND_REPLY => body(2)?,
                KIND_FAILURE => body(2)? + message()?,
                KIND_HEADERS => u16_at(bytes, 2).into(),
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
        KIND_TYPED_METHOD => Ok(TYPED_METHOD_HEADER_BYTES),
        KIND_HEADERS => Ok(HEADERS_FRAME_BYTES),
        other => Err(WireError::UnknownKind(other)),
    }
}

/// Length of the header of a frame whose kind is known.
pub(super) fn header_bytes_of(begun: &[u8]) -> usize {
    header_bytes(begun[0]).expect("its kind is known")
}

/// Takes one complete frame off the bytes.
#[inline]
pub(super) fn parse_frame(bytes: &mut Bytes) -> Result<LaneFrame, WireError> {
    match bytes[0] {
        KIND_REQUEST => parse_request(bytes),
        KIND_REPLY => Ok(parse_reply(bytes)),
        KIND_FAILURE => parse_failure(bytes),
        KIND_CANCEL => Ok(LaneFrame::Cancel { id: take_id(bytes) }),
        KIND_RECEIVED => Ok(LaneFrame::Received { id: take_id(bytes) }),
        KIND_METHOD | KIND_TYPED_METHOD => parse_method(bytes),
        KIND_HEADERS => parse_headers(bytes),
        other => Err(WireError::UnknownKind(other)),
    }
}

#[inline(always)]
fn parse_request(bytes: &mut Bytes) -> Result<LaneFrame, WireError> {
    let flags = bytes[1];
    if flags & !(IDEMPOTENT | PRIORITY_BITS | FLAG_KEY) != 0 {
        return Err(unknown("flags", flags));
    }
    let deadline_us = u32_at(bytes, 12);
    let mut request = LaneRequest {
        id: u32_at(bytes, 4),
        method: u16_at(bytes, 8),
        attempt: bytes[2],
        idempotent: flags & IDEMPOTENT != 0,
        priority: Priority::from_wire(flags >> PRIORITY_SHIFT),
        idempotency_key: None,
        deadline: (deadline_us != 0).then(|| Duration::from_micros(u64::from(deadline_us))),
    };
    let body_bytes = usize::from(u16_at(bytes, 10));
    bytes.advance(REQUEST_HEADER_BYTES);
    if flags & FLAG_KEY != 0 {
        let mut key = [0; IDEMPOTENCY_KEY_BYTES];
        bytes.copy_to_slice(&mut key);
        request.idempotency_key = Some(key);
    }
    Ok(LaneFrame::Request(request, take(bytes, body_bytes)))
}

#[inline(always)]
fn parse_reply(bytes: &mut Bytes) -> LaneFrame {
    let (id, load) = (u32_at(bytes, 4), load(bytes));
    let body_bytes = usize::from(u16_at(bytes, 2));
    bytes.advance(REPLY_HEADER_BYTES);
    LaneFrame::Reply {
        id,
        load,
        body: take(bytes, body_bytes),
    }
}

fn parse_failure(bytes: &mut Bytes) -> Result<LaneFrame, WireError> {
    let (id, load) = (u32_at(bytes, 4), load(bytes));
    let body_bytes = usize::from(u16_at(bytes, 2));
    let code = Code::from_wire(bytes[16])
        .filter(|code| *code != Code::Ok)
        .ok_or_else(|| unknown("code", bytes[16]))?;
    let processed =
        Processed::from_wire(bytes[17]).ok_or_else(|| unknown("processed", bytes[17]))?;
    let message_bytes = usize::from(u16_at(bytes, 18));
    let retry_after_ms = u32_at(bytes, 20);
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

fn parse_method(bytes: &mut Bytes) -> Result<LaneFrame, WireError> {
    let (method, name_bytes) = (u16_at(bytes, 2), usize::from(bytes[1]));
    let schema = match bytes[0] {
        KIND_TYPED_METHOD => {
            let hash = u64_at(bytes, 8);
            Some(CallSchema::from_parts(bytes[4], hash, LANE_SCHEMA_FLAGS)?)
        }
        _ => None,
    };
    bytes.advance(header_bytes_of(bytes));
    let name = take(bytes, name_bytes);
    if name.is_empty() || std::str::from_utf8(&name).is_err() {
        return Err(WireError::InvalidText("the method name"));
    }
    Ok(LaneFrame::Method {
        method,
        name,
        schema,
    })
}

fn parse_headers(bytes: &mut Bytes) -> Result<LaneFrame, WireError> {
    let flags = HeaderFlags::from_byte(bytes[1])?;
    let (len, id) = (usize::from(u16_at(bytes, 2)), u32_at(bytes, 4));
    bytes.advance(HEADERS_FRAME_BYTES);
    let bytes = take(bytes, len);
    Ok(LaneFrame::Headers { id, flags, bytes })
}

/// Takes a frame that holds nothing but the id of a call.
fn take_id(bytes: &mut Bytes) -> u32 {
    let id = u32_at(bytes, 4);
    bytes.advance(ID_FRAME_BYTES);
    id
}

/// Load report in the header of a reply or a failure.
#[inline(always)]
fn load(bytes: &[u8]) -> LoadReport {
    let field: [u8; LOAD_BYTES] = bytes[8..16].try_into().expect("a range of eight");
    LoadReport::decode(field)
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
