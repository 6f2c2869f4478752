//! Frames of a lane: a stream that many small calls share.

mod decoder;
mod encode;
mod frame;
mod parse;

pub use self::{
    decoder::LaneDecoder,
    encode::{
        encode_lane_cancel, encode_lane_failure, encode_lane_headers, encode_lane_method,
        encode_lane_received, encode_lane_reply, encode_lane_request, encode_lane_typed_method,
    },
    frame::{LANE_BODY_BYTES_MAX, LANE_DEADLINE_MAX, LaneFrame, LaneRequest},
};

#[cfg(test)]
mod tests;
