//! Types of messages as they change from release to release, and their schemas by hand.

use std::collections::{BTreeMap, HashMap};

use rpcnet_transport::{
    Message,
    schema::{Field, SchemaBuilder, Shape, TypeRef, Variant, VariantContent},
};
use serde::{Deserialize, Serialize};

/// Defines a type with serde's derives, and its schema by hand.
macro_rules! message {
    ($(#[$attribute:meta])* $kind:ident $name:ident $body:tt, |$schema:ident| $shape:expr) => {
        #[derive(Debug, Serialize, Deserialize)]
        #[allow(dead_code, reason = "what is decoded is encoded again")]
        $(#[$attribute])*
        pub(crate) $kind $name $body

        impl Message for $name {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                schema.define::<Self>(stringify!($name), |$schema| $shape)
            }
        }
    };
}

fn fields(fields: Vec<Field>) -> Shape {
    Shape::Struct {
        fields,
        denies_unknown_fields: false,
    }
}

fn variants(variants: Vec<Variant>) -> Shape {
    Shape::Enum {
        variants,
        denies_unknown_fields: false,
    }
}

fn field<T: Message>(schema: &mut SchemaBuilder, name: &str) -> Field {
    Field::new(name, schema.add::<T>())
}

fn unit(name: &str) -> Variant {
    Variant::new(name, VariantContent::Unit)
}

message! {
    struct Job { id: u32, name: String },
    |s| fields(vec![field::<u32>(s, "id"), field::<String>(s, "name")])
}

message! {
    struct JobReordered { name: String, id: u32 },
    |s| fields(vec![field::<String>(s, "name"), field::<u32>(s, "id")])
}

message! {
    struct JobWider { id: u64, name: Option<String> },
    |s| fields(vec![field::<u64>(s, "id"), field::<Option<String>>(s, "name").optional()])
}

message! {
    struct JobWithDefault { id: u32, name: String, #[serde(default)] size: u8 },
    |s| fields(vec![
        field::<u32>(s, "id"),
        field::<String>(s, "name"),
        field::<u8>(s, "size").optional(),
    ])
}

message! {
    struct JobWithRequired { id: u32, name: String, size: u8 },
    |s| fields(vec![
        field::<u32>(s, "id"),
        field::<String>(s, "name"),
        field::<u8>(s, "size"),
    ])
}

message! {
    struct JobWithoutName { id: u32 },
    |s| fields(vec![field::<u32>(s, "id")])
}

message! {
    #[serde(default)]
    #[derive(Default)]
    struct JobAllDefault { id: i16, name: String, parts: Vec<u8> },
    |s| fields(vec![
        field::<i16>(s, "id").optional(),
        field::<String>(s, "name").optional(),
        field::<Vec<u8>>(s, "parts").optional(),
    ])
}

message! {
    #[serde(deny_unknown_fields)]
    struct JobStrict { id: u32 },
    |s| Shape::Struct { fields: vec![field::<u32>(s, "id")], denies_unknown_fields: true }
}

message! {
    struct JobRenamed { #[serde(rename = "number")] id: u32, name: String },
    |s| fields(vec![field::<u32>(s, "number"), field::<String>(s, "name")])
}

message! {
    struct JobAlias { #[serde(rename = "number", alias = "id")] id: u32, name: String },
    |s| fields(vec![
        field::<u32>(s, "number").with_read(&["number", "id"]),
        field::<String>(s, "name"),
    ])
}

message! {
    struct JobBothNames { id: u32, number: u32, name: String },
    |s| fields(vec![
        field::<u32>(s, "id"),
        field::<u32>(s, "number"),
        field::<String>(s, "name"),
    ])
}

message! {
    struct JobNamedAgain {
        #[serde(rename(serialize = "id", deserialize = "number"))]
        id: u32,
        name: String,
    },
    |s| fields(vec![
        field::<u32>(s, "id").with_read(&["number"]),
        field::<String>(s, "name"),
    ])
}

message! {
    struct JobUnread {
        id: u32,
        #[serde(skip_deserializing)]
        name: String,
    },
    |s| fields(vec![field::<u32>(s, "id"), field::<String>(s, "name").with_read(&[])])
}

message! {
    struct JobUnwritten {
        id: u32,
        #[serde(skip_serializing)]
        name: String,
    },
    |s| fields(vec![field::<u32>(s, "id"), field::<String>(s, "name").with_written(None)])
}

message! {
    struct JobNameIsNumber { id: u32, name: u8 },
    |s| fields(vec![field::<u32>(s, "id"), field::<u8>(s, "name")])
}

message! {
    struct Empty {},
    |_s| fields(vec![])
}

message! {
    enum Codec { Raw, Zip(u8), Pair(u8, bool), Named { level: u8 } },
    |s| variants(vec![
        unit("Raw"),
        Variant::new("Zip", VariantContent::Newtype(s.add::<u8>())),
        Variant::new("Pair", VariantContent::Tuple(vec![s.add::<u8>(), s.add::<bool>()])),
        Variant::new("Named", VariantContent::Struct(vec![field::<u8>(s, "level")])),
    ])
}

message! {
    enum CodecMore { New, Named { #[serde(default)] name: String, level: i64 }, Raw, Zip(Option<u8>) },
    |s| variants(vec![
        unit("New"),
        Variant::new("Named", VariantContent::Struct(vec![
            field::<String>(s, "name").optional(),
            field::<i64>(s, "level"),
        ])),
        unit("Raw"),
        Variant::new("Zip", VariantContent::Newtype(s.add::<Option<u8>>())),
    ])
}

message! {
    enum CodecOther { Raw, #[serde(other)] Other },
    |_s| variants(vec![unit("Raw"), unit("Other").other()])
}

message! {
    enum CodecRenamed { #[serde(rename = "raw", alias = "Raw")] Raw },
    |_s| variants(vec![unit("raw").with_read(&["raw", "Raw"])])
}

message! {
    enum CodecZipIsText { Raw, Zip(String) },
    |s| variants(vec![
        unit("Raw"),
        Variant::new("Zip", VariantContent::Newtype(s.add::<String>())),
    ])
}

message! {
    #[serde(deny_unknown_fields)]
    enum CodecStrict { Named { name: Option<String> } },
    |s| Shape::Enum {
        variants: vec![Variant::new("Named", VariantContent::Struct(vec![
            field::<Option<String>>(s, "name").optional(),
        ]))],
        denies_unknown_fields: true,
    }
}

message! {
    enum Gif { Gif, Png },
    |_s| variants(vec![unit("Gif"), unit("Png")])
}

message! {
    enum GifSkipped { #[serde(skip)] _Gif, Png },
    |_s| variants(vec![unit("_Gif").with_written(None).with_read(&[]), unit("Png")])
}

message! {
    struct Tree { size: u8, children: Vec<Tree> },
    |s| fields(vec![field::<u8>(s, "size"), field::<Vec<Self>>(s, "children")])
}

message! {
    struct TreeWider { size: i32, children: Option<Vec<TreeWider>> },
    |s| fields(vec![
        field::<i32>(s, "size"),
        field::<Option<Vec<Self>>>(s, "children").optional(),
    ])
}

message! {
    struct TreeOfTexts { size: u8, children: Vec<TextLeaf> },
    |s| fields(vec![field::<u8>(s, "size"), field::<Vec<TextLeaf>>(s, "children")])
}

message! {
    struct TextLeaf { size: String },
    |s| fields(vec![field::<String>(s, "size")])
}

message! {
    struct Flattened { id: u32, #[serde(flatten)] rest: HashMap<String, u8> },
    |_s| Shape::SelfDescribing
}

pub(crate) type Map = BTreeMap<u16, Vec<Option<i8>>>;
pub(crate) type MapWider = HashMap<i32, Vec<i64>>;
