//! Types of a method.

use serde::{Deserialize, Serialize};

use super::{Shape, TypeRef};

/// Types of a method without names for people. Its postcard form is what is hashed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TypeTable {
    pub(super) types: Vec<Shape>,
    pub(super) request: TypeRef,
    pub(super) reply: TypeRef,
    pub(super) error: Option<TypeRef>,
}

impl TypeTable {
    pub(super) fn shape(&self, ty: TypeRef) -> &Shape {
        &self.types[ty.index()]
    }
}
