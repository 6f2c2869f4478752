//! Wire format: the framing of calls, without input or output.
//!
//! Every QUIC stream begins with a [`Preface`] of four bytes: two of magic, the version, and the
//! kind of the stream. A stream with a wrong preface is closed with an application error code. The
//! preface is followed by frames, each with a fixed little-endian header that begins with its kind:
//!
//! ```text
//! Request  16  kind=1 | flags | attempt | method_len u8 | body_len u32 | deadline_us u64
//!              | method | [key] | [schema] | body
//! Item      8  kind=2 | 0 | 0 | 0 | body_len u32 | body
//! Reply    24  kind=3 | code | processed | 0 | body_len u32
//!              | retry_after_ms u32 | message_len u16 | 0 u16 | load | message | body
//! Hello    16  kind=4 | flags | lanes_max | features | message_bytes_max u32 | streams_max u32
//!              | lane_calls_max u16 | lane_body_bytes_max u16
//! ReplyTo  16  kind=5 | 0 | 0 | 0 | id u32 | lane u64
//! Draining  4  kind=6 | draining | 0 | 0
//! Headers   8  kind=7 | header_flags | len u16 | 0 u32 | [trace] | metadata
//! ```
//!
//! A caller writes one `Request`, then for a call that streams its requests any number of `Item`s,
//! and finishes its half. The server writes any number of `Item`s (if the method streams its
//! replies) and exactly one `Reply`, always the last frame: a stream that ends without it was cut.
//! `deadline_us` is relative (the time left when the frame was written), so clocks need not agree;
//! zero means none. A server sends one `Hello` per connection, on a control stream of its own,
//! which any number of `Draining` frames may follow.
//!
//! A `Headers` may come before the `Request` and, if the caller reads metadata of the reply, before
//! the `Reply`. Its flags: 1 the 25 bytes of a [trace context](crate::TraceContext) are the first
//! ones, 2 the caller reads metadata of the reply. Metadata is, for each key, `key_len u8 |
//! value_len u16 | key | value`. Callers send headers to servers whose `Hello` has the feature.
//!
//! Small calls share a stream, a *lane*, of which a connection has a few:
//!
//! ```text
//! Request  16  kind=16 | flags | attempt | 0 | id u32 | method u16 | body_len u16
//!              | deadline_us u32 | [key] | body
//! Reply    16  kind=17 | 0 | body_len u16 | id u32 | load | body
//! Failure  24  kind=18 | 0 | body_len u16 | id u32 | load | code | processed | message_len u16
//!              | retry_after_ms u32 | message | body
//! Cancel    8  kind=19 | 0 | 0 | 0 | id u32
//! Method    4  kind=20 | name_len u8 | method u16 | name
//! Received  8  kind=21 | 0 | 0 | 0 | id u32
//! Typed    16  kind=22 | name_len u8 | method u16 | schema_flags | 0 | 0 u16 | hash u64 | name
//! Headers   8  kind=23 | header_flags | len u16 | id u32 | [trace] | metadata
//! ```
//!
//! A caller names a method once per lane, with the next number, and calls it by that number. A
//! `Typed` names it together with the schema that its calls are made with. Every `Request` gets one
//! `Reply` or `Failure`, in any order, unless it was cancelled. A reply that is too large for the
//! lane comes on a unidirectional stream of its own, as a `ReplyTo` and a `Reply`, and the caller
//! acknowledges it on the lane by `Received`: only then is the id free again. A `Headers` stands
//! right before the `Request`, `Reply` or `Failure` of the same id. A server that could
//! not deliver it says so by a `Failure`. A server that ends its half of a lane thereby says that
//! the requests that it has not answered were not processed.
//!
//! `flags` of a request: 1 it streams its requests, 2 its replies (neither on a lane), 4 it is
//! idempotent, 8 and 16 its [`Priority`](crate::Priority) (0 critical, 1 critical plus, 2 sheddable
//! plus, 3 sheddable), 32 there is a `key` of 16 bytes, 64 there is a `schema` of nine; neither is
//! counted in the lengths.
//! `retry_after_ms` is zero if nothing is said, `u32::MAX` if the caller must not retry.
//!
//! A `schema` is `hash u64 | schema_flags`: the hash of the caller's
//! [schema](crate::schema::MethodSchema) of the method; flag 1 its messages are in the named
//! encoding, 2 the caller has compared its schema with the server's, 4 it only asks whether they
//! are equal. Unless they are, or were compared, the server rejects the call as
//! [incompatible](crate::Code::Incompatible), with its schema as the details. `features` of a
//! `Hello`: 1 the server knows schemas; to one that does not, calls are sent without them; 2 it
//! takes headers.
//!
//! `load` is a [`LoadReport`]: `in_flight u16 | flags u8 | 0 | queue_delay_us u32`.
//!
//! Lengths are checked against the limit when the header is read, before anything is allocated for
//! the body. A receiver that gets more than was announced resets the stream or the lane.
//!
//! With the feature `unstable-wire` this module is public for tools and fuzzers. Its types follow
//! the version of the wire format, not that of the crate.

mod call_schema;
mod decoder;
mod encode;
mod frame;
mod header;
mod headers;
mod lane;
mod load_report;
mod retry_after;

pub(crate) use self::frame::ITEM_HEADER_BYTES;
pub use self::{
    call_schema::CallSchema,
    decoder::Decoder,
    encode::{
        encode_draining, encode_headers, encode_hello, encode_item_header, encode_reply,
        encode_reply_to, encode_request,
    },
    frame::{
        Frame, HeaderFlags, Hello, Preface, PrefaceError, ReplyHeader, RequestFlags, RequestHeader,
        StreamKind,
    },
    headers::decode_headers,
    lane::{
        LANE_BODY_BYTES_MAX, LANE_DEADLINE_MAX, LaneDecoder, LaneFrame, LaneRequest,
        encode_lane_cancel, encode_lane_failure, encode_lane_headers, encode_lane_method,
        encode_lane_received, encode_lane_reply, encode_lane_request, encode_lane_typed_method,
    },
    load_report::LoadReport,
};

use thiserror::Error;

use crate::metadata::TRACE_CONTEXT_BYTES;

/// Version of the framing of this crate. Incompatible changes also change the ALPN name.
pub const VERSION: u8 = 1;

/// First two bytes of every stream.
pub const MAGIC: [u8; 2] = *b"rn";

/// Length of a stream's preface, in bytes.
pub const PREFACE_BYTES: usize = 4;

/// Longest method name, in bytes. The header has one byte for its length.
pub const METHOD_BYTES_MAX: usize = 255;

/// Longest message of a status, in bytes. Longer ones are cut when written and rejected when read.
pub const STATUS_MESSAGE_BYTES_MAX: usize = 1024;

/// Most bytes of headers without their fixed part: a trace context and metadata.
pub const HEADERS_BYTES_MAX: usize = TRACE_CONTEXT_BYTES + crate::METADATA_BYTES_MAX;

/// Memory reserved for a body before its bytes arrive, in bytes. A header that announces a large
/// body costs its receiver no more than this.
pub const BODY_RESERVE_BYTES: usize = 64 * 1024;

/// Reason for which bytes are not a frame. The sender is at fault; the stream cannot be read any
/// further.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// The stream does not start with a preface of this protocol and version.
    #[error("not a stream of this protocol: {0}")]
    Preface(#[from] PrefaceError),
    /// A frame starts with a byte of no known kind.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// A header announces more than the limit. Nothing was allocated for it.
    #[error("{what} of {bytes} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Part that is too large.
        what: &'static str,
        /// Announced length.
        bytes: u64,
        /// Largest accepted length.
        limit: u64,
    },
    /// A method name or a status message is empty where it must not be, or is not UTF-8.
    #[error("{0} is empty or not valid UTF-8")]
    InvalidText(&'static str),
    /// A field has a value that is unknown in this version.
    #[error("field {field} has the unknown value {value}")]
    UnknownValue {
        /// Name of the field.
        field: &'static str,
        /// Value that was read.
        value: u8,
    },
    /// Headers that are no metadata or no trace context.
    #[error("{0}")]
    Headers(#[from] crate::MetadataError),
    /// A valid frame that is not allowed here.
    #[error("unexpected frame")]
    UnexpectedFrame,
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
}

#[cfg(test)]
mod tests;
