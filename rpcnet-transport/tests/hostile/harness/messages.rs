//! Schemas of a peer, and messages with names: they are decoded or rejected, and what was decoded
//! is encoded as it was.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use rpcnet_transport::{
    Decode, Encode, Encoding, Message,
    schema::{Field, MethodSchema, SchemaBuilder, Shape, TypeRef, Variant, VariantContent},
};
use serde::{Deserialize, Serialize};

use super::script::Script;

/// Longest text of a schema: one mention of a type may exceed the limit.
const TEXT_BYTES_MAX: usize = 320 * 1024;

/// Decodes two schemas and compares them.
///
/// # Panics
///
/// If the decoder or the comparison breaks one of these rules.
pub(crate) fn schemas(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (first, second) = (schema(&mut script), schema(&mut script));
    let (Some(first), Some(second)) = (first, second) else {
        return;
    };
    for schema in [&first, &second] {
        let bytes = schema.encode().expect("no longer than it was");
        let again = MethodSchema::decode(&bytes).expect("it was within the bounds");
        assert_eq!(again.encode().as_ref(), Some(&bytes));
        assert_eq!(again.hash(), schema.hash());
        assert_ne!(schema.hash(), 0);
        let text = schema.to_string();
        assert_eq!(again.to_string(), text);
        assert!(text.len() < TEXT_BYTES_MAX, "{} bytes", text.len());
        assert_eq!(
            MethodSchema::check_compatible(schema, &again),
            MethodSchema::check_compatible(&again, schema)
        );
    }
    for (caller, server) in [(&first, &second), (&second, &first)] {
        let compared = MethodSchema::check_compatible(caller, server);
        if let Err(error) = &compared {
            assert!(error.to_string().len() < TEXT_BYTES_MAX);
        }
        if first.hash() == second.hash() && !first.needs_named_encoding() {
            assert_eq!(compared, Ok(()));
        }
    }
}

/// Any bytes, or a schema some bytes of which are changed.
fn schema(script: &mut Script<'_>) -> Option<MethodSchema> {
    if script.byte() & 1 == 0 {
        let len = usize::from(script.byte());
        return MethodSchema::decode(script.bytes(len)).ok();
    }
    let schema = MethodSchema::of(
        <(Every, Vec<Record>)>::describe,
        <BTreeMap<SocketAddr, Option<Duration>>>::describe,
        |schema| Some(schema.add::<Result<Record, [u8; 5]>>()),
    );
    let mut bytes = schema.encode().expect("a small schema").to_vec();
    for _ in 0..script.below(4) {
        let at = (script.below(256) << 8 | script.below(256)) % bytes.len();
        bytes[at] = script.byte();
    }
    MethodSchema::decode(&bytes).ok()
}

/// Decodes bytes as values of several types in the encoding with names.
///
/// # Panics
///
/// If the decoder breaks one of these rules.
pub(crate) fn named_values(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    value::<Every>(&bytes);
    value::<Vec<Every>>(&bytes);
    value::<Record>(&bytes);
    value::<BTreeMap<Option<u8>, Option<Option<()>>>>(&bytes);
    value::<(u128, i128, char, SocketAddr)>(&bytes);
    value::<Vec<(f32, f64, i8, u64)>>(&bytes);
    value::<Result<Box<str>, [u8; 4]>>(&bytes);
    if let Ok(any) = Any::decode_as(bytes, Encoding::Named) {
        // One that was read from what had no levels for its options may be nested too deep.
        drop(any.encode_as(Encoding::Named));
    }
}

fn value<T: Encode + Decode>(bytes: &Bytes) {
    let Ok(value) = T::decode_as(bytes.clone(), Encoding::Named) else {
        return;
    };
    let encoded = value.encode_as(Encoding::Named).expect("it was no deeper");
    let again = T::decode_as(encoded.clone(), Encoding::Named).expect("it was encoded");
    assert_eq!(again.encode_as(Encoding::Named), Ok(encoded));
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    #[serde(alias = "number")]
    id: u64,
    #[serde(default)]
    name: String,
    next: Option<Box<Self>>,
    every: Vec<Every>,
}

impl Message for Record {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("Record", |schema| Shape::Struct {
            fields: vec![
                Field::new("id", schema.add::<u64>()).with_read(&["id", "number"]),
                Field::new("name", schema.add::<String>()).optional(),
                Field::new("next", schema.add::<Option<Box<Self>>>()).optional(),
                Field::new("every", schema.add::<Vec<Every>>()),
            ],
            denies_unknown_fields: false,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Every {
    Unit,
    Newtype(Box<Self>),
    Tuple(Option<i32>, bool),
    #[serde(rename = "S")]
    Struct {
        #[serde(default)]
        a: Option<Option<u8>>,
    },
    #[serde(other)]
    Other,
}

impl Message for Every {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("Every", |schema| {
            let inner = schema.add::<Box<Self>>();
            let tuple = vec![schema.add::<Option<i32>>(), schema.add::<bool>()];
            let field = Field::new("a", schema.add::<Option<Option<u8>>>()).optional();
            Shape::Enum {
                variants: vec![
                    Variant::new("Unit", VariantContent::Unit),
                    Variant::new("Newtype", VariantContent::Newtype(inner)),
                    Variant::new("Tuple", VariantContent::Tuple(tuple)),
                    Variant::new("S", VariantContent::Struct(vec![field])),
                    Variant::new("Other", VariantContent::Unit).other(),
                ],
                denies_unknown_fields: false,
            }
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Any {
    Number(i64),
    Text(String),
    List(Vec<Self>),
    Nested(Option<BTreeMap<String, Self>>),
}
