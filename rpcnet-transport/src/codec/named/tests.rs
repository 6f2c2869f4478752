use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    marker::PhantomData,
    net::{Ipv4Addr, SocketAddr},
};

use proptest::prelude::*;
use serde::{Deserialize, de::IgnoredAny};

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
struct DeepOption(Option<Box<Self>>);

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
    check_form(UnitStruct, b"\xc0");
    check_form(PhantomData::<u8>, b"\xc0");
    check_form(NoFields {}, b"\x80");
    check_form(NoPositions(), b"\x90");
    check_form(Newtype(7), b"\x07");
    check_form(Point { x: 1, y: -1 }, b"\x82\xa1x\x01\xa1y\xff");
    check_form(true, b"\xc3");
    check_form('é', b"\xa2\xc3\xa9");
    check_form(1.5f32, b"\xca\x3f\xc0\x00\x00");
    check_form(-2.0f64, b"\xcb\xc0\x00\x00\x00\x00\x00\x00\x00");
    check_form("ab".to_owned(), b"\xa2ab");
    check_form(std::ffi::CString::new("ab").unwrap(), b"\xc4\x02ab");
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
fn options_of_nil_are_told_apart() {
    check_form(None::<u8>, b"\xc0");
    check_form(Some(3u8), b"\x03");
    check_form(None::<()>, b"\xc0");
    check_form(Some(()), b"\xc1\xc0");
    check_form(None::<Option<Option<u8>>>, b"\xc0");
    check_form(Some(None::<Option<u8>>), b"\xc1\xc0");
    check_form(Some(Some(None::<u8>)), b"\xc1\xc1\xc0");
    check_form(Some(Some(Some(4u8))), b"\x04");
    check_form(Some(vec![Some(None::<u8>), None]), b"\x92\xc1\xc0\xc0");
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
    check_form(
        Flat { a: 1, rest },
        b"\xdf\x00\x00\x00\x02\xa1a\x01\xa1b\x02",
    );
}

#[test]
fn a_wrong_length_is_an_error_of_the_type() {
    struct Liar;
    impl Serialize for Liar {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serde::ser::SerializeStruct::end(serializer.serialize_struct("Liar", 2)?)
        }
    }
    let error = to_named(&Liar).unwrap_err();
    assert_eq!(error.kind(), CodecErrorKind::Encode);
    assert_eq!(error.to_string(), "0 values written, 2 announced");
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
        A {
            point: Point,
            nested: Option<Option<u8>>,
        },
    }
    check(&vec![
        Any::Nothing(()),
        Any::Number(-300),
        Any::Text("t".to_owned()),
        Any::Point(Point { x: 1, y: 2 }),
        Any::Nested(Some(vec![Any::Number(1)])),
    ]);
    check(&Some(Any::Nothing(())));
    check(&Tagged::A {
        point: Point { x: 1, y: 2 },
        nested: Some(Some(2)),
    });
}

#[test]
fn unknown_variants_are_read_as_the_other_one() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Old {
        Known,
        #[serde(other)]
        Other,
    }
    for value in [
        Every::Unit,
        Every::Newtype(Some(1)),
        Every::Tuple(1, true),
        Every::Empty(),
    ] {
        assert_eq!(from_named(&encoded(&vec![value])), Ok(vec![Old::Other]));
    }
    assert_eq!(from_named(b"\xa5Known"), Ok(Old::Known));
}

#[test]
fn nesting_is_limited_in_both_directions() {
    fn deep(levels: u8) -> Deep {
        (0..levels).fold(Deep::End, |inner, _| Deep::Enum(Box::new(inner)))
    }
    check(&deep(DEPTH_MAX));
    let error = to_named(&deep(DEPTH_MAX + 1)).unwrap_err();
    assert_eq!(error.to_string(), "nested deeper than 128 levels");
    // Levels that have ended do not count.
    check(&vec![deep(100), deep(100)]);
    check(&vec![Every::Tuple(1, true); 1000]);
    check(&vec![Every::Struct { a: 1 }; 1000]);
    check(&vec![Some(Some(())); 1000]);
    let options = (0..DEPTH_MAX - 1).fold(DeepOption(None), |inner, _| {
        DeepOption(Some(Box::new(inner)))
    });
    check(&options);
}

#[test]
fn bytes_nested_a_million_levels_deep_are_rejected() {
    const LEVELS: usize = 1_000_000;
    let too_deep = "nested deeper than 128 levels";
    let arrays = vec![0x91; LEVELS];
    let maps = b"\x81\xa4Enum".repeat(LEVELS);
    let pairs = b"\x81\x01".repeat(LEVELS);
    let keys = vec![0x81; LEVELS];
    assert_eq!(error::<DeepSequence>(&arrays), too_deep);
    assert_eq!(error::<Deep>(&maps), too_deep);
    for bytes in [&arrays, &pairs] {
        assert_eq!(error::<IgnoredAny>(bytes), too_deep);
    }
    assert_eq!(error::<IgnoredAny>(&keys), too_deep);
    assert_eq!(error::<IgnoredAny>(&vec![SOME; LEVELS]), too_deep);
    assert_eq!(error::<DeepOption>(&vec![SOME; LEVELS]), too_deep);
    // A `Some` that is no byte of its own.
    assert_eq!(error::<DeepOption>(b"\x01"), too_deep);
    // As siblings they are no content of each other.
    let mut siblings = vec![0xdd, 0, 0x0f, 0x42, 0x40];
    siblings.extend(b"\x91\xa4Enum".repeat(LEVELS));
    assert_eq!(
        error::<Vec<Deep>>(&siblings),
        "invalid type: sequence, expected a variant"
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
    assert_eq!(error::<std::ffi::CString>(&head(0xc6)), end);
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
    assert_eq!(error::<String>(b"\xa1\xff"), "text is not UTF-8");
    for head in [0xc7, 0xc8, 0xc9, 0xd4, 0xd8] {
        let text = format!("extension type {head:#04x}");
        assert_eq!(error::<IgnoredAny>(&[head, 1, 1, 1]), text);
    }
    assert_eq!(
        error::<u8>(b"\xcd\x01\x00"),
        "invalid value: integer `256`, expected u8"
    );
    assert_eq!(
        error::<Option<u8>>(b"\xc1\xa0"),
        "invalid type: string \"\", expected u8"
    );
    assert_eq!(
        error::<u8>(b"\xc1\x01"),
        "invalid type: Option value, expected u8"
    );
    assert_eq!(
        error::<(u8, u8)>(b"\x93\x01\x01\x01"),
        "3 values, expected 2"
    );
    assert_eq!(
        error::<Every>(b"\xa1X"),
        "unknown variant `X`, expected one of `Unit`, `Newtype`, `Tuple`, `Struct`, `Empty`"
    );
    assert_eq!(
        error::<Every>(b"\x82\xa4Unit\xc0\xa4Unit\xc0"),
        "invalid type: map, expected a variant"
    );
    assert_eq!(
        error::<u128>(b"\xc4\x01\x01"),
        "invalid type: byte array, expected 16 bytes of a u128"
    );
    let trailing = from_named::<u8>(b"\x01\x02\x03").unwrap_err();
    assert_eq!(trailing.kind(), CodecErrorKind::TrailingBytes);
    let long = error::<u8>(&encoded(&"\n".repeat(1000)));
    assert_eq!(long.len(), 203, "{long}");
    let field = error::<Point>(&encoded(&BTreeMap::from([("x", "\u{1b}")])));
    assert!(!field.contains('\u{1b}'), "{field}");
}

type Nested = Option<BTreeMap<i64, Option<Option<Vec<Result<String, (f64, char)>>>>>>;

fn nested() -> impl Strategy<Value = Nested> {
    let result = prop_oneof![
        ".*".prop_map(Ok),
        (any::<f64>(), any::<char>()).prop_map(Err),
    ];
    let values = prop::option::of(prop::option::of(prop::collection::vec(result, 0..20)));
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
}
