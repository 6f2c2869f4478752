//! Bounds of a schema that a peer sends.

use super::{Field, Shape, TypeRef, VariantContent, type_table::TypeTable};
use crate::CodecError;

/// Largest encoded schema.
pub const SCHEMA_BYTES_MAX: usize = 48 * 1024;

/// Most types of a schema.
const TYPES_MAX: usize = 4096;

/// Longest name of a type, field or variant, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Bytes that are not a schema, or one that exceeds a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The encoded schema exceeds [`SCHEMA_BYTES_MAX`].
    #[error("schema of {0} bytes exceeds {SCHEMA_BYTES_MAX}")]
    TooManyBytes(usize),
    /// The bytes are not a schema, or one of a newer release.
    #[error("malformed schema: {0}")]
    Malformed(CodecError),
    /// The schema has more types than 4096.
    #[error("schema of {0} types exceeds {TYPES_MAX}")]
    TooManyTypes(usize),
    /// The number of names differs from the number of types.
    #[error("schema of {types} types names {names}")]
    NameCount {
        /// Number of types.
        types: usize,
        /// Number of names.
        names: usize,
    },
    /// A type is not in the type table.
    #[error("type {index} of a schema of {types} types")]
    TypeOutOfRange {
        /// Index of the type.
        index: usize,
        /// Number of types.
        types: usize,
    },
    /// A name exceeds 256 bytes.
    #[error("name of {0} bytes in a schema exceeds {NAME_BYTES_MAX}")]
    NameTooLong(usize),
    /// A number has a width that no type has.
    #[error("number of {0} bits in a schema")]
    Bits(u8),
}

pub(super) fn check(table: &TypeTable, names: &[String]) -> Result<(), SchemaError> {
    let types = table.types.len();
    if types > TYPES_MAX {
        return Err(SchemaError::TooManyTypes(types));
    }
    if names.len() != types {
        let names = names.len();
        return Err(SchemaError::NameCount { types, names });
    }
    let check = Check { types };
    names.iter().try_for_each(|name| check.name(name))?;
    let roots = [Some(table.request), Some(table.reply), table.error];
    check.refs(roots.iter().flatten())?;
    table.types.iter().try_for_each(|shape| check.shape(shape))
}

#[derive(Clone, Copy)]
struct Check {
    types: usize,
}

impl Check {
    fn shape(self, shape: &Shape) -> Result<(), SchemaError> {
        match shape {
            Shape::Unsigned { bits } | Shape::Signed { bits } => match bits {
                8 | 16 | 32 | 64 | 128 => Ok(()),
                bits => Err(SchemaError::Bits(*bits)),
            },
            Shape::Float { bits } if !matches!(bits, 32 | 64) => Err(SchemaError::Bits(*bits)),
            Shape::Option(inner) | Shape::Sequence(inner) => self.refs([inner]),
            Shape::Map { key, value } => self.refs([key, value]),
            Shape::Tuple(fields) => self.refs(fields),
            Shape::Struct { fields, .. } => self.fields(fields),
            Shape::Enum { variants, .. } => variants.iter().try_for_each(|variant| {
                self.names(variant.written.iter().chain(&variant.read))?;
                match &variant.content {
                    VariantContent::Unit => Ok(()),
                    VariantContent::Newtype(inner) => self.refs([inner]),
                    VariantContent::Tuple(fields) => self.refs(fields),
                    VariantContent::Struct(fields) => self.fields(fields),
                }
            }),
            Shape::Opaque { name, .. } => self.name(name),
            Shape::Bool
            | Shape::Float { .. }
            | Shape::Char
            | Shape::String
            | Shape::Bytes
            | Shape::Unit
            | Shape::SelfDescribing => Ok(()),
        }
    }

    fn fields(self, fields: &[Field]) -> Result<(), SchemaError> {
        fields.iter().try_for_each(|field| {
            self.names(field.written.iter().chain(&field.read))?;
            self.refs([&field.ty])
        })
    }

    fn refs<'a>(self, refs: impl IntoIterator<Item = &'a TypeRef>) -> Result<(), SchemaError> {
        let types = self.types;
        let out_of_range = refs.into_iter().find(|ty| ty.index() >= types);
        out_of_range.map_or(Ok(()), |ty| {
            let index = ty.index();
            Err(SchemaError::TypeOutOfRange { index, types })
        })
    }

    fn names<'a>(self, names: impl Iterator<Item = &'a String>) -> Result<(), SchemaError> {
        names.into_iter().try_for_each(|name| self.name(name))
    }

    fn name(self, name: &str) -> Result<(), SchemaError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(SchemaError::NameTooLong(name.len()));
        }
        Ok(())
    }
}
