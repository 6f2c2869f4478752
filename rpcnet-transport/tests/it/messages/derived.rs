//! Types with every attribute of serde that the derive reads.

#![allow(
    dead_code,
    unused_qualifications,
    clippy::use_self,
    reason = "types as users write them, of which some fields are for serde alone"
)]

use std::{
    collections::{BTreeMap, HashMap},
    marker::PhantomData,
    time::Duration,
};

use rpcnet_transport::{
    Message,
    schema::{MethodSchema, Shape, VariantContent},
};
use serde::{Deserialize, Serialize};

use super::conformity::{Types, check};

#[derive(Default, Serialize, Deserialize, Message)]
struct Plain {
    id: u64,
    name: String,
    note: Option<String>,
    boxed: Box<u8>,
    r#type: u8,
}

#[derive(Default, Serialize, Deserialize, Message)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Renamed {
    two_words: u8,
    #[serde(rename = "other")]
    renamed: u8,
    #[serde(rename(serialize = "out", deserialize = "in"))]
    by_direction: u8,
    #[serde(alias = "old", alias = "older")]
    aliased_once: u8,
}

#[derive(Default, Serialize, Deserialize, Message)]
#[serde(rename_all(serialize = "UPPERCASE", deserialize = "kebab-case"))]
struct RenamedByDirection {
    two_words: u8,
}

#[derive(Default, Serialize, Deserialize, Message)]
struct Defaults {
    needed: u8,
    #[serde(default)]
    has_default: u8,
    #[serde(default = "seven")]
    has_function: u8,
    option: Option<u8>,
    qualified: std::option::Option<u8>,
}

fn seven() -> u8 {
    7
}

#[derive(Default, Serialize, Deserialize, Message)]
#[serde(default)]
struct DefaultOfContainer {
    first: u8,
    second: String,
}

#[derive(Default, Serialize, Deserialize, Message)]
struct Skips {
    first: u8,
    #[serde(skip)]
    never: u8,
    last: u8,
}

#[derive(Default, Serialize, Deserialize, Message)]
struct OneWay {
    first: u8,
    #[serde(skip_serializing, default)]
    read_alone: u8,
    #[serde(skip_deserializing)]
    written_alone: u8,
}

#[derive(Serialize, Deserialize, Message)]
struct Unit;

#[derive(Serialize, Deserialize, Message)]
struct Newtype(u32);

#[derive(Serialize, Deserialize, Message)]
struct Pair(u32, #[serde(skip)] Vec<u8>, String);

#[derive(Serialize, Deserialize, Message)]
struct Empty {}

#[derive(Serialize, Deserialize, Message)]
#[serde(transparent)]
struct Transparent<T> {
    marker: PhantomData<T>,
    #[serde(skip)]
    cached: u8,
    inner: Vec<T>,
}

#[derive(Clone, Serialize, Deserialize, Message)]
#[serde(from = "Wire", into = "Wire")]
struct Converted {
    sum: u32,
}

#[derive(Serialize, Deserialize, Message)]
struct Wire {
    first: u16,
    second: u16,
}

impl From<Wire> for Converted {
    fn from(wire: Wire) -> Self {
        let sum = u32::from(wire.first) + u32::from(wire.second);
        Self { sum }
    }
}

impl From<Converted> for Wire {
    fn from(converted: Converted) -> Self {
        let first = u16::try_from(converted.sum).unwrap_or_default();
        Self { first, second: 0 }
    }
}

#[derive(Clone, Serialize, Deserialize, Message)]
#[serde(try_from = "u8", into = "u8")]
struct Even(u8);

impl TryFrom<u8> for Even {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        number
            .is_multiple_of(2)
            .then_some(Self(number))
            .ok_or("odd")
    }
}

impl From<Even> for u8 {
    fn from(even: Even) -> Self {
        even.0
    }
}

#[derive(Serialize, Deserialize, Message)]
struct Page<T, const N: usize = 4>
where
    T: Ord,
{
    items: Vec<T>,
    next: Option<Box<Self>>,
}

#[derive(Serialize, Deserialize, Message)]
enum Kinds {
    Unit,
    Newtype(u8),
    Tuple(u8, String),
    EmptyTuple(),
    Struct { first: u8, second: Option<u8> },
    Recursive(Box<Self>),
}

#[derive(Serialize, Deserialize, Message)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
enum RenamedVariants {
    TwoWords {
        two_words: u8,
    },
    #[serde(rename_all = "UPPERCASE")]
    OwnRule {
        two_words: u8,
    },
    #[serde(rename(serialize = "new", deserialize = "newer"), alias = "newest")]
    Named,
}

#[derive(Serialize, Deserialize, Message)]
enum SkippedVariants {
    Kept(u8),
    #[serde(skip)]
    _Never(u8),
    SkipsItsField(#[serde(skip)] u8),
    SkipsOne(#[serde(skip)] u8, u16),
    Fields {
        #[serde(skip)]
        never: u8,
        kept: u8,
    },
}

#[derive(Serialize, Deserialize, Message)]
enum WithOther {
    Known,
    #[serde(other)]
    Unknown,
}

#[derive(Serialize, Deserialize, Message)]
struct WithUsersEncoding {
    #[serde(with = "seconds")]
    #[message(since = 2)]
    timeout: Duration,
    #[message(since = 3)]
    foreign: BTreeMap<String, serde_json::Number>,
    #[message(self_describing)]
    any: serde_json::Value,
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        time.as_secs().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}

#[derive(Serialize, Deserialize, Message)]
enum WithUsersVariant {
    #[serde(with = "seconds")]
    #[message(since = 4)]
    Timeout(Duration),
}

#[derive(Serialize, Deserialize, Message)]
#[message(self_describing)]
#[serde(tag = "kind")]
enum Tagged {
    First { id: u8 },
}

#[derive(Serialize, Deserialize, Message)]
#[message(since = 5)]
struct WholeType {
    #[serde(flatten)]
    rest: HashMap<String, u8>,
}

#[derive(Serialize, Deserialize, Message)]
struct Tree {
    children: Vec<Self>,
    by_name: HashMap<String, Tree>,
}

#[derive(Serialize, Deserialize, Message)]
struct Nested {
    plain: Plain,
    newtype: Newtype,
    kinds: (Kinds, [WithOther; 2]),
    even: Even,
}

#[test]
fn structs_are_written_and_read_as_their_schema_says() {
    check(&[Plain::default()]);
    check(&[Renamed::default()]);
    check(&[RenamedByDirection::default()]);
    check(&[Defaults::default()]);
    check(&[DefaultOfContainer::default()]);
    check(&[Skips::default()]);
    check(&[OneWay::default()]);
    check(&[Unit]);
    assert_eq!(*Types::of::<Unit>().root(), Shape::Tuple(vec![]));
    check(&[Newtype(7)]);
    check(&[Pair(7, vec![8], "nine".to_owned())]);
    check(&[Empty {}]);
    let transparent = Transparent {
        marker: PhantomData,
        cached: 1,
        inner: vec![2],
    };
    check(&[transparent]);
    check(&[Converted { sum: 7 }]);
    check(&[Even(2)]);
    let page = |next| Page::<u8> {
        items: vec![7],
        next,
    };
    check(&[page(Some(Box::new(page(None))))]);
    check(&[Tree {
        children: vec![],
        by_name: HashMap::new(),
    }]);
    check(&[Nested {
        plain: Plain::default(),
        newtype: Newtype(7),
        kinds: (Kinds::Unit, [WithOther::Known, WithOther::Unknown]),
        even: Even(4),
    }]);
}

#[test]
fn variants_are_written_and_read_as_their_schema_says() {
    check(&[
        Kinds::Unit,
        Kinds::Newtype(1),
        Kinds::Tuple(1, "two".to_owned()),
        Kinds::Struct {
            first: 1,
            second: Some(2),
        },
        Kinds::Recursive(Box::new(Kinds::Unit)),
    ]);
    check(&[
        RenamedVariants::TwoWords { two_words: 1 },
        RenamedVariants::OwnRule { two_words: 1 },
        RenamedVariants::Named,
    ]);
    check(&[
        SkippedVariants::Kept(1),
        SkippedVariants::SkipsItsField(1),
        SkippedVariants::SkipsOne(1, 2),
        SkippedVariants::Fields { never: 1, kept: 2 },
    ]);
    check(&[WithOther::Known, WithOther::Unknown]);
    check(&[WithUsersVariant::Timeout(Duration::from_secs(4))]);
}

#[test]
fn marked_types_and_fields_have_the_shape_of_their_mark() {
    let types = Types::of::<WithUsersEncoding>();
    let shapes = types.fields().iter().map(|field| types.shape(field.ty));
    let opaque = |name: &str, since| Shape::Opaque {
        name: name.to_owned(),
        since,
    };
    let expected = [
        opaque("Duration", 2),
        opaque("BTreeMap<String,serde_json::Number>", 3),
        Shape::SelfDescribing,
    ];
    assert_eq!(shapes.cloned().collect::<Vec<_>>(), expected);
    assert_eq!(*Types::of::<Tagged>().root(), Shape::SelfDescribing);
    assert_eq!(*Types::of::<WholeType>().root(), opaque("WholeType", 5));
    let types = Types::of::<WithUsersVariant>();
    let VariantContent::Newtype(inner) = types.variants()[0].content else {
        panic!("{:?}", types.variants());
    };
    assert_eq!(*types.shape(inner), opaque("Timeout", 4));
    check(&[WithUsersEncoding {
        timeout: Duration::from_secs(7),
        foreign: BTreeMap::new(),
        any: serde_json::Value::Null,
    }]);
}

#[test]
fn a_type_has_no_shape_of_its_own_where_serde_writes_another_one() {
    assert_eq!(*Types::of::<Newtype>().root(), Shape::Unsigned { bits: 32 });
    assert_eq!(*Types::of::<Even>().root(), Shape::Unsigned { bits: 8 });
    assert!(matches!(
        Types::of::<Transparent<u8>>().root(),
        Shape::Sequence(_)
    ));
    assert_eq!(hash::<Converted>(), hash::<Wire>());
    assert_ne!(hash::<Page<u8>>(), hash::<Page<u16>>());
    assert!(Types::of::<WithOther>().variants()[1].is_other);
    // serde_json writes this variant and does not read it.
    let kinds = Types::of::<Kinds>();
    assert_eq!(kinds.variants()[3].content, VariantContent::Tuple(vec![]));
}

#[test]
fn all_names_by_which_serde_reads_are_in_the_schema() {
    let read = |names: &[&str]| -> Vec<String> { names.iter().map(|it| it.to_string()).collect() };
    let fields = Types::of::<Renamed>();
    let fields: Vec<_> = fields.fields().iter().map(|it| it.read.clone()).collect();
    let expected: [&[&str]; 4] = [
        &["twoWords"],
        &["other"],
        &["in"],
        &["aliasedOnce", "old", "older"],
    ];
    assert_eq!(fields, expected.map(read));
    let variants = Types::of::<RenamedVariants>();
    assert_eq!(variants.variants()[2].read, read(&["newer", "newest"]));
}

fn hash<T: Message>() -> u64 {
    MethodSchema::of(T::describe, T::describe, |_| None).hash()
}
