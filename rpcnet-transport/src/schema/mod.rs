//! Schemas of messages: the structure of types as serde writes and reads them.

mod bounds;
mod builder;
mod compatibility;
mod incompatibility;
mod method;
mod path;
mod shape;
mod std_types;
mod text;

pub use self::{
    bounds::{SCHEMA_BYTES_MAX, SchemaError},
    builder::{Message, SchemaBuilder},
    incompatibility::Incompatibility,
    method::MethodSchema,
    shape::{Field, Shape, TypeRef, Variant, VariantContent},
};
