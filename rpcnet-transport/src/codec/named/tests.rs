//! Tests of the named encoding: forms of values, hostile bytes, and types that differ.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    ffi::CString,
    fmt,
    marker::PhantomData,
    net::{Ipv4Addr, SocketAddr},
};

use proptest::prelude::*;
use serde::{Deserialize, Deserializer, de::IgnoredAny, ser::SerializeStruct};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct UnitStruct;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NoFields {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NoPositions();

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Newtype(u8);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: u8,
    y: i8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Every {
    Unit,
    Newtype(Option<u8>),
    Tuple(u8, bool),
    Struct { a: u8 },
    Empty(),
}

/// As deep as the bytes say, by each kind of nesting.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Deep {
    End,
    Enum(Box<Self>),
    Sequence(Vec<Self>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct DeepStruct {
    next: Option<Box<Self>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct DeepSequence(Vec<Self>);

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    to_named(value).unwrap().to_vec()
}

fn check<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: &T) {
    assert_eq!(from_named::<T>(&encoded(value)).as_ref(), Ok(value));
}

fn check_form<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T, form: &[u8]) {
    assert_eq!(encoded(&value), form, "{value:?}");
    check(&value);
}

fn error<T: DeserializeOwned>(bytes: &[u8]) -> String {
    match from_named::<T>(bytes) {
        Ok(_) => panic!("{bytes:02x?} was decoded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_kind_of_value_has_its_form() {
    check_form((), b"\xc0");
    check_form(UnitStruct, b"\x90");
    check_form(PhantomData::<u8>, b"\x90");
    check_form(NoFields {}, b"\x80");
    check_form(NoPositions(), b"\x90");
    check_form(Newtype(7), b"\x07");
    check_form(Point { x: 1, y: -1 }, b"\x82\xa1x\x01\xa1y\xff");
    check_form(true, b"\xc3");
    check_form('é', b"\xa2\xc3\xa9");
    check_form(1.5f32, b"\xca\x3f\xc0\x00\x00");
    check_form(-2.0f64, b"\xcb\xc0\x00\x00\x00\x00\x00\x00\x00");
    check_form("ab".to_owned(), b"\xa2ab");
    check_form(CString::new("ab").unwrap(), b"\xc4\x02ab");
    check_form(vec![1u8, 255], b"\x92\x01\xcc\xff");
    check_form([1u8; 3], b"\x93\x01\x01\x01");
    check_form(
        BTreeMap::from([((1u8, 'a'), false)]),
        b"\x81\x92\x01\xa1a\xc2",
    );
    check_form(
        u128::MAX - 1,
        b"\xc4\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
    );
    check_form(
        -2i128,
        b"\xc4\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
    );
    check_form(Every::Unit, b"\xa4Unit");
    check_form(Every::Newtype(None), b"\x81\xa7Newtype\xc0");
    check_form(Every::Tuple(1, true), b"\x81\xa5Tuple\x92\x01\xc3");
    check_form(Every::Struct { a: 9 }, b"\x81\xa6Struct\x81\xa1a\x09");
    check_form(Every::Empty(), b"\x81\xa5Empty\x90");
    // Not as text: the encoding is not human readable.
    check_form(Ipv4Addr::LOCALHOST, b"\x94\x7f\x00\x00\x01");
    check_form(
        SocketAddr::from(([1, 2, 3, 4], 80)),
        b"\x81\xa2V4\x92\x94\x01\x02\x03\x04\x50",
    );
}

#[test]
fn an_option_whose_content_is_nil_is_read_as_none() {
    check_form(None::<u8>, b"\xc0");
    check_form(Some(3u8), b"\x03");
    check_form(Some(Some(Some(4u8))), b"\x04");
    check_form(Some(UnitStruct), b"\x90");
    for form in [
        encoded(&None::<()>),
        encoded(&Some(())),
        encoded(&None::<Option<u8>>),
        encoded(&Some(None::<u8>)),
    ] {
        assert_eq!(form, b"\xc0");
    }
    assert_eq!(from_named(b"\xc0"), Ok(None::<()>));
    assert_eq!(from_named(b"\xc0"), Ok(None::<Option<u8>>));
}

#[test]
fn a_unit_struct_is_read_from_nil_too_but_not_nil_from_a_unit_struct() {
    assert_eq!(from_named(b"\xc0"), Ok(UnitStruct));
    assert_eq!(from_named(b"\xc0"), Ok(PhantomData::<u8>));
    assert_eq!(from_named(b"\x90"), Ok(NoPositions()));
    assert_eq!(
        error::<()>(b"\x90"),
        "invalid type: sequence, expected unit"
    );
}

#[test]
fn numbers_have_the_shortest_form() {
    for (value, form) in [
        (0i64, &b"\x00"[..]),
        (127, b"\x7f"),
        (128, b"\xcc\x80"),
        (255, b"\xcc\xff"),
        (256, b"\xcd\x01\x00"),
        (65_535, b"\xcd\xff\xff"),
        (65_536, b"\xce\x00\x01\x00\x00"),
        (u32::MAX.into(), b"\xce\xff\xff\xff\xff"),
        (1 << 32, b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        (i64::MAX, b"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"),
        (-1, b"\xff"),
        (-32, b"\xe0"),
        (-33, b"\xd0\xdf"),
        (-128, b"\xd0\x80"),
        (-129, b"\xd1\xff\x7f"),
        (-32_768, b"\xd1\x80\x00"),
        (-32_769, b"\xd2\xff\xff\x7f\xff"),
        (i32::MIN.into(), b"\xd2\x80\x00\x00\x00"),
        (-2_147_483_649, b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"),
        (i64::MIN, b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
    ] {
        check_form(value, form);
    }
}

#[test]
fn lengths_have_the_shortest_form() {
    for (len, head) in [
        (31, &b"\xbf"[..]),
        (32, b"\xd9\x20"),
        (255, b"\xd9\xff"),
        (256, b"\xda\x01\x00"),
        (65_535, b"\xda\xff\xff"),
        (65_536, b"\xdb\x00\x01\x00\x00"),
    ] {
        check_form("a".repeat(len), &[head, &vec![b'a'; len]].concat());
    }
    for (len, sequence, map) in [
        (15u32, &b"\x9f"[..], &b"\x8f"[..]),
        (16, b"\xdc\x00\x10", b"\xde\x00\x10"),
        (65_535, b"\xdc\xff\xff", b"\xde\xff\xff"),
        (65_536, b"\xdd\x00\x01\x00\x00", b"\xdf\x00\x01\x00\x00"),
    ] {
        check_form(
            vec![true; len as usize],
            &[sequence, &vec![0xc3; len as usize]].concat(),
        );
        let pairs: BTreeMap<u32, ()> = (0..len).map(|key| (key, ())).collect();
        assert!(encoded(&pairs).starts_with(map));
        check(&pairs);
    }
}

#[test]
fn a_length_that_is_not_known_beforehand_is_filled_in() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        a: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }
    let rest = BTreeMap::from([("b".to_owned(), 2)]);
    check_form(Flat { a: 1, rest }, b"\x82\xa1a\x01\xa1b\x02");
}

#[test]
fn a_value_that_no_decoder_accepts_is_not_encoded() {
    /// Announces fields, of which it writes one.
    struct Liar(usize);
    impl Serialize for Liar {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct("Liar", self.0)?;
            SerializeStruct::serialize_field(&mut fields, "a", &1)?;
            SerializeStruct::end(fields)
        }
    }
    #[derive(Serialize)]
    #[serde(rename = "_ExtStruct")]
    struct Extension((i8, CString));
    let error = |error: Result<Bytes, CodecError>| {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), CodecErrorKind::Encode);
        error.to_string()
    };
    assert!(to_named(&Liar(1)).is_ok());
    assert_eq!(error(to_named(&Liar(2))), "unexpected end of the bytes");
    assert_eq!(
        error(to_named(&Liar(0))),
        "more values written than announced"
    );
    let extension = Extension((1, CString::from(c"ab")));
    assert_eq!(
        error(to_named(&extension)),
        "reserved byte or extension type 0xd5"
    );
}

#[test]
fn types_that_need_to_see_what_comes_are_decoded() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Nothing(()),
        Number(i64),
        Text(String),
        Point(Point),
        Nested(Option<Vec<Self>>),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        A { point: Point, unit: UnitStruct },
    }
    check(&vec![
        Any::Nothing(()),
        Any::Number(-300),
        Any::Text("t".to_owned()),
        Any::Point(Point { x: 1, y: 2 }),
        Any::Nested(Some(vec![Any::Number(1)])),
    ]);
    check(&Tagged::A {
        point: Point { x: 1, y: 2 },
        unit: UnitStruct,
    });
}

#[test]
fn unknown_variants_without_content_are_read_as_the_other_one() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Old {
        Known,
        #[serde(other)]
        Other,
    }
    assert_eq!(from_named(b"\xa5Known"), Ok(Old::Known));
    assert_eq!(from_named(&encoded(&Every::Unit)), Ok(Old::Other));
    assert_eq!(from_named(&encoded(&Every::Newtype(None))), Ok(Old::Other));
    // As in JSON.
    assert_eq!(
        error::<Old>(&encoded(&Every::Tuple(1, true))),
        "wrong msgpack marker FixArray(2)"
    );
}

fn deep_enum(levels: usize) -> Deep {
    (0..levels).fold(Deep::End, |inner, _| Deep::Enum(Box::new(inner)))
}

#[test]
fn nesting_is_limited_in_both_directions() {
    let too_deep = "nested deeper than 128 levels";
    check(&deep_enum(DEPTH_MAX));
    let error = to_named(&deep_enum(DEPTH_MAX + 1)).unwrap_err();
    assert_eq!(error.kind(), CodecErrorKind::Encode);
    assert_eq!(error.to_string(), too_deep);
    let structs = |levels| {
        let last = DeepStruct { next: None };
        (1..levels).fold(last, |inner, _| DeepStruct {
            next: Some(Box::new(inner)),
        })
    };
    check(&structs(DEPTH_MAX));
    let error = to_named(&structs(DEPTH_MAX + 1)).unwrap_err();
    assert_eq!(error.to_string(), too_deep);
    let arrays = |levels| vec![0x91; levels].into_iter().chain([0x90]).collect();
    let deep: Vec<u8> = arrays(DEPTH_MAX - 1);
    assert!(from_named::<DeepSequence>(&deep).is_ok());
    let deep: Vec<u8> = arrays(DEPTH_MAX);
    let error = from_named::<DeepSequence>(&deep).unwrap_err();
    assert_eq!(error.kind(), CodecErrorKind::Decode);
    assert_eq!(error.to_string(), too_deep);
    // Levels that have ended do not count.
    check(&vec![deep_enum(100), deep_enum(100)]);
    check(&vec![Every::Tuple(1, true); 1000]);
    check(&vec![Every::Struct { a: 1 }; 1000]);
    check(&vec![NoPositions(); 1000]);
}

/// Tests run on threads with the stack of tokio's workers.
#[test]
fn the_deepest_value_fits_the_stack() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        End(u8),
        Next { next: Box<Self>, space: [u64; 16] },
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        End,
        Next { next: Box<Self>, space: [u64; 16] },
    }
    let untagged = (1..DEPTH_MAX).fold(Untagged::End(1), |next, _| Untagged::Next {
        next: Box::new(next),
        space: [0; 16],
    });
    check(&untagged);
    let tagged = (1..DEPTH_MAX).fold(Tagged::End, |next, _| Tagged::Next {
        next: Box::new(next),
        space: [0; 16],
    });
    check(&tagged);
}

#[test]
fn bytes_nested_a_million_levels_deep_are_rejected() {
    const LEVELS: usize = 1_000_000;
    let too_deep = "nested deeper than 128 levels";
    let arrays = vec![0x91; LEVELS];
    let maps = b"\x81\xa4Enum".repeat(LEVELS);
    let structs = b"\x81\xa4next".repeat(LEVELS);
    let pairs = b"\x81\x01".repeat(LEVELS);
    let keys = vec![0x81; LEVELS];
    assert_eq!(error::<DeepSequence>(&arrays), too_deep);
    assert_eq!(error::<Deep>(&maps), too_deep);
    assert_eq!(error::<DeepStruct>(&structs), too_deep);
    for bytes in [&arrays, &pairs, &keys] {
        assert_eq!(error::<IgnoredAny>(bytes), too_deep);
    }
    // As siblings they are no content of each other.
    let mut siblings = vec![0xdd, 0, 0x0f, 0x42, 0x40];
    siblings.extend(b"\x81\xa4Enum\xa3End".repeat(LEVELS));
    let siblings: Vec<Deep> = from_named(&siblings).unwrap();
    assert_eq!(siblings.len(), LEVELS);
}

/// `Some` and a newtype struct take no byte, so the bytes do not bound how deep this type is.
#[test]
fn a_type_that_is_an_option_of_itself_is_endless() {
    const LEVELS: u32 = 1000;
    thread_local! {
        static LEFT: Cell<u32> = const { Cell::new(LEVELS) };
    }
    #[derive(Deserialize)]
    struct Chain(#[expect(dead_code)] Option<Box<Counted>>);
    struct Counted(#[expect(dead_code)] Chain);
    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            LEFT.set(LEFT.get() - 1);
            match LEFT.get() {
                0 => Err(serde::de::Error::custom("stopped by the test")),
                _ => Chain::deserialize(deserializer).map(Self),
            }
        }
    }
    assert_eq!(error::<Chain>(b"\x01"), "stopped by the test");
}

/// The same with a level that takes a byte.
#[test]
fn a_type_that_is_an_option_of_its_sequences_is_as_deep_as_the_bytes() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nested(Option<Vec<Self>>);
    assert_eq!(
        from_named(b"\x91\xc0"),
        Ok(Nested(Some(vec![Nested(None)])))
    );
    assert_eq!(
        error::<Nested>(b"\x91\x01"),
        "invalid type: integer `1`, expected a sequence"
    );
}

#[test]
fn announced_lengths_are_those_of_bytes_that_are_there() {
    let end = "unexpected end of the bytes";
    let most = [0xff; 4];
    let head = |head: u8| [&[head][..], &most, &[0x01; 100]].concat();
    assert_eq!(error::<BTreeMap<u64, u64>>(&head(0xdf)), end);
    assert_eq!(error::<HashMap<u64, u64>>(&head(0xdf)), end);
    assert_eq!(error::<String>(&head(0xdb)), end);
    assert_eq!(error::<CString>(&head(0xc6)), end);
    assert_eq!(error::<Vec<[u64; 32]>>(&head(0xdd)), end);
    assert_eq!(error::<IgnoredAny>(&head(0xdd)), end);
    assert_eq!(error::<Vec<u8>>(b"\x93\x01\x02"), end);
    assert_eq!(error::<BTreeMap<u8, u8>>(b"\x82\x01\x02\x03"), end);
    assert_eq!(error::<String>(b"\xa2a"), end);
    for bytes in [
        &b""[..],
        b"\xcd\x01",
        b"\xcb\x01",
        b"\xd9",
        b"\xdd\x01\x01\x01",
    ] {
        assert_eq!(error::<IgnoredAny>(bytes), end);
    }
}

#[test]
fn bytes_that_are_no_value_of_the_type_are_rejected() {
    assert_eq!(
        error::<String>(b"\xa1\xff"),
        "string found to be invalid utf8: invalid utf-8 sequence of 1 bytes from index 0"
    );
    for head in [0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8] {
        let text = format!("reserved byte or extension type {head:#04x}");
        assert_eq!(error::<IgnoredAny>(&[head, 1, 1, 1]), text);
    }
    assert_eq!(
        error::<u8>(b"\xcd\x01\x00"),
        "invalid value: integer `256`, expected u8"
    );
    assert_eq!(
        error::<String>(b"\x07"),
        "invalid type: integer `7`, expected a string"
    );
    assert_eq!(error::<u8>(b"\xa0"), "wrong msgpack marker FixStr(0)");
    assert_eq!(error::<u8>(b"\x90"), "wrong msgpack marker FixArray(0)");
    assert_eq!(
        error::<(u8, u8)>(b"\x93\x01\x01\x01"),
        "array had incorrect length, expected 2"
    );
    assert_eq!(
        error::<Every>(b"\xa1X"),
        "unknown variant `X`, expected one of `Unit`, `Newtype`, `Tuple`, `Struct`, `Empty`"
    );
    assert_eq!(
        error::<Every>(b"\x82\xa4Unit\xc0\xa4Unit\xc0"),
        "array had incorrect length, expected 2"
    );
    assert_eq!(
        error::<u128>(b"\xc4\x01\x01"),
        "array had incorrect length, expected 16"
    );
    assert_eq!(error::<Point>(b"\x81\xa1x\x01"), "missing field `y`");
    let trailing = from_named::<u8>(b"\x01\x02\x03").unwrap_err();
    assert_eq!(trailing.kind(), CodecErrorKind::TrailingBytes);
    assert_eq!(trailing.to_string(), "2 trailing bytes after the value");
}

#[test]
fn an_error_repeats_a_text_of_the_peer_shortened_and_printable() {
    let long = error::<Every>(&encoded(&"a".repeat(1000)));
    assert_eq!(long.len(), 203, "{long}");
    let variant = error::<Every>(&encoded(&"\u{1b}"));
    assert!(!variant.contains('\u{1b}'), "{variant}");
}

type Nested = Option<BTreeMap<i64, Option<Vec<Result<String, (f64, char)>>>>>;

fn nested() -> impl Strategy<Value = Nested> {
    let result = prop_oneof![
        ".*".prop_map(Ok),
        (any::<f64>(), any::<char>()).prop_map(Err),
    ];
    let values = prop::option::of(prop::collection::vec(result, 0..20));
    prop::option::of(prop::collection::btree_map(any::<i64>(), values, 0..20))
}

proptest! {
    #[test]
    fn values_are_decoded_as_they_were(value in nested(), number in any::<(u64, i128, f32)>()) {
        check(&(value, number));
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        drop(from_named::<IgnoredAny>(&bytes));
        drop(from_named::<Nested>(&bytes));
        drop(from_named::<Vec<Every>>(&bytes));
        drop(from_named::<Deep>(&bytes));
    }

    #[test]
    fn the_scan_finds_the_end_of_a_value_that_is_encoded(
        value in nested(),
        after in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let bytes = encoded(&value);
        let followed = [&bytes[..], &after].concat();
        prop_assert_eq!(scan::check_value(&followed), Ok(after.len()));
        for len in (0..bytes.len()).step_by(bytes.len() / 30 + 1) {
            let cut = scan::check_value(&bytes[..len]);
            prop_assert_eq!(cut, Err(NamedError::UnexpectedEnd));
        }
    }

    /// Whether the scan counts as deep as the decoder gets, and to the same end.
    #[test]
    fn the_decoder_gets_no_deeper_than_the_scan_permits(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80..=0x93u8], 0..64),
    ) {
        if let Ok(rest) = scan::check_value(&bytes) {
            let value = &bytes[..bytes.len() - rest];
            prop_assert!(rmp_serde::from_slice::<IgnoredAny>(value).is_ok());
            for len in 0..value.len() {
                prop_assert!(rmp_serde::from_slice::<IgnoredAny>(&value[..len]).is_err());
            }
        }
    }
}
