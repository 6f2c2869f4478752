//! Encoding of the frames of a call with a stream of its own.

use bytes::{BufMut, BytesMut};

use super::{
    HEADERS_BYTES_MAX, METHOD_BYTES_MAX, STATUS_MESSAGE_BYTES_MAX,
    call_schema::CALL_SCHEMA_BYTES,
    frame::{
        FEATURE_HEADERS, FEATURE_SCHEMAS, FLAG_KEY, FLAG_SCHEMA, HEADERS_FRAME_BYTES, HeaderFlags,
        Hello, IDEMPOTENCY_KEY_BYTES, ITEM_HEADER_BYTES, KIND_DRAINING, KIND_HEADERS, KIND_HELLO,
        KIND_ITEM, KIND_REPLY, KIND_REPLY_TO, KIND_REQUEST, PRIORITY_SHIFT, REPLY_HEADER_BYTES,
        REQUEST_HEADER_BYTES, ReplyHeader, RequestHeader,
    },
    retry_after::retry_after_ms,
};

/// Appends the header of a request whose body has `body_bytes` bytes; the body follows unchanged.
///
/// # Panics
///
/// If the method name is empty or longer than 255 bytes, or the body longer than `u32::MAX`.
/// Callers check first.
pub fn encode_request(out: &mut BytesMut, header: &RequestHeader, body_bytes: usize) {
    let method = header.method.as_bytes();
    assert!(
        !method.is_empty() && method.len() <= METHOD_BYTES_MAX,
        "a method name has 1 to 255 bytes"
    );
    let parts_bytes = IDEMPOTENCY_KEY_BYTES + CALL_SCHEMA_BYTES;
    out.reserve(REQUEST_HEADER_BYTES + method.len() + parts_bytes);
    let parts =
        header.idempotency_key.map_or(0, |_| FLAG_KEY) | header.schema.map_or(0, |_| FLAG_SCHEMA);
    out.put_u8(KIND_REQUEST);
    out.put_u8(header.flags.to_byte() | header.priority.to_wire() << PRIORITY_SHIFT | parts);
    out.put_u8(header.attempt);
    out.put_u8(method.len() as u8);
    out.put_u32_le(body_len(body_bytes));
    // A deadline that has just passed is written as one microsecond: zero means none.
    let deadline_us = header.deadline.map_or(0, |left| {
        u64::try_from(left.as_micros()).unwrap_or(u64::MAX).max(1)
    });
    out.put_u64_le(deadline_us);
    out.put_slice(method);
    if let Some(key) = header.idempotency_key {
        out.put_u128_le(key);
    }
    if let Some(schema) = header.schema {
        out.put_slice(&schema.encode());
    }
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

/// Appends the header of a reply whose body has `body_bytes` bytes. A message longer than
/// [`STATUS_MESSAGE_BYTES_MAX`] is cut at a character.
///
/// # Panics
///
/// If the body has more than `u32::MAX` bytes.
pub fn encode_reply(out: &mut BytesMut, header: &ReplyHeader, body_bytes: usize) {
    let message = truncate_utf8(&header.message, STATUS_MESSAGE_BYTES_MAX);
    out.reserve(REPLY_HEADER_BYTES + message.len());
    out.put_u8(KIND_REPLY);
    out.put_u8(header.code.to_wire());
    out.put_u8(header.processed.to_wire());
    out.put_u8(0);
    out.put_u32_le(body_len(body_bytes));
    out.put_u32_le(retry_after_ms(header.retry_after));
    out.put_u16_le(message.len() as u16);
    out.put_u16_le(0);
    out.put_slice(&header.load.encode());
    out.put_slice(message.as_bytes());
}

/// Appends a hello frame.
pub fn encode_hello(out: &mut BytesMut, hello: &Hello) {
    out.put_u8(KIND_HELLO);
    out.put_u8(u8::from(hello.draining));
    out.put_u8(hello.lanes_max);
    let feature = |has: bool, bit| if has { bit } else { 0 };
    out.put_u8(
        feature(hello.has_schemas, FEATURE_SCHEMAS) | feature(hello.has_headers, FEATURE_HEADERS),
    );
    out.put_u32_le(hello.message_bytes_max);
    out.put_u32_le(hello.streams_max);
    out.put_u16_le(hello.lane_calls_max);
    out.put_u16_le(hello.lane_body_bytes_max);
}

/// Appends a frame that names the call of a lane that the following reply belongs to.
pub fn encode_reply_to(out: &mut BytesMut, lane: u64, id: u32) {
    out.put_u32_le(u32::from(KIND_REPLY_TO));
    out.put_u32_le(id);
    out.put_u64_le(lane);
}

/// Appends a frame with the drain state of the server.
pub fn encode_draining(out: &mut BytesMut, draining: bool) {
    out.put_u8(KIND_DRAINING);
    out.put_u8(u8::from(draining));
    out.put_u16_le(0);
}

/// Appends the fixed part of the headers of a request or a reply, which `bytes` bytes follow.
///
/// # Panics
///
/// If there are more than [`HEADERS_BYTES_MAX`](super::HEADERS_BYTES_MAX). Callers check first.
pub fn encode_headers(out: &mut BytesMut, flags: HeaderFlags, bytes: usize) {
    assert!(bytes <= HEADERS_BYTES_MAX, "callers check metadata");
    out.reserve(HEADERS_FRAME_BYTES + bytes);
    out.put_u8(KIND_HEADERS);
    out.put_u8(flags.to_byte());
    out.put_u16_le(bytes as u16);
    out.put_u32_le(0);
}

fn body_len(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("the length of a body fits 32 bits")
}

pub(super) fn truncate_utf8(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
