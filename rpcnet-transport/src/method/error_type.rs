//! Errors of typed methods, on both sides of a call.

use std::{convert::Infallible, error::Error as StdError, fmt};

use crate::{
    Code, Message, RpcError, Status,
    codec::{self, Encode, Encoding},
    schema::{SchemaBuilder, TypeRef},
};

/// Error type of a method: a [`Message`] of its own, [`Status`], or [`Infallible`] for a method
/// that cannot fail by itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a method",
    label = "this type is no error of a method",
    note = "derive `Debug`, serde's `Serialize` and `Deserialize`, and `rpcnet_transport::Message`, \
            or use `rpcnet_transport::Status`"
)]
pub trait ErrorType: Sized + Send + 'static {
    /// Error that a caller gets: [`CallError`] for a message, [`RpcError`] otherwise.
    type ClientError: From<RpcError> + fmt::Debug;

    #[doc(hidden)]
    fn describe(schema: &mut SchemaBuilder) -> Option<TypeRef>;

    #[doc(hidden)]
    fn into_status(self, encoding: Encoding) -> Status;
}

impl<E: Message + Send + fmt::Debug> ErrorType for E {
    type ClientError = CallError<E>;

    fn describe(schema: &mut SchemaBuilder) -> Option<TypeRef> {
        Some(schema.add::<E>())
    }

    fn into_status(self, encoding: Encoding) -> Status {
        match self.encode_as(encoding) {
            Ok(details) => Status::new(Code::App, "").with_details(codec::owned(details)),
            Err(failure) => Status::internal(format!(
                "the error of the method could not be encoded: {failure}"
            )),
        }
    }
}

impl ErrorType for Status {
    type ClientError = RpcError;

    fn describe(_: &mut SchemaBuilder) -> Option<TypeRef> {
        None
    }

    fn into_status(self, _: Encoding) -> Status {
        self
    }
}

impl ErrorType for Infallible {
    type ClientError = RpcError;

    fn describe(_: &mut SchemaBuilder) -> Option<TypeRef> {
        None
    }

    fn into_status(self, _: Encoding) -> Status {
        match self {}
    }
}

/// Error of a typed call: the error of the method, or why the call did not reach it.
#[derive(Debug, Clone)]
pub enum CallError<E> {
    /// The method failed with its own error.
    Service(E),
    /// The call failed: its code, whether it was processed, which node was called.
    Rpc(RpcError),
}

impl<E> CallError<E> {
    /// The error of the method, if it failed by itself.
    #[must_use]
    pub fn service(&self) -> Option<&E> {
        match self {
            Self::Service(error) => Some(error),
            Self::Rpc(_) => None,
        }
    }

    /// The error of the call, if it did not fail by the method itself.
    #[must_use]
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Service(_) => None,
            Self::Rpc(error) => Some(error),
        }
    }
}

impl<E: Message> From<RpcError> for CallError<E> {
    fn from(error: RpcError) -> Self {
        match error.app() {
            Some(service) => Self::Service(service),
            None => Self::Rpc(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Rpc(error) => error.fmt(f),
        }
    }
}

impl<E: StdError> StdError for CallError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Service(error) => error.source(),
            Self::Rpc(error) => error.source(),
        }
    }
}
