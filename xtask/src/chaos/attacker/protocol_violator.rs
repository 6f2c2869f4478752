//! Attacker that violates the protocol: random bytes, frames that end early or do not belong on a
//! stream, call numbers that are in use, cancels, resets.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, VarInt};
use rpcnet_transport::{
    Code, LoadReport, Processed,
    wire::{self, Hello, LaneRequest, ReplyHeader, RequestFlags, StreamKind},
};
use tokio::time::timeout;

use super::{
    AttackedWorker, STEP_TIMEOUT,
    raw_quic::{preface, request},
};
use crate::chaos::node::{IDEMPOTENT, LONG_CALL, NOT_IDEMPOTENT};

/// Violates the protocol at a worker. What is random follows from the number.
pub(super) async fn violate_protocol(mut worker: AttackedWorker, number: u64) {
    let mut random = Random(number);
    let mut place = None;
    for round in 1_u64.. {
        if let Some(connection) = worker.connected(&mut place).await {
            let junk = random.junk();
            for bytes in malformed_calls(&junk)
                .into_iter()
                .chain(malformed_lanes(&junk))
            {
                let half = random.number() as usize % bytes.len();
                for bytes in [&bytes[..], &bytes[..half]] {
                    send_bidirectional(&worker, &connection, bytes, random.number()).await;
                }
            }
            send_unidirectional(&worker, &connection, &malformed_control(&junk)).await;
            send_unidirectional(&worker, &connection, &unrequested_answer()).await;
            let _ = connection.send_datagram(junk);
            if round.is_multiple_of(ROUNDS_PER_CONNECTION) {
                connection.close(VarInt::from_u32(0x1234), b"violation");
            }
        }
        worker.end_round(ROUND_INTERVAL).await;
    }
}

/// Sends bytes on a stream that ends in order, in the middle, or is not ended.
async fn send_bidirectional(
    worker: &AttackedWorker,
    connection: &Connection,
    bytes: &[u8],
    random: u64,
) {
    let Some((mut send, mut recv)) = worker.open_stream(connection, bytes).await else {
        return;
    };
    match random % 4 {
        0 => drop(send.finish()),
        1 => drop(send.reset(VarInt::from_u32(7))),
        2 => drop(recv.stop(VarInt::from_u32(7))),
        // Both halves are reset as they are dropped.
        _ => {}
    }
}

/// Sends bytes on a unidirectional stream, as servers open them.
async fn send_unidirectional(worker: &AttackedWorker, connection: &Connection, bytes: &[u8]) {
    let opened = timeout(STEP_TIMEOUT, connection.open_uni()).await;
    let opened = opened.ok().and_then(Result::ok);
    if let Some(mut send) = worker.count_action(opened) {
        let _ = timeout(STEP_TIMEOUT, send.write_all(bytes)).await;
    }
}

/// Linear congruential sequence (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 32
    }

    fn junk(&mut self) -> Bytes {
        let len = self.number() % 100;
        (0..len).map(|_| self.number() as u8).collect()
    }
}

/// Streams that are to be calls. None is a call that the director would make: those are counted.
fn malformed_calls(junk: &[u8]) -> Vec<BytesMut> {
    let plain = |method, body| request(method, RequestFlags::default(), None, body);
    let with = |mut bytes: BytesMut, more: &[u8]| {
        bytes.extend_from_slice(more);
        bytes
    };
    let both = RequestFlags {
        streams_requests: true,
        streams_replies: true,
        idempotent: true,
    };
    let mut answers = preface(StreamKind::Call);
    wire::encode_reply(&mut answers, &reply(), 0);
    let mut unknown = plain(NOT_IDEMPOTENT, 0);
    unknown[5] = 0xff;
    vec![
        // Of another protocol, another version, no kind, no frame.
        BytesMut::from(&b"GET / HTTP/1.1\r\n\r\n"[..]),
        BytesMut::from(&[b'r', b'n', 99, 1, 1, 2, 3, 4][..]),
        BytesMut::from(&[b'r', b'n', wire::VERSION, 77, 1, 2, 3, 4][..]),
        with(preface(StreamKind::Call), junk),
        with(BytesMut::from(&b"x"[..]), junk),
        // Too short for the handler, more than was said, less, far too much, not text, flags of
        // another day.
        with(plain(IDEMPOTENT, 3), b"abc"),
        with(plain(NOT_IDEMPOTENT, 3), b"abcdefghijklmnop"),
        with(plain(NOT_IDEMPOTENT, 1 << 20), junk),
        plain(NOT_IDEMPOTENT, u32::MAX as usize),
        with(plain("nothing", junk.len()), junk),
        unknown,
        // The streams of a method that has none, a method with a key that others had.
        with(request(NOT_IDEMPOTENT, both, None, 0), junk),
        request(LONG_CALL, RequestFlags::default(), Some(1), 0),
        // What only a server says.
        answers,
        with(preface(StreamKind::Control), junk),
    ]
}

/// Streams that are to be lanes.
fn malformed_lanes(junk: &[u8]) -> Vec<BytesMut> {
    let lane = || {
        let mut out = preface(StreamKind::Lane);
        wire::encode_lane_method(&mut out, 0, LONG_CALL);
        out
    };
    let call = |out: &mut BytesMut, id, method, body: &[u8]| {
        let request = LaneRequest {
            id,
            method,
            ..LaneRequest::default()
        };
        wire::encode_lane_request(out, &request, body);
    };
    let built = |build: &dyn Fn(&mut BytesMut)| {
        let mut out = lane();
        build(&mut out);
        out
    };
    vec![
        built(&|out| out.extend_from_slice(junk)),
        // Begun and cancelled, as quickly as it goes.
        built(&|out| {
            for id in 0..CANCELLED {
                call(out, id, 0, junk);
                wire::encode_lane_cancel(out, id);
            }
        }),
        // A number in use, one past the limit, a method that was not named, one twice, one out of
        // order.
        built(&|out| (0..2).for_each(|_| call(out, 3, 0, junk))),
        built(&|out| call(out, u32::MAX, 0, junk)),
        built(&|out| call(out, 0, 9, junk)),
        built(&|out| wire::encode_lane_method(out, 0, LONG_CALL)),
        built(&|out| wire::encode_lane_method(out, 7, "x")),
        // What only a server says; receipts and cancels of what there is not.
        built(&|out| wire::encode_lane_reply(out, 0, LoadReport::default(), junk)),
        built(&|out| wire::encode_lane_failure(out, 0, &reply(), b"")),
        built(&|out| {
            wire::encode_lane_received(out, 5);
            wire::encode_lane_cancel(out, 6);
        }),
    ]
}

/// A server's greeting, and that it drains and does not, again and again.
fn malformed_control(junk: &[u8]) -> BytesMut {
    let mut out = preface(StreamKind::Control);
    let hello = Hello {
        draining: true,
        message_bytes_max: 1,
        streams_max: 0,
        lanes_max: 0,
        lane_calls_max: 0,
        lane_body_bytes_max: 1_024,
        has_schemas: true,
        has_headers: true,
    };
    wire::encode_hello(&mut out, &hello);
    for toggle in 0..TOGGLES {
        wire::encode_draining(&mut out, toggle % 2 == 0);
    }
    out.put_slice(junk);
    out
}

/// The answer to a call that there is not.
fn unrequested_answer() -> BytesMut {
    let mut out = preface(StreamKind::LaneReply);
    wire::encode_reply_to(&mut out, 1 << 40, 7);
    wire::encode_reply(&mut out, &reply(), 0);
    out
}

fn reply() -> ReplyHeader {
    ReplyHeader {
        message: "not true".to_owned(),
        ..ReplyHeader::new(Code::Internal, Processed::No)
    }
}

const CANCELLED: u32 = 100;
const TOGGLES: u32 = 500;
const ROUNDS_PER_CONNECTION: u64 = 5;
const ROUND_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_malformed_message_is_empty() {
        for bytes in malformed_calls(b"").into_iter().chain(malformed_lanes(b"")) {
            assert!(!bytes.is_empty());
        }
    }
}
