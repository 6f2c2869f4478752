//! Messages of types without a schema, as methods with `since` and `self_describing` have them.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Message,
    schema::{SchemaBuilder, Shape, TypeRef},
};

/// Message whose encoding is the user's, unchanged since this version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque<T, const SINCE: u32>(pub T);

/// Message that is sent with names, and decoded by what the bytes say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SelfDescribing<T>(pub T);

impl<T, const SINCE: u32> Message for Opaque<T, SINCE>
where
    T: Serialize + DeserializeOwned + 'static,
{
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("opaque", |_| Shape::Opaque {
            // Names of foreign types are not the same for each compiler.
            name: String::new(),
            since: SINCE,
        })
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Message for SelfDescribing<T> {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("self-describing", |_| Shape::SelfDescribing)
    }
}
