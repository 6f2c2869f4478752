//! Every pair of many types, where one peer writes the first and the other reads the second: what
//! the comparison of their schemas says against what the encoding with names does.

mod types;

use std::{collections::BTreeMap, ffi::CString, marker::PhantomData, net::IpAddr, time::Duration};

use bytes::Bytes;
use proptest::{collection, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use rpcnet_transport::{
    Decode, Encode, Encoding, Message,
    schema::{MethodSchema, SchemaBuilder, TypeRef},
};

use self::types::*;

/// A type, values of it in the encoding with names, and whether such bytes are read as the type.
struct Row {
    name: &'static str,
    describe: fn(&mut SchemaBuilder) -> TypeRef,
    values: Vec<Bytes>,
    decode: fn(Bytes) -> Result<(), String>,
}

/// Values of a type that are tried.
const VALUES: usize = 200;

impl Row {
    /// Values are those that random bytes are in postcard: no generator has to be written.
    fn new<T: Message>(name: &'static str, runner: &mut TestRunner) -> Self {
        let byte = prop_oneof![0u8..3, any::<u8>(), Just(b'a')];
        let bytes = collection::vec(byte, 40);
        let values = (0..VALUES * 10).filter_map(|_| {
            let tree = bytes.new_tree(runner).expect("bytes that nothing filters");
            let bytes = tree.current();
            let (value, _) = postcard::take_from_bytes::<T>(&bytes).ok()?;
            // A type may have values that are not written.
            value.encode_as(Encoding::Named).ok()
        });
        let values = values.take(VALUES).collect();
        Self::with_values::<T>(name, values)
    }

    fn with_values<T: Message>(name: &'static str, values: Vec<Bytes>) -> Self {
        Self {
            name,
            describe: T::describe,
            values,
            decode: |bytes| {
                let decoded = T::decode_as(bytes, Encoding::Named);
                decoded.map(drop).map_err(|error| error.to_string())
            },
        }
    }

    /// Schema of a caller with this request.
    fn caller(&self) -> MethodSchema {
        MethodSchema::of(self.describe, <()>::describe, |_| None)
    }

    /// Schema of a server with this request, which differs from the caller's: the hash does.
    fn server(&self) -> MethodSchema {
        MethodSchema::of(self.describe, <()>::describe, |schema| {
            Some(schema.add::<()>())
        })
    }
}

fn rows() -> Vec<Row> {
    let mut runner = TestRunner::deterministic();
    macro_rules! rows {
        ($($ty:ty),* $(,)?) => { vec![$(Row::new::<$ty>(stringify!($ty), &mut runner)),*] };
    }
    let mut rows = rows![
        Job, JobReordered, JobWider, JobWithDefault, JobWithRequired, JobWithoutName,
        JobAllDefault, JobStrict, JobRenamed, JobAlias, JobBothNames, JobNamedAgain, JobUnread,
        JobUnwritten, JobNameIsNumber, Empty, Codec, CodecMore, CodecOther, CodecRenamed,
        CodecZipIsText, CodecStrict, Gif, GifSkipped, Tree, TreeWider, TreeOfTexts, Map, MapWider,
        u8, u32, u64, i8, i64, u128, i128, f32, f64, bool, char, String, CString, (),
        PhantomData<u8>, Option<u8>, Option<Option<u64>>, Option<()>, Option<String>, Vec<u8>,
        Vec<Option<u64>>, [u8; 2], (u8, bool), (u16, u8, i64), Result<u8, String>, Duration,
        IpAddr,
    ];
    let flattened = [vec![("id", 1)], vec![("id", 1), ("size", 2)]];
    let values = flattened.map(|fields| {
        let fields = BTreeMap::from_iter(fields);
        fields.encode_as(Encoding::Named).unwrap()
    });
    rows.push(Row::with_values::<Flattened>("Flattened", values.into()));
    rows
}

/// Errors of single values between types that are compatible: a number out of range, `None` where
/// a value is needed, a variant of one side.
const BY_VALUE: [&str; 4] = [
    "invalid value: integer",
    "invalid type: unit value",
    "invalid type: Option value",
    "unknown variant",
];

/// What is wrong with the comparison of two types, if anything is.
fn check_pair(written: &Row, read: &Row) -> Result<(), String> {
    let compared = MethodSchema::check_compatible(&written.caller(), &read.server());
    if [written.name, read.name].contains(&"Flattened") {
        return compared.map_err(|error| error.to_string());
    }
    let decoded = written
        .values
        .iter()
        .map(|value| (read.decode)(value.clone()));
    let errors: Vec<String> = decoded.filter_map(Result::err).collect();
    // Values of incompatible types may be read too, with another meaning.
    if compared.is_err() {
        return Ok(());
    }
    // `serde(other)` reads variants without content alone.
    let is_unread_content =
        |error: &String| read.name == "CodecOther" && error.starts_with("wrong msgpack marker");
    if errors.len() == written.values.len() && !errors.iter().any(is_unread_content) {
        return Err(format!("no value is read: {}", errors[0]));
    }
    let is_by_value = |error: &String| BY_VALUE.iter().any(|text| error.contains(text));
    let mut wrong = errors.iter();
    let wrong = wrong.find(|error| !is_by_value(error) && !is_unread_content(error));
    wrong.map_or(Ok(()), |error| Err(format!("compatible, but: {error}")))
}

#[test]
fn values_of_compatible_types_are_read() {
    let rows = rows();
    let mut wrong = Vec::new();
    for written in &rows {
        assert!(
            written.values.len() > 1,
            "too few values of {}",
            written.name
        );
        for read in &rows {
            if let Err(error) = check_pair(written, read) {
                wrong.push(format!("{} -> {}: {error}", written.name, read.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
