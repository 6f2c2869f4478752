//! Frames of a lane, and the fixed bytes of their headers.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Priority,
    wire::{
        CallSchema, LoadReport,
        frame::{HeaderFlags, IDEMPOTENCY_KEY_BYTES, ReplyHeader},
    },
};

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
        /// Schema of its calls, if they are typed.
        schema: Option<CallSchema>,
    },
    /// Headers of the request, the reply or the failure that follows.
    Headers {
        /// Id of the call.
        id: u32,
        /// Meaning of the bytes.
        flags: HeaderFlags,
        /// A trace context, if the flags say so, and metadata. The sender may have broken their
        /// rules and limits, for which the receiver fails the call.
        bytes: Bytes,
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
    /// Ends a call with a failure. The header's code is not [`Code::Ok`](crate::Code::Ok).
    Failure {
        /// Id of the call.
        id: u32,
        /// Header of the failure.
        header: Box<ReplyHeader>,
        /// Details of the failure.
        body: Bytes,
    },
}

pub(super) const KIND_REQUEST: u8 = 16;
pub(super) const KIND_REPLY: u8 = 17;
pub(super) const KIND_FAILURE: u8 = 18;
pub(super) const KIND_CANCEL: u8 = 19;
pub(super) const KIND_METHOD: u8 = 20;
pub(super) const KIND_RECEIVED: u8 = 21;
pub(super) const KIND_TYPED_METHOD: u8 = 22;
pub(super) const KIND_HEADERS: u8 = 23;

pub(super) const REQUEST_HEADER_BYTES: usize = 16;
pub(super) const REPLY_HEADER_BYTES: usize = 16;
pub(super) const FAILURE_HEADER_BYTES: usize = 24;
pub(super) const ID_FRAME_BYTES: usize = 8;
pub(super) const METHOD_HEADER_BYTES: usize = 4;
pub(super) const TYPED_METHOD_HEADER_BYTES: usize = 16;
pub(super) const HEADERS_FRAME_BYTES: usize = 8;

/// Same bit as in the flags of a call with a stream of its own.
pub(super) const IDEMPOTENT: u8 = 1 << 2;
