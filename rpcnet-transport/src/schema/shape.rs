//! Shapes of types, as serde writes and reads them.

use serde::{Deserialize, Serialize};

/// Index of a type in the type table of one schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TypeRef(u32);

impl TypeRef {
    pub(super) fn new(index: usize) -> Self {
        // A table of more types does not fit into the memory of a process.
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Structure of a type. Its postcard form is hashed: a variant is added at the end alone, and none
/// is changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// `bool`.
    Bool,
    /// Unsigned integer.
    Unsigned {
        /// 8, 16, 32, 64 or 128.
        bits: u8,
    },
    /// Signed integer.
    Signed {
        /// 8, 16, 32, 64 or 128.
        bits: u8,
    },
    /// Floating-point number.
    Float {
        /// 32 or 64.
        bits: u8,
    },
    /// `char`.
    Char,
    /// Text.
    String,
    /// Bytes that are written as such (`serialize_bytes`). A `Vec<u8>` is a sequence.
    Bytes,
    /// `()`. A unit struct is written as a tuple of no fields, and is one.
    Unit,
    /// `Option` of a type.
    Option(TypeRef),
    /// Sequence of any length.
    Sequence(TypeRef),
    /// Map.
    Map {
        /// Type of the keys.
        key: TypeRef,
        /// Type of the values.
        value: TypeRef,
    },
    /// Tuple, array, unit struct, or tuple struct of no or several fields. A newtype struct is its
    /// inner type and has no shape of its own.
    Tuple(Vec<TypeRef>),
    /// Struct with named fields.
    Struct {
        /// Fields in the order of the definition. Fields that are neither written nor read are left
        /// out.
        fields: Vec<Field>,
        /// `#[serde(deny_unknown_fields)]`.
        denies_unknown_fields: bool,
    },
    /// Enum.
    Enum {
        /// Variants in the order of the definition, with those that are neither written nor read:
        /// they have an index.
        variants: Vec<Variant>,
        /// `#[serde(deny_unknown_fields)]`, which is about struct variants.
        denies_unknown_fields: bool,
    },
    /// Type whose encoding is the user's business: compatible with the same name and number alone.
    Opaque {
        /// Name of the type.
        name: String,
        /// Number that the user raises with each change of the encoding.
        since: u32,
    },
    /// Type that needs an encoding that describes itself, as `serde_json::Value` and types with
    /// `#[serde(flatten)]` do. Compatible with every type by value.
    SelfDescribing,
}

/// Field of a struct or of a struct variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Name that the field is written with; `None` if it is never written.
    pub written: Option<String>,
    /// Names that the field is read by: name and aliases. Empty if it is never read.
    pub read: Vec<String>,
    /// Whether a reader does without the field: a serde default, or an `Option`.
    pub is_optional: bool,
    /// Type of the field.
    pub ty: TypeRef,
}

impl Field {
    /// Required field that is written and read with one name.
    #[must_use]
    pub fn new(name: &str, ty: TypeRef) -> Self {
        Self {
            written: Some(name.to_owned()),
            read: vec![name.to_owned()],
            is_optional: false,
            ty,
        }
    }

    /// Sets the name that the field is written with; `None` if it is never written.
    #[must_use]
    pub fn with_written(mut self, name: Option<&str>) -> Self {
        self.written = name.map(str::to_owned);
        self
    }

    /// Sets the names that the field is read by; none if it is never read.
    #[must_use]
    pub fn with_read(mut self, names: &[&str]) -> Self {
        self.read = names.iter().copied().map(str::to_owned).collect();
        self
    }

    /// A reader does without the field.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }
}

/// Variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Variant {
    /// Name that the variant is written with; `None` if it is never written.
    pub written: Option<String>,
    /// Names that the variant is read by: name and aliases. Empty if it is never read.
    pub read: Vec<String>,
    /// `#[serde(other)]`: the variant that unknown unit variants are read as.
    pub is_other: bool,
    /// Fields of the variant.
    pub content: VariantContent,
}

impl Variant {
    /// Variant that is written and read with one name.
    #[must_use]
    pub fn new(name: &str, content: VariantContent) -> Self {
        Self {
            written: Some(name.to_owned()),
            read: vec![name.to_owned()],
            is_other: false,
            content,
        }
    }

    /// Sets the name that the variant is written with; `None` if it is never written.
    #[must_use]
    pub fn with_written(mut self, name: Option<&str>) -> Self {
        self.written = name.map(str::to_owned);
        self
    }

    /// Sets the names that the variant is read by; none if it is never read.
    #[must_use]
    pub fn with_read(mut self, names: &[&str]) -> Self {
        self.read = names.iter().copied().map(str::to_owned).collect();
        self
    }

    /// Marks the variant as `#[serde(other)]`.
    #[must_use]
    pub fn other(mut self) -> Self {
        self.is_other = true;
        self
    }
}

/// Fields of a variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VariantContent {
    /// None.
    Unit,
    /// One without a name.
    Newtype(TypeRef),
    /// None or several without names, in parentheses.
    Tuple(Vec<TypeRef>),
    /// With names, in braces.
    Struct(Vec<Field>),
}
