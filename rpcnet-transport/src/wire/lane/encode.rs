//! Encoding of the frames of a lane.

use bytes::{BufMut, BytesMut};

use super::frame::{
    FAILURE_HEADER_BYTES, HEADERS_FRAME_BYTES, ID_FRAME_BYTES, KIND_CANCEL, KIND_FAILURE,
    KIND_HEADERS, KIND_METHOD, KIND_RECEIVED, KIND_REPLY, KIND_REQUEST, KIND_TYPED_METHOD,
    LaneRequest, METHOD_HEADER_BYTES, REPLY_HEADER_BYTES, REQUEST_HEADER_BYTES,
    TYPED_METHOD_HEADER_BYTES,
};
use crate::wire::{
    CallSchema, HEADERS_BYTES_MAX, LoadReport, METHOD_BYTES_MAX, STATUS_MESSAGE_BYTES_MAX,
    encode::truncate_utf8,
    frame::{FLAG_KEY, HeaderFlags, IDEMPOTENCY_KEY_BYTES, PRIORITY_SHIFT, ReplyHeader},
    retry_after::retry_after_ms,
};

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

/// Appends a frame that assigns a number to a method whose calls have a schema.
///
/// # Panics
///
/// If the name does not have 1 to 255 bytes. Callers check first.
pub fn encode_lane_typed_method(out: &mut BytesMut, method: u16, name: &str, schema: CallSchema) {
    assert!(
        (1..=METHOD_BYTES_MAX).contains(&name.len()),
        "a method name has 1 to 255 bytes"
    );
    out.reserve(TYPED_METHOD_HEADER_BYTES + name.len());
    out.put_u8(KIND_TYPED_METHOD);
    out.put_u8(name.len() as u8);
    out.put_u16_le(method);
    out.put_u8(schema.flags());
    out.put_bytes(0, 3);
    out.put_u64_le(schema.hash);
    out.put_slice(name.as_bytes());
}

/// Appends a request frame.
///
/// # Panics
///
/// If the body has more than [`LANE_BODY_BYTES_MAX`](super::LANE_BODY_BYTES_MAX) bytes. Callers
/// check first.
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

/// Appends the fixed part of the headers of a call or its reply, which `bytes` bytes follow.
///
/// # Panics
///
/// If there are more than [`HEADERS_BYTES_MAX`]. Callers check first.
pub fn encode_lane_headers(out: &mut BytesMut, id: u32, flags: HeaderFlags, bytes: usize) {
    assert!(bytes <= HEADERS_BYTES_MAX, "callers check metadata");
    out.reserve(HEADERS_FRAME_BYTES + bytes);
    out.put_u8(KIND_HEADERS);
    out.put_u8(flags.to_byte());
    out.put_u16_le(bytes as u16);
    out.put_u32_le(id);
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
/// If the body has more than [`LANE_BODY_BYTES_MAX`](super::LANE_BODY_BYTES_MAX) bytes. Callers
/// check first.
pub fn encode_lane_reply(out: &mut BytesMut, id: u32, load: LoadReport, body: &[u8]) {
    out.reserve(REPLY_HEADER_BYTES + body.len());
    out.put_slice(&reply_header(KIND_REPLY, id, load, body.len()));
    out.put_slice(body);
}

/// Appends a failure frame. Its message is cut as in [`encode_reply`](crate::wire::encode_reply).
///
/// # Panics
///
/// If the body has more than [`LANE_BODY_BYTES_MAX`](super::LANE_BODY_BYTES_MAX) bytes. Callers
/// check first.
pub fn encode_lane_failure(out: &mut BytesMut, id: u32, header: &ReplyHeader, body: &[u8]) {
    let message = truncate_utf8(&header.message, STATUS_MESSAGE_BYTES_MAX);
    out.reserve(FAILURE_HEADER_BYTES + message.len() + body.len());
    out.put_slice(&reply_header(KIND_FAILURE, id, header.load, body.len()));
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

fn reply_header(
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
