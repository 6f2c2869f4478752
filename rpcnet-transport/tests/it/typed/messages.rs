//! Messages of the tests, with their schemas.

use rpcnet_transport::{
    Message,
    schema::{Field, SchemaBuilder, Shape, TypeRef},
};
use serde::{Deserialize, Serialize};

/// Error of a method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) number: u64,
}

impl Message for Refusal {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("Refusal", |schema| Shape::Struct {
            fields: vec![Field::new("number", schema.add::<u64>())],
            denies_unknown_fields: false,
        })
    }
}
