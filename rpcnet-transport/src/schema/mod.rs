//! Schemas of messages: the structure of types as serde writes and reads them.
//!
//! The nodes of a cluster are upgraded one after the other, so a caller and a server may have
//! different types for one method. Each side describes its types in a [`MethodSchema`]:
//!
//! - Schemas of equal [hashes](MethodSchema::hash) need nothing more: messages are encoded with
//!   postcard, as if there were no schemas.
//! - Schemas of different hashes are exchanged and
//!   [compared](MethodSchema::check_compatible). Compatible ones call with
//!   [an encoding that has names](crate::Encoding::Named), where serde's own rules bridge the
//!   difference.
//! - Incompatible ones do not call: the [`Incompatibility`] says where the types differ.
//!
//! A service has one [hash](service_hash) for the types of all its methods, which servers can
//! announce, so that callers know before they call whether their types are the same.
//!
//! # What is compatible
//!
//! The request is written by the caller and read by the server; replies and errors the other way
//! round. *By value* means that the types are compatible, and that a value which the reader has no
//! place for fails when it is decoded.
//!
//! | written | read | compatible |
//! |---|---|---|
//! | integer of 8 to 64 bits | integer of 8 to 64 bits | by value: within the range of the reader |
//! | integer of 128 bits | the same | yes; with no other integer |
//! | `f32` | `f64` | yes |
//! | `f64` | `f32` | yes: rounded, and infinite if it is too large |
//! | `bool`, `char`, text, bytes, `()`, unit struct | the same | yes; `()` is no unit struct |
//! | `T` | `Option<T>` | yes |
//! | `Option<T>` | `T` | by value: all but `None` |
//! | `()` | `Option`, and the other way round | no: `()` and `None` look the same |
//! | `Option` of an `Option` or of `()` | anything | no: `Some(None)` and `None` look the same |
//! | sequence, set | sequence, set | if the items are |
//! | map | map | if the keys and the values are |
//! | tuple, array | tuple, array of the same length | if the fields are |
//! | newtype struct | its inner type, or another newtype | if the inner types are |
//! | struct | struct | field by field, see below |
//! | enum | enum | variant by variant, see below |
//! | opaque type | opaque type of the same name and `since` | yes; with nothing else |
//! | type that describes itself | anything, and the other way round | by value |
//!
//! Every other pair is incompatible, also where the bytes could be read: an integer is no `f64`,
//! and a struct no map.
//!
//! A **field** is found by its name or an alias, in any order.
//!
//! | field | compatible |
//! |---|---|
//! | in both | if the types are |
//! | not written | if the reader has a serde default or an `Option` |
//! | not read | yes, unless the reader has `#[serde(deny_unknown_fields)]` |
//! | written under two names that are one field of the reader | no |
//!
//! A **variant** is found by its name or an alias too.
//!
//! | variant | compatible |
//! |---|---|
//! | in both | if both have no content, or contents of the same kind that are compatible |
//! | not read | by value: it must not be sent; `#[serde(other)]` reads it if it has no content |
//! | not written | yes |
//! | none in both | no, unless the reader has `#[serde(other)]` |
//!
//! Values nested deeper than 128 levels, counted in sequences, maps, structs and variants with
//! content, cannot be encoded with names. Within opaque types and types that describe themselves,
//! and of an `Option` of one, a `Some` that holds null is read as `None`.

mod bounds;
mod builder;
mod compatibility;
mod incompatibility;
mod method;
mod path;
mod round_trip;
mod service;
mod shape;
mod stable_hash;
mod std_types;
mod text;
mod type_table;

pub use self::{
    bounds::{SCHEMA_BYTES_MAX, SchemaError},
    builder::{Message, SchemaBuilder},
    incompatibility::Incompatibility,
    method::MethodSchema,
    round_trip::{RoundTripError, check_round_trip, check_round_trip_as},
    service::{service_hash, service_of},
    shape::{Field, Shape, TypeRef, Variant, VariantContent},
};
