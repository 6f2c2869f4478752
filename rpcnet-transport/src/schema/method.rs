//! Schema of a method: type table, hash and encoded form.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{
    Field, SCHEMA_BYTES_MAX, SchemaBuilder, SchemaError, Shape, TypeRef, VariantContent, bounds,
    stable_hash::hash_bytes, type_table::TypeTable,
};
use crate::codec::{from_postcard, to_postcard};

/// Schema of a method: the types of its requests, replies and errors.
///
/// Of a method that streams, they are the types of the items. Cheap to clone.
#[derive(Clone)]
pub struct MethodSchema {
    shared: Arc<Shared>,
}

struct Shared {
    table: TypeTable,
    /// Names of the types for people, which are not part of the hash.
    names: Vec<String>,
    hash: u64,
    needs_named_encoding: bool,
}

impl MethodSchema {
    /// Schema of the types that these functions add, in this order. `error` returns `None` if
    /// errors carry a [`Status`](crate::Status) alone.
    pub fn of(
        request: impl FnOnce(&mut SchemaBuilder) -> TypeRef,
        reply: impl FnOnce(&mut SchemaBuilder) -> TypeRef,
        error: impl FnOnce(&mut SchemaBuilder) -> Option<TypeRef>,
    ) -> Self {
        let mut schema = SchemaBuilder::default();
        let request = request(&mut schema);
        let reply = reply(&mut schema);
        let error = error(&mut schema);
        let (names, types) = schema.finish();
        let table = TypeTable {
            types,
            request,
            reply,
            error,
        };
        Self::from_parts(table, names)
    }

    fn from_parts(table: TypeTable, names: Vec<String>) -> Self {
        let shared = Shared {
            hash: hash(&table),
            needs_named_encoding: table.types.iter().any(needs_named_encoding),
            table,
            names,
        };
        let shared = Arc::new(shared);
        Self { shared }
    }

    /// Hash of the types without their names for people: the same on every platform and in every
    /// release, and never 0.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.shared.hash
    }

    /// Whether postcard cannot carry the types, even if both sides have the same ones: one
    /// describes itself, or is written with other fields or variants than it is read with.
    #[must_use]
    pub fn needs_named_encoding(&self) -> bool {
        self.shared.needs_named_encoding
    }

    /// Encoded form. `None` if it exceeds the bounds of [`decode`](Self::decode), of which
    /// [`SCHEMA_BYTES_MAX`] is the one that is met first.
    #[must_use]
    pub fn encode(&self) -> Option<Bytes> {
        let Shared { table, names, .. } = &*self.shared;
        bounds::check(table, names).ok()?;
        let bytes = to_postcard(&(table, names)).ok()?;
        (bytes.len() <= SCHEMA_BYTES_MAX).then_some(bytes)
    }

    /// Decodes a schema of a peer. The hash is computed from what was decoded.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] if the bytes are not a schema, or one that exceeds a bound.
    pub fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        if bytes.len() > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooManyBytes(bytes.len()));
        }
        let (table, names): (TypeTable, Vec<String>) =
            from_postcard(bytes).map_err(SchemaError::Malformed)?;
        bounds::check(&table, &names)?;
        Ok(Self::from_parts(table, names))
    }

    #[cfg(test)]
    pub(super) fn of_types(types: Vec<Shape>, request: TypeRef) -> Self {
        let names = vec![String::new(); types.len()];
        let table = TypeTable {
            types,
            request,
            reply: request,
            error: None,
        };
        Self::from_parts(table, names)
    }

    /// Shape of the requests.
    pub(crate) fn request_shape(&self) -> &Shape {
        let table = self.table();
        table.shape(table.request)
    }

    pub(super) fn table(&self) -> &TypeTable {
        &self.shared.table
    }

    pub(super) fn names(&self) -> &[String] {
        &self.shared.names
    }
}

impl fmt::Debug for MethodSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = format_args!("{:016x}", self.hash());
        let mut debug = f.debug_struct("MethodSchema");
        debug.field("hash", &hash).field("types", &self.names());
        debug.finish()
    }
}

/// Hash of the canonical bytes.
fn hash(table: &TypeTable) -> u64 {
    hash_bytes(&to_postcard(table).expect("postcard represents every type table"))
}

/// Whether postcard, which knows positions alone, cannot carry a type.
fn needs_named_encoding(shape: &Shape) -> bool {
    match shape {
        Shape::SelfDescribing => true,
        Shape::Struct { fields, .. } => fields.iter().any(is_one_way),
        Shape::Enum { variants, .. } => {
            // serde numbers all variants when it writes, and those that are read when it reads.
            let read = variants.iter().map(|variant| !variant.read.is_empty());
            let is_shifted = !read.is_sorted_by(|before, after| before >= after);
            is_shifted
                || variants.iter().any(|variant| match &variant.content {
                    VariantContent::Struct(fields) => fields.iter().any(is_one_way),
                    _ => false,
                })
        }
        _ => false,
    }
}

fn is_one_way(field: &Field) -> bool {
    field.written.is_some() == field.read.is_empty()
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::schema::{Message, Variant};

    fn schema_of<Req: Message, Reply: Message>() -> MethodSchema {
        MethodSchema::of(Req::describe, Reply::describe, |_| None)
    }

    fn schema_of_shape(shape: Shape) -> MethodSchema {
        struct T;
        MethodSchema::of(
            |schema| schema.define::<T>("T", |_| shape),
            u8::describe,
            |_| None,
        )
    }

    /// Old peers know these hashes: they never change.
    #[test]
    fn hashes_are_the_same_in_every_release() {
        assert_eq!(schema_of::<(), ()>().hash(), 0x9469_c6d7_f0a2_7488);
        assert_eq!(schema_of::<u64, String>().hash(), 0x1525_92f4_de3f_6bd1);
        let schema = MethodSchema::of(
            <(Vec<Option<u32>>, [i8; 3])>::describe,
            std::net::SocketAddr::describe,
            |schema| Some(schema.add::<Result<std::time::Duration, char>>()),
        );
        assert_eq!(schema.hash(), 0x7abd_91f9_d32b_fe3c);
        let bytes = schema_of::<u64, Vec<bool>>().encode().unwrap();
        let expected = b"\x03\x01\x40\x09\x02\x00\x00\x01\x00\x03\x03u64\x03Vec\x04bool";
        assert_eq!(&*bytes, expected);
    }

    #[test]
    fn the_hash_is_of_structure_and_not_of_names_for_people() {
        struct A;
        struct B;
        let request = |schema: &mut SchemaBuilder| Shape::Sequence(schema.add::<u8>());
        let a = MethodSchema::of(|s| s.define::<A>("A", request), u8::describe, |_| None);
        let b = MethodSchema::of(|s| s.define::<B>("B", request), u8::describe, |_| None);
        assert_eq!(a.hash(), b.hash());
        assert_eq!(
            schema_of::<usize, Box<u8>>().hash(),
            schema_of::<u64, u8>().hash()
        );
        let others = [
            schema_of::<u64, u8>(),
            schema_of::<u8, u64>(),
            schema_of::<u32, u8>(),
            schema_of::<i64, u8>(),
            MethodSchema::of(u64::describe, u8::describe, |s| Some(s.add::<u8>())),
        ];
        for (index, other) in others.iter().enumerate() {
            for before in &others[..index] {
                assert_ne!(before.hash(), other.hash(), "{before}{other}");
            }
        }
    }

    #[test]
    fn a_decoded_schema_is_the_same_and_computes_its_hash() {
        let schema = schema_of::<(u8, Option<Vec<String>>), Result<(), f64>>();
        let bytes = schema.encode().unwrap();
        let decoded = MethodSchema::decode(&bytes).unwrap();
        assert_eq!(decoded.table(), schema.table());
        assert_eq!(decoded.names(), schema.names());
        assert_eq!(decoded.hash(), schema.hash());
        assert_eq!(decoded.encode().unwrap(), bytes);
    }

    #[test]
    fn malformed_schemas_are_rejected() {
        let bytes = schema_of::<u8, String>().encode().unwrap();
        for len in 0..bytes.len() {
            let error = MethodSchema::decode(&bytes[..len]).unwrap_err();
            assert!(matches!(error, SchemaError::Malformed(_)), "{error}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        let error = MethodSchema::decode(&longer).unwrap_err();
        let text = "malformed schema: 1 trailing bytes after the value";
        assert_eq!(error.to_string(), text);
        let error = MethodSchema::decode(&vec![0; SCHEMA_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(error, SchemaError::TooManyBytes(SCHEMA_BYTES_MAX + 1));
    }

    #[test]
    fn schemas_that_exceed_a_bound_are_neither_encoded_nor_decoded() {
        let long = "n".repeat(257);
        let field = |name: &str, index| Field::new(name, TypeRef::new(index));
        let fields = |fields| Shape::Struct {
            fields,
            denies_unknown_fields: false,
        };
        let variants = |content| Shape::Enum {
            variants: vec![Variant::new("A", content)],
            denies_unknown_fields: false,
        };
        let out_of_range = SchemaError::TypeOutOfRange { index: 2, types: 2 };
        for (shape, error) in [
            (Shape::Unsigned { bits: 12 }, SchemaError::Bits(12)),
            (Shape::Signed { bits: 0 }, SchemaError::Bits(0)),
            (Shape::Float { bits: 16 }, SchemaError::Bits(16)),
            (Shape::Option(TypeRef::new(2)), out_of_range.clone()),
            (Shape::Tuple(vec![TypeRef::new(2)]), out_of_range.clone()),
            (fields(vec![field("a", 2)]), out_of_range.clone()),
            (fields(vec![field(&long, 1)]), SchemaError::NameTooLong(257)),
            (
                variants(VariantContent::Newtype(TypeRef::new(2))),
                out_of_range.clone(),
            ),
            (
                variants(VariantContent::Tuple(vec![TypeRef::new(2)])),
                out_of_range.clone(),
            ),
            (
                variants(VariantContent::Struct(vec![field("a", 2)])),
                out_of_range,
            ),
            (
                variants(VariantContent::Struct(vec![field(&long, 1)])),
                SchemaError::NameTooLong(257),
            ),
            (
                Shape::Opaque {
                    name: long.clone(),
                    since: 1,
                },
                SchemaError::NameTooLong(257),
            ),
        ] {
            let schema = schema_of_shape(shape);
            let bytes = to_postcard(&(schema.table(), schema.names())).unwrap();
            assert_eq!(MethodSchema::decode(&bytes).unwrap_err(), error);
            assert_eq!(schema.encode(), None);
        }
    }

    #[test]
    fn the_type_table_is_bounded_and_as_long_as_its_names() {
        let table = |types| TypeTable {
            types: vec![Shape::Bool; types],
            request: TypeRef::new(0),
            reply: TypeRef::new(0),
            error: None,
        };
        let decode = |table: &TypeTable, names: usize| {
            let bytes = to_postcard(&(table, vec![""; names])).unwrap();
            MethodSchema::decode(&bytes).map(drop)
        };
        assert_eq!(decode(&table(4096), 4096), Ok(()));
        let error = decode(&table(4097), 4097).unwrap_err();
        assert_eq!(error, SchemaError::TooManyTypes(4097));
        let error = decode(&table(2), 1).unwrap_err();
        assert_eq!(error, SchemaError::NameCount { types: 2, names: 1 });
        let error = decode(&table(0), 0).unwrap_err();
        assert_eq!(error, SchemaError::TypeOutOfRange { index: 0, types: 0 });
        let many = (0..60_000)
            .map(|_| Field::new("", TypeRef::new(1)))
            .collect();
        let large = schema_of_shape(Shape::Struct {
            fields: many,
            denies_unknown_fields: false,
        });
        assert_eq!(large.encode(), None);
    }

    #[test]
    fn a_variant_that_is_not_read_shifts_those_after_it() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum SkipsFirst {
            #[serde(skip)]
            _A,
            B,
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum SkipsLast {
            A,
            #[serde(skip)]
            _B,
        }
        let bytes = to_postcard(&SkipsFirst::B).unwrap();
        assert!(from_postcard::<SkipsFirst>(&bytes).is_err());
        let bytes = to_postcard(&SkipsLast::A).unwrap();
        assert_eq!(from_postcard(&bytes), Ok(SkipsLast::A));
    }

    #[test]
    fn types_that_postcard_cannot_carry_need_the_named_encoding() {
        let field = || Field::new("a", TypeRef::new(0));
        let fields = |field| Shape::Struct {
            fields: vec![field],
            denies_unknown_fields: false,
        };
        let variant = |name| Variant::new(name, VariantContent::Unit);
        let skipped = |name| variant(name).with_written(None).with_read(&[]);
        let variants = |variants| Shape::Enum {
            variants,
            denies_unknown_fields: false,
        };
        let content = |field| {
            let content = VariantContent::Struct(vec![field]);
            variants(vec![Variant::new("A", content)])
        };
        for (shape, needs) in [
            (Shape::SelfDescribing, true),
            (Shape::Unit, false),
            (fields(field().optional()), false),
            (
                fields(field().with_written(Some("b")).with_read(&["c"])),
                false,
            ),
            (fields(field().with_written(None)), true),
            (fields(field().with_read(&[])), true),
            (content(field()), false),
            (content(field().with_read(&[])), true),
            (variants(vec![variant("A"), variant("B")]), false),
            (variants(vec![variant("A"), skipped("B")]), false),
            (variants(vec![skipped("A"), variant("B")]), true),
            (
                variants(vec![variant("A").with_read(&[]), variant("B")]),
                true,
            ),
            (
                variants(vec![variant("A").with_written(None), variant("B")]),
                false,
            ),
        ] {
            let text = format!("{shape:?}");
            assert_eq!(
                schema_of_shape(shape).needs_named_encoding(),
                needs,
                "{text}"
            );
        }
    }
}
