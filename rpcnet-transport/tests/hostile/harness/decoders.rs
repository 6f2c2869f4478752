//! Decoders: frames do not depend on how their bytes arrive, and memory is bounded.

use std::fmt::Debug;

use bytes::Bytes;
use rpcnet_transport::{
    METADATA_BYTES_MAX, Metadata,
    wire::{
        self, BODY_RESERVE_BYTES, Decoder, Frame, HeaderFlags, LaneDecoder, LaneFrame, StreamKind,
        WireError,
    },
};

use super::script::Script;

/// Largest body that the decoders accept.
const LIMIT: usize = 4096;

/// Decodes the bytes of a stream of any kind.
///
/// # Panics
///
/// If a decoder breaks one of these rules.
pub(crate) fn frames(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let kind = [
        StreamKind::Call,
        StreamKind::Control,
        StreamKind::LaneReply,
        StreamKind::Lane,
    ][script.below(4)];
    let is_answer = script.byte() & 1 != 0;
    let splits = script.bytes(8);
    let rest = &bytes[bytes.len() - script.left()..];
    let frames = however_it_arrives(rest, splits, |arriving| {
        let mut decoder = match is_answer {
            true => Decoder::replies(LIMIT),
            false => Decoder::new(kind, LIMIT),
        };
        let mut frames = Vec::new();
        let decode = || {
            for part in arriving {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame()? {
                    frames.push(frame);
                }
                assert!(decoder.reserved_bytes() <= 2 * (BODY_RESERVE_BYTES + LIMIT));
            }
            decoder.finish()
        };
        let outcome = decode();
        (frames, outcome)
    });
    for frame in &frames {
        if let Frame::Request(_, body) | Frame::Item(body) | Frame::Reply(_, body) = frame {
            assert!(body.len() <= LIMIT);
        }
    }
}

/// Decodes the bytes of a lane.
///
/// # Panics
///
/// If a decoder breaks one of these rules.
pub(crate) fn lane_frames(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let splits = script.bytes(8);
    let rest = &bytes[bytes.len() - script.left()..];
    however_it_arrives(rest, splits, |arriving| {
        let mut decoder = LaneDecoder::new();
        let mut frames: Vec<LaneFrame> = Vec::new();
        let decode = || {
            for part in arriving {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame()? {
                    frames.push(frame);
                }
            }
            decoder.finish()
        };
        let outcome = decode();
        (frames, outcome)
    });
}

/// Decodes the headers of a call. What is valid can be built anew.
///
/// # Panics
///
/// If the decoder breaks a rule.
pub(crate) fn headers(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let flags = HeaderFlags {
        has_trace: script.byte() & 1 != 0,
        wants_reply_metadata: false,
    };
    let rest = &bytes[bytes.len() - script.left()..];
    let Ok((trace, metadata)) = wire::decode_headers(flags, Bytes::copy_from_slice(rest)) else {
        return;
    };
    assert_eq!(trace.is_some(), flags.has_trace);
    if let Some(trace) = trace {
        assert_eq!(trace.to_string().parse(), Ok(trace));
    }
    assert!(metadata.encoded_len() <= METADATA_BYTES_MAX);
    let mut entries = metadata.iter();
    let built = entries.try_fold(Metadata::new(), |built, (key, value)| {
        built.with(key, value)
    });
    assert_eq!(built, Ok(metadata.clone()));
}

/// Checks that the bytes decode to the same frames and the same failure, in one piece and in parts.
/// Returns the frames.
fn however_it_arrives<F: Debug + PartialEq>(
    bytes: &[u8],
    sizes: &[u8],
    decode: impl Fn(Vec<Bytes>) -> (Vec<F>, Result<(), WireError>),
) -> Vec<F> {
    let whole = decode(parts(bytes, &[]));
    assert_eq!(whole, decode(parts(bytes, sizes)));
    assert_eq!(whole, decode(parts(bytes, &[1; 64])));
    whole.0
}

/// Splits the bytes into parts of these sizes and the rest.
fn parts(mut bytes: &[u8], sizes: &[u8]) -> Vec<Bytes> {
    let mut parts = Vec::new();
    for size in sizes {
        let (part, rest) = bytes.split_at(usize::from(*size).min(bytes.len()));
        parts.push(Bytes::copy_from_slice(part));
        bytes = rest;
    }
    parts.push(Bytes::copy_from_slice(bytes));
    parts
}
