//! Error of a method of a mock.

use std::fmt;

use crate::{
    Code, ErrorType, Status,
    codec::Encoding,
    schema::{SchemaBuilder, TypeRef},
};

/// Error of a method of a mock: that of the method, or that the mock does not answer.
pub enum MockError<E> {
    /// No closure was set for the method of this name.
    Unset(&'static str),
    /// The closure returned an error.
    Service(E),
}

impl<E: ErrorType> ErrorType for MockError<E> {
    type ClientError = E::ClientError;

    fn describe(schema: &mut SchemaBuilder) -> Option<TypeRef> {
        E::describe(schema)
    }

    fn into_status(self, encoding: Encoding) -> Status {
        match self {
            Self::Unset(name) => {
                let message = format!("no closure was set for {name:?} of the mock");
                Status::new(Code::Unimplemented, message).not_processed()
            }
            Self::Service(error) => error.into_status(encoding),
        }
    }
}

impl<E> fmt::Debug for MockError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset(name) => f.debug_tuple("Unset").field(name).finish(),
            Self::Service(_) => f.debug_tuple("Service").finish_non_exhaustive(),
        }
    }
}
