//! Tests of lane frames: round trips, documented bytes, and invalid bytes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{frame::REPLY_HEADER_BYTES, *};
use crate::{
    Code, Priority, Processed,
    codec::Encoding,
    wire::{
        CallSchema, HeaderFlags, LoadReport, ReplyHeader, WireError,
        call_schema::LANE_SCHEMA_FLAGS,
        tests::{decode_pieces, header_flags, in_pieces, load, priority},
    },
};

fn written(frame: &LaneFrame) -> Bytes {
    let mut out = BytesMut::new();
    match frame {
        LaneFrame::Method {
            method,
            name,
            schema,
        } => {
            let name = std::str::from_utf8(name).unwrap();
            match schema {
                Some(schema) => encode_lane_typed_method(&mut out, *method, name, *schema),
                None => encode_lane_method(&mut out, *method, name),
            }
        }
        LaneFrame::Headers { id, flags, bytes } => {
            encode_lane_headers(&mut out, *id, *flags, bytes.len());
            out.extend_from_slice(bytes);
        }
        LaneFrame::Request(request, body) => encode_lane_request(&mut out, request, body),
        LaneFrame::Cancel { id } => encode_lane_cancel(&mut out, *id),
        LaneFrame::Received { id } => encode_lane_received(&mut out, *id),
        LaneFrame::Reply { id, load, body } => encode_lane_reply(&mut out, *id, *load, body),
        LaneFrame::Failure { id, header, body } => {
            encode_lane_failure(&mut out, *id, header, body);
        }
    }
    out.freeze()
}

/// Decodes bytes that arrive in pieces of these sizes, repeated.
fn decoded(bytes: &Bytes, pieces: &[usize]) -> Result<Vec<LaneFrame>, WireError> {
    decode_pieces(
        LaneDecoder::new(),
        LaneDecoder::push,
        LaneDecoder::next_frame,
        LaneDecoder::finish,
        in_pieces(bytes, pieces),
    )
}

#[test]
fn headers_of_calls_have_the_documented_bytes() {
    let headers = LaneFrame::Headers {
        id: 0x0102,
        flags: HeaderFlags {
            has_trace: true,
            wants_reply_metadata: false,
        },
        bytes: Bytes::from_static(b"ab"),
    };
    assert_eq!(
        written(&headers)[..],
        *b"\x17\x01\x02\x00\x02\x01\x00\x00ab"
    );
}

#[test]
fn request_headers_have_the_documented_bytes() {
    let request = LaneRequest {
        id: 0x0102,
        method: 3,
        attempt: 4,
        idempotent: true,
        priority: Priority::Critical,
        idempotency_key: None,
        deadline: Some(Duration::from_micros(5)),
    };
    assert_eq!(
        written(&LaneFrame::Request(request, Bytes::from_static(b"ab")))[..],
        [16, 4, 4, 0, 2, 1, 0, 0, 3, 0, 2, 0, 5, 0, 0, 0, b'a', b'b']
    );
    let keyed = LaneRequest {
        priority: Priority::Sheddable,
        idempotency_key: Some(0x0201_u128.to_le_bytes()),
        ..request
    };
    let mut bytes = vec![16, 0b11_1100, 4, 0, 2, 1, 0, 0, 3, 0, 2, 0, 5, 0, 0, 0];
    bytes.extend([1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
    assert_eq!(
        written(&LaneFrame::Request(keyed, Bytes::from_static(b"ab")))[..],
        bytes
    );
}

#[test]
fn reply_and_failure_headers_have_the_documented_bytes() {
    let load = LoadReport {
        in_flight: 6,
        ..LoadReport::default()
    };
    let body = Bytes::from_static(b"c");
    assert_eq!(
        written(&LaneFrame::Reply { id: 7, load, body })[..],
        [17, 0, 1, 0, 7, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, b'c']
    );
    let header = Box::new(ReplyHeader {
        code: Code::Overloaded,
        processed: Processed::No,
        retry_after: Some(Duration::from_millis(8)),
        load,
        message: "no".to_owned(),
    });
    let body = Bytes::from_static(b"d");
    assert_eq!(
        written(&LaneFrame::Failure {
            id: 9,
            header,
            body
        })[..],
        [
            18, 0, 1, 0, 9, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2, 0, 8, 0, 0, 0, b'n', b'o',
            b'd'
        ]
    );
}

#[test]
fn headers_of_frames_without_a_body_have_the_documented_bytes() {
    assert_eq!(
        written(&LaneFrame::Cancel { id: 10 })[..],
        [19, 0, 0, 0, 10, 0, 0, 0]
    );
    assert_eq!(
        written(&LaneFrame::Received { id: 10 })[..],
        [21, 0, 0, 0, 10, 0, 0, 0]
    );
    let method = |schema| LaneFrame::Method {
        method: 11,
        name: Bytes::from_static(b"sum"),
        schema,
    };
    assert_eq!(written(&method(None))[..], [20, 3, 11, 0, b's', b'u', b'm']);
    let schema = CallSchema {
        encoding: Encoding::Named,
        is_checked: true,
        ..CallSchema::unchecked(0x0203)
    };
    assert_eq!(
        written(&method(Some(schema)))[..],
        [
            22, 3, 11, 0, 3, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0, b's', b'u', b'm'
        ]
    );
}

#[test]
fn a_method_of_a_lane_cannot_only_ask_for_the_schema() {
    let mut bytes = vec![22, 1, 0, 0, 0b100, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0, b's'];
    let unknown = WireError::UnknownValue {
        field: "schema flags",
        value: 0b100,
    };
    assert_eq!(decoded(&bytes.clone().into(), &[]), Err(unknown));
    bytes[4] = 0b001;
    assert!(decoded(&bytes.into(), &[]).is_ok());
}

#[test]
fn invalid_frames_are_named() {
    let failure = |at: usize, value: u8| {
        let header = Box::new(ReplyHeader {
            message: "x".to_owned(),
            ..ReplyHeader::new(Code::Internal, Processed::Yes)
        });
        let frame = LaneFrame::Failure {
            id: 0,
            header,
            body: Bytes::new(),
        };
        let mut bytes = written(&frame).to_vec();
        bytes[at] = value;
        decoded(&bytes.into(), &[])
    };
    let unknown = |field, value| Err(WireError::UnknownValue { field, value });
    assert_eq!(failure(0, 99), Err(WireError::UnknownKind(99)));
    assert_eq!(failure(0, 1), Err(WireError::UnknownKind(1)));
    assert_eq!(failure(16, 200), unknown("code", 200));
    assert_eq!(failure(16, 0), unknown("code", 0), "ok is no failure");
    assert_eq!(failure(17, 9), unknown("processed", 9));
    assert_eq!(
        failure(24, 0xff),
        Err(WireError::InvalidText("the status message"))
    );
    assert_eq!(
        failure(19, 0xff),
        Err(WireError::TooLarge {
            what: "a status message",
            bytes: 0xff01,
            limit: 1024,
        })
    );
    let request = |flags: u8, more: &[u8]| {
        let mut bytes = vec![16, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(more);
        decoded(&bytes.into(), &[])
    };
    for flags in [1, 2, 0x40, 0x80] {
        assert_eq!(request(flags, &[]), unknown("flags", flags));
    }
    assert_eq!(request(0x20, &[7; 15]), Err(WireError::Truncated));
    assert!(request(0x20, &[7; 16]).is_ok());
    let nameless = Bytes::from_static(&[20, 0, 0, 0]);
    assert_eq!(
        decoded(&nameless, &[]),
        Err(WireError::InvalidText("the method name"))
    );
    let cut = Bytes::from_static(&[19, 0, 0]);
    assert_eq!(decoded(&cut, &[]), Err(WireError::Truncated));
}

#[test]
fn a_frame_that_came_in_one_read_is_not_copied() {
    let body = Bytes::from(vec![7; 100]);
    let frame = LaneFrame::Reply {
        id: 1,
        load: LoadReport::default(),
        body,
    };
    let bytes = written(&frame);
    let mut decoder = LaneDecoder::new();
    decoder.push(bytes.clone());
    let Ok(Some(LaneFrame::Reply { body, .. })) = decoder.next_frame() else {
        panic!("one reply")
    };
    assert_eq!(body.as_ptr(), bytes[REPLY_HEADER_BYTES..].as_ptr());
}

fn body() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn frame() -> impl Strategy<Value = LaneFrame> {
    let schema = prop::option::of((any::<u64>(), 0..=LANE_SCHEMA_FLAGS).prop_map(
        |(hash, flags)| CallSchema::from_parts(flags, hash, LANE_SCHEMA_FLAGS).expect("permitted"),
    ));
    let method = (any::<u16>(), "[a-zä]{1,40}", schema).prop_map(|(method, name, schema)| {
        LaneFrame::Method {
            method,
            name: name.into(),
            schema,
        }
    });
    let request = (
        any::<(u32, u16, u8, bool)>(),
        (priority(), any::<Option<[u8; 16]>>()),
        any::<Option<u32>>(),
        body(),
    )
        .prop_map(|((id, method, attempt, idempotent), more, us, body)| {
            let request = LaneRequest {
                id,
                method,
                attempt,
                idempotent,
                priority: more.0,
                idempotency_key: more.1,
                deadline: us.map(|us| Duration::from_micros(u64::from(us.max(1)))),
            };
            LaneFrame::Request(request, body)
        });
    let cancel = any::<u32>().prop_map(|id| LaneFrame::Cancel { id });
    let received = any::<u32>().prop_map(|id| LaneFrame::Received { id });
    let reply = (any::<u32>(), load(), body()).prop_map(|(id, load, body)| LaneFrame::Reply {
        id,
        load,
        body,
    });
    let failure = (
        any::<u32>(),
        1..Code::ALL.len(),
        any::<Option<u16>>(),
        load(),
        ".{0,40}",
        body(),
    )
        .prop_map(|(id, code, ms, load, message, body)| LaneFrame::Failure {
            id,
            header: Box::new(ReplyHeader {
                code: Code::ALL[code],
                processed: Processed::Maybe,
                retry_after: ms.map(|ms| Duration::from_millis(u64::from(ms) + 1)),
                load,
                message,
            }),
            body,
        });
    let headers = (any::<u32>(), header_flags(), body())
        .prop_map(|(id, flags, bytes)| LaneFrame::Headers { id, flags, bytes });
    prop_oneof![method, headers, request, cancel, received, reply, failure]
}

proptest! {
    #[test]
    fn frames_round_trip_in_any_pieces(
        frames in prop::collection::vec(frame(), 0..8),
        pieces in prop::collection::vec(1usize..200, 0..10),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| written(frame).to_vec()).collect();
        prop_assert_eq!(decoded(&bytes.into(), &pieces), Ok(frames));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_read_the_same_in_any_pieces(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        pieces in prop::collection::vec(1usize..100, 0..10),
        kind in 14u8..25,
    ) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(decoded(&bytes, &pieces), decoded(&bytes, &[]));
    }
}
