//! Tests of frames: documented bytes, round trips, limits, and invalid bytes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{Code, Priority, Processed, codec::Encoding};

fn request(method: &str, deadline: Option<Duration>) -> RequestHeader {
    RequestHeader {
        method: method.to_owned(),
        attempt: 3,
        flags: RequestFlags {
            idempotent: true,
            ..RequestFlags::default()
        },
        priority: Priority::Critical,
        idempotency_key: None,
        schema: None,
        deadline,
    }
}

fn written(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    match frame {
        Frame::Request(header, body) => {
            encode_request(&mut out, header, body.len());
            out.extend_from_slice(body);
        }
        Frame::Item(body) => {
            encode_item_header(&mut out, body.len());
            out.extend_from_slice(body);
        }
        Frame::Reply(header, body) => {
            encode_reply(&mut out, header, body.len());
            out.extend_from_slice(body);
        }
        Frame::Hello(hello) => encode_hello(&mut out, hello),
        Frame::ReplyTo { lane, id } => encode_reply_to(&mut out, *lane, *id),
        Frame::Draining(draining) => encode_draining(&mut out, *draining),
        Frame::Headers(flags, bytes) => {
            encode_headers(&mut out, *flags, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
    out.freeze()
}

/// Decodes bytes that arrive in pieces of these sizes, repeated.
fn decoded(decoder: Decoder, bytes: &Bytes, pieces: &[usize]) -> Result<Vec<Frame>, WireError> {
    let pieces = in_pieces(bytes, pieces);
    decode_pieces(
        decoder,
        Decoder::push,
        |decoder| match decoder.next_whole_item() {
            Some(item) => Ok(Some(Frame::Item(item))),
            None => decoder.next_frame(),
        },
        Decoder::finish,
        pieces,
    )
}

/// All frames of a decoder that gets these pieces, by its functions.
pub(super) fn decode_pieces<D, F>(
    mut decoder: D,
    push: fn(&mut D, Bytes),
    next_frame: fn(&mut D) -> Result<Option<F>, WireError>,
    finish: fn(&D) -> Result<(), WireError>,
    pieces: Vec<Bytes>,
) -> Result<Vec<F>, WireError> {
    let mut frames = Vec::new();
    for piece in pieces {
        push(&mut decoder, piece);
        while let Some(frame) = next_frame(&mut decoder)? {
            frames.push(frame);
        }
    }
    finish(&decoder)?;
    Ok(frames)
}

/// Bytes in pieces of these sizes, repeated.
pub(super) fn in_pieces(bytes: &Bytes, sizes: &[usize]) -> Vec<Bytes> {
    let mut rest = bytes.clone();
    let mut sizes = sizes.iter().copied().cycle();
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        pieces.push(rest.split_to(size));
    }
    pieces
}

#[test]
fn prefaces_have_the_documented_bytes() {
    for (kind, bytes) in [
        (StreamKind::Call, *b"rn\x01\x01"),
        (StreamKind::Control, *b"rn\x01\x02"),
        (StreamKind::Lane, *b"rn\x01\x03"),
        (StreamKind::LaneReply, *b"rn\x01\x04"),
    ] {
        let preface = Preface { kind };
        assert_eq!(preface.encode(), bytes);
        assert_eq!(Preface::decode(bytes), Ok(preface));
    }
}

#[test]
fn request_and_item_headers_have_the_documented_bytes() {
    let header = request("sum", Some(Duration::from_micros(0x0102)));
    let bytes = written(&Frame::Request(header, Bytes::from_static(b"xy")));
    assert_eq!(
        bytes[..],
        [
            1, 0b100, 3, 3, 2, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, b's', b'u', b'm', b'x', b'y'
        ]
    );
    let keyed = RequestHeader {
        priority: Priority::SheddablePlus,
        idempotency_key: Some(0x0403),
        ..request("sum", None)
    };
    let mut expected = vec![1, 0b11_0100, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    expected.extend_from_slice(b"sum\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0xy");
    assert_eq!(
        written(&Frame::Request(keyed, Bytes::from_static(b"xy")))[..],
        expected
    );
    let typed = RequestHeader {
        idempotency_key: Some(0x0403),
        schema: Some(CallSchema {
            only_checks: true,
            ..CallSchema::unchecked(0x0605)
        }),
        ..request("sum", None)
    };
    let mut expected = vec![1, 0b110_0100, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    expected.extend_from_slice(b"sum\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    expected.extend_from_slice(b"\x05\x06\0\0\0\0\0\0\x04xy");
    assert_eq!(
        written(&Frame::Request(typed, Bytes::from_static(b"xy")))[..],
        expected
    );
    for (streams_requests, streams_replies, expected) in [(true, false, 1), (false, true, 2)] {
        let flags = RequestFlags {
            streams_requests,
            streams_replies,
            idempotent: false,
        };
        let header = RequestHeader {
            flags,
            ..request("sum", None)
        };
        assert_eq!(written(&Frame::Request(header, Bytes::new()))[1], expected);
    }
    assert_eq!(
        written(&Frame::Item(Bytes::from_static(b"z")))[..],
        [2, 0, 0, 0, 1, 0, 0, 0, b'z']
    );
}

#[test]
fn reply_headers_have_the_documented_bytes() {
    let reply = ReplyHeader {
        code: Code::Overloaded,
        processed: Processed::No,
        retry_after: Some(Duration::from_millis(5)),
        load: LoadReport {
            in_flight: 0x0203,
            draining: true,
            busy: true,
            queue_delay: Duration::from_micros(9),
        },
        message: "no".to_owned(),
    };
    assert_eq!(
        written(&Frame::Reply(reply, Bytes::new()))[..],
        [
            3, 7, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 3, 2, 3, 0, 9, 0, 0, 0, b'n', b'o'
        ]
    );
    let mut last = ReplyHeader::new(Code::TooEarly, Processed::Yes);
    last.retry_after = Some(Duration::MAX);
    last.load.draining = true;
    assert_eq!(
        written(&Frame::Reply(last, Bytes::from_static(b"z")))[..],
        [
            3, 13, 2, 0, 1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, b'z'
        ]
    );
}

#[test]
fn headers_of_frames_without_a_body_have_the_documented_bytes() {
    let hello = Hello {
        draining: true,
        message_bytes_max: 0x0201,
        streams_max: 0x0403,
        lanes_max: 5,
        lane_calls_max: 6,
        lane_body_bytes_max: 0x0807,
        has_schemas: true,
        has_headers: true,
    };
    assert_eq!(
        written(&Frame::Hello(hello))[..],
        [4, 1, 5, 3, 1, 2, 0, 0, 3, 4, 0, 0, 6, 0, 7, 8]
    );
    assert_eq!(
        written(&Frame::ReplyTo { lane: 8, id: 7 })[..],
        [5, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(written(&Frame::Draining(true))[..], [6, 1, 0, 0]);
}

#[test]
fn headers_of_calls_have_the_documented_bytes_and_a_limit() {
    let flags = HeaderFlags {
        has_trace: false,
        wants_reply_metadata: true,
    };
    let metadata = Bytes::from_static(b"\x01\x02\x00kvv");
    assert_eq!(
        written(&Frame::Headers(flags, metadata))[..],
        *b"\x07\x02\x06\x00\x00\x00\x00\x00\x01\x02\x00kvv"
    );
    let past = u16::try_from(HEADERS_BYTES_MAX + 1).unwrap().to_le_bytes();
    let mut decoder = Decoder::replies(1 << 20);
    decoder.push(Bytes::copy_from_slice(&[
        7, 0, past[0], past[1], 0, 0, 0, 0,
    ]));
    let error = decoder.next_frame().unwrap_err();
    assert!(matches!(error, WireError::TooLarge { .. }), "{error}");
    let mut decoder = Decoder::replies(1 << 20);
    decoder.push(Bytes::from_static(&[7, 4, 0, 0, 0, 0, 0, 0]));
    let error = decoder.next_frame().unwrap_err();
    assert!(matches!(error, WireError::UnknownValue { .. }), "{error}");
}

#[test]
fn a_wrong_preface_is_named_and_stays_wrong() {
    let table: [(&[u8; 4], PrefaceError); 5] = [
        (b"GET ", PrefaceError::Magic),
        (b"rn\x02\x01", PrefaceError::Version(2)),
        (b"rn\x01\x09", PrefaceError::Kind(9)),
        (b"rn\x01\x02", PrefaceError::Kind(2)),
        (b"r\0\x01\x01", PrefaceError::Magic),
    ];
    for (bytes, expected) in table {
        let mut decoder = Decoder::new(StreamKind::Call, 100);
        decoder.push(Bytes::copy_from_slice(bytes));
        let expected = WireError::Preface(expected);
        assert_eq!(decoder.next_frame(), Err(expected.clone()));
        decoder.push(Bytes::from_static(b"rn\x01\x01"));
        assert_eq!(decoder.next_frame(), Err(expected));
    }
}

#[test]
fn a_length_past_the_limit_is_an_error_of_its_header_alone() {
    for (len, fits) in [(100, true), (101, false), (u32::MAX, false)] {
        let mut header = BytesMut::new();
        encode_item_header(&mut header, len as usize);
        let mut decoder = Decoder::replies(100);
        decoder.push(header.freeze());
        let outcome = decoder.next_frame();
        if fits {
            assert_eq!(outcome, Ok(None));
            assert!(decoder.awaits_body());
        } else {
            let (what, bytes, limit) = ("a message", u64::from(len), 100);
            assert_eq!(outcome, Err(WireError::TooLarge { what, bytes, limit }));
        }
    }
}

#[test]
fn an_announced_body_reserves_little_until_it_arrives() {
    let mut header = BytesMut::new();
    encode_item_header(&mut header, 1 << 30);
    header.extend_from_slice(b"first bytes");
    let mut decoder = Decoder::replies(1 << 30);
    decoder.push(header.freeze());
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.reserved_bytes() <= BODY_RESERVE_BYTES);
}

#[test]
fn a_request_is_known_before_its_body() {
    let header = request("sum", Some(Duration::from_secs(1)));
    let bytes = written(&Frame::Request(header.clone(), Bytes::from_static(b"body")));
    let mut decoder = Decoder::replies(100);
    let mut fed = 0;
    let mut feed = |decoder: &mut Decoder, upto: usize| {
        decoder.push(bytes.slice(fed..upto));
        fed = upto;
        decoder.next_frame().unwrap()
    };
    let body_begins = bytes.len() - 4;
    assert_eq!(feed(&mut decoder, body_begins - 1), None);
    assert_eq!(decoder.awaited_request(), None);
    assert!(!decoder.awaits_body(), "a part of the name is missing");
    for upto in [body_begins, body_begins + 1] {
        assert_eq!(feed(&mut decoder, upto), None);
        assert_eq!(decoder.awaited_request(), Some(&header));
    }
    let whole = Frame::Request(header, Bytes::from_static(b"body"));
    assert_eq!(feed(&mut decoder, bytes.len()), Some(whole));
    assert_eq!(decoder.awaited_request(), None);
}

#[test]
fn a_frame_that_came_at_once_is_not_copied() {
    let bytes = written(&Frame::Item(Bytes::from(vec![7; 1000])));
    let mut decoder = Decoder::replies(1000);
    decoder.push(bytes.clone());
    let Ok(Some(Frame::Item(body))) = decoder.next_frame() else {
        panic!("an item")
    };
    assert_eq!(body.as_ptr(), bytes[8..].as_ptr());
}

#[test]
fn an_end_inside_a_frame_is_an_error() {
    let bytes = written(&Frame::Item(Bytes::from_static(b"whole")));
    for cut in 1..bytes.len() {
        let outcome = decoded(Decoder::replies(100), &bytes.slice(..cut), &[]);
        assert_eq!(outcome, Err(WireError::Truncated), "cut at {cut}");
    }
    assert!(decoded(Decoder::replies(100), &bytes, &[]).is_ok());
    assert_eq!(
        Decoder::new(StreamKind::Call, 1).finish(),
        Err(WireError::Truncated)
    );
}

#[test]
fn unknown_values_are_errors() {
    let frame = Frame::Request(request("m", None), Bytes::new());
    let table: [(usize, u8, WireError); 6] = [
        (0, 0x77, WireError::UnknownKind(0x77)),
        (
            1,
            0x80,
            WireError::UnknownValue {
                field: "flags",
                value: 0x80,
            },
        ),
        // A key or a schema is announced that is not there.
        (1, 0x20, WireError::Truncated),
        (1, 0x40, WireError::Truncated),
        (3, 0, WireError::InvalidText("the method name")),
        (16, 0xff, WireError::InvalidText("the method name")),
    ];
    for (at, value, expected) in table {
        let mut bytes = written(&frame).to_vec();
        bytes[at] = value;
        let outcome = decoded(Decoder::replies(100), &bytes.into(), &[]);
        assert_eq!(outcome, Err(expected), "byte {at}");
    }
}

#[test]
fn unknown_schema_flags_are_errors() {
    let header = RequestHeader {
        schema: Some(CallSchema::unchecked(7)),
        ..request("sum", None)
    };
    let mut bytes = written(&Frame::Request(header, Bytes::new())).to_vec();
    *bytes.last_mut().unwrap() = 0b1000;
    let error = WireError::UnknownValue {
        field: "schema flags",
        value: 0b1000,
    };
    let outcome = decoded(Decoder::replies(100), &bytes.into(), &[]);
    assert_eq!(outcome, Err(error));
}

#[test]
fn a_message_that_is_too_long_is_cut_at_a_character() {
    let header = ReplyHeader {
        message: "ä".repeat(STATUS_MESSAGE_BYTES_MAX),
        ..ReplyHeader::new(Code::Internal, Processed::Yes)
    };
    let bytes = written(&Frame::Reply(header, Bytes::new()));
    let frames = decoded(Decoder::replies(0), &bytes, &[]).unwrap();
    let [Frame::Reply(header, _)] = &frames[..] else {
        panic!("one reply")
    };
    assert_eq!(header.message, "ä".repeat(STATUS_MESSAGE_BYTES_MAX / 2));
}

#[test]
fn retry_after_is_distinct_from_none_and_never() {
    let never = Duration::MAX;
    let longest = Duration::from_millis(u64::from(u32::MAX) - 1);
    let table = [
        (None, None),
        (Some(Duration::ZERO), Some(Duration::from_millis(1))),
        (
            Some(Duration::from_millis(u64::from(u32::MAX))),
            Some(longest),
        ),
        (Some(Duration::from_secs(u64::MAX)), Some(longest)),
        (Some(never), Some(never)),
    ];
    for (retry_after, expected) in table {
        let header = ReplyHeader {
            retry_after,
            ..ReplyHeader::new(Code::Overloaded, Processed::No)
        };
        let bytes = written(&Frame::Reply(header, Bytes::new()));
        let frames = decoded(Decoder::replies(0), &bytes, &[]).unwrap();
        let [Frame::Reply(header, _)] = &frames[..] else {
            panic!("one reply")
        };
        assert_eq!(header.retry_after, expected);
    }
}

#[test]
fn zero_durations_stay_distinct_from_none() {
    let bytes = written(&Frame::Request(
        request("m", Some(Duration::ZERO)),
        Bytes::new(),
    ));
    let frames = decoded(Decoder::replies(0), &bytes, &[]).unwrap();
    let [Frame::Request(header, _)] = &frames[..] else {
        panic!("one request")
    };
    assert_eq!(header.deadline, Some(Duration::from_micros(1)));
}

fn body() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn request_frame() -> impl Strategy<Value = Frame> {
    (
        ".{1,40}",
        any::<u8>(),
        any::<[bool; 3]>(),
        (priority(), any::<Option<u128>>(), schema()),
        any::<Option<u32>>(),
        body(),
    )
        .prop_map(|(method, attempt, [a, b, c], more, us, body)| {
            let flags = RequestFlags {
                streams_requests: a,
                streams_replies: b,
                idempotent: c,
            };
            let deadline = us.map(|us| Duration::from_micros(u64::from(us) + 1));
            Frame::Request(
                RequestHeader {
                    method,
                    attempt,
                    flags,
                    priority: more.0,
                    idempotency_key: more.1,
                    schema: more.2,
                    deadline,
                },
                body,
            )
        })
}

fn frame() -> impl Strategy<Value = Frame> {
    let reply = (
        0..Code::ALL.len(),
        0u8..3,
        any::<Option<u16>>(),
        load(),
        ".{0,40}",
        body(),
    )
        .prop_map(|(code, processed, ms, load, message, body)| {
            let header = ReplyHeader {
                code: Code::ALL[code],
                processed: Processed::from_wire(processed).expect("below three"),
                retry_after: ms.map(|ms| Duration::from_millis(u64::from(ms) + 1)),
                load,
                message,
            };
            Frame::Reply(header, body)
        });
    let hello =
        any::<([bool; 3], [u32; 2], u8, [u16; 2])>().prop_map(|(flags, wide, lanes, of_lane)| {
            Frame::Hello(Hello {
                draining: flags[0],
                message_bytes_max: wide[0],
                streams_max: wide[1],
                lanes_max: lanes,
                lane_calls_max: of_lane[0],
                lane_body_bytes_max: of_lane[1],
                has_schemas: flags[1],
                has_headers: flags[2],
            })
        });
    let answer_to = any::<(u64, u32)>().prop_map(|(lane, id)| Frame::ReplyTo { lane, id });
    let draining = any::<bool>().prop_map(Frame::Draining);
    let item = body().prop_map(Frame::Item);
    let headers = (header_flags(), body()).prop_map(|(flags, bytes)| Frame::Headers(flags, bytes));
    prop_oneof![
        request_frame(),
        item,
        reply,
        hello,
        answer_to,
        draining,
        headers
    ]
}

pub(super) fn header_flags() -> impl Strategy<Value = HeaderFlags> {
    any::<[bool; 2]>().prop_map(|[has_trace, wants_reply_metadata]| HeaderFlags {
        has_trace,
        wants_reply_metadata,
    })
}

fn schema() -> impl Strategy<Value = Option<CallSchema>> {
    prop::option::of(
        any::<(u64, [bool; 3])>().prop_map(|(hash, flags)| CallSchema {
            hash,
            encoding: match flags[0] {
                true => Encoding::Named,
                false => Encoding::Postcard,
            },
            is_checked: flags[1],
            only_checks: flags[2],
        }),
    )
}

pub(super) fn priority() -> impl Strategy<Value = Priority> {
    prop::sample::select(Priority::ALL.to_vec())
}

pub(super) fn load() -> impl Strategy<Value = LoadReport> {
    any::<(u16, bool, bool, u32)>().prop_map(|(in_flight, draining, busy, us)| LoadReport {
        in_flight,
        draining,
        busy,
        queue_delay: Duration::from_micros(u64::from(us)),
    })
}

proptest! {
    #[test]
    fn frames_round_trip_in_any_pieces(
        frames in prop::collection::vec(frame(), 0..8),
        pieces in prop::collection::vec(1usize..200, 0..10),
    ) {
        let mut bytes = Preface { kind: StreamKind::Call }.encode().to_vec();
        for frame in &frames {
            bytes.extend_from_slice(&written(frame));
        }
        let decoder = Decoder::new(StreamKind::Call, 300);
        prop_assert_eq!(decoded(decoder, &bytes.into(), &pieces), Ok(frames));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_pass_the_limit(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        pieces in prop::collection::vec(1usize..100, 0..10),
        kind in 0u8..8,
    ) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            // Most random bytes are of no known kind, which would test little.
            *first = kind;
        }
        if let Ok(frames) = decoded(Decoder::replies(50), &bytes.into(), &pieces) {
            for frame in frames {
                let (Frame::Request(_, body) | Frame::Item(body) | Frame::Reply(_, body)) = frame else {
                    continue;
                };
                prop_assert!(body.len() <= 50);
            }
        }
    }
}
