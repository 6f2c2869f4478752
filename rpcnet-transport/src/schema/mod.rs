//! Schemas of messages: the structure of types as serde writes and reads them.

mod builder;
mod shape;
mod std_types;

pub use self::{
    builder::{Message, SchemaBuilder},
    shape::{Field, Shape, TypeRef, Variant, VariantContent},
};
