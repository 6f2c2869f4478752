//! Return types of handlers.

use bytes::Bytes;

use crate::{Encode, Status};

/// Return type of a typed handler: a value to reply with, or a `Result` whose error becomes a
/// [`Status`].
///
/// The compiler finds `By`. A `Result` whose error both serialises and becomes a [`Status`] matches
/// twice; map its error to a `Status` first.
pub trait IntoReply<By> {
    /// The bytes of the reply, or the status to send instead.
    ///
    /// # Errors
    ///
    /// The status of the handler, or [`Code::Internal`](crate::Code::Internal) if the value does
    /// not encode.
    fn into_reply(self) -> Result<Bytes, Status>;
}

/// Marks replies that are values.
#[derive(Debug)]
pub enum ValueReply {}

/// Marks replies that may be a [`Status`].
#[derive(Debug)]
pub enum ResultReply {}

impl<T: Encode> IntoReply<ValueReply> for T {
    fn into_reply(self) -> Result<Bytes, Status> {
        self.encode()
            .map_err(|e| Status::internal(format!("the reply could not be encoded: {e}")))
    }
}

impl<T: Encode, E: Into<Status>> IntoReply<ResultReply> for Result<T, E> {
    fn into_reply(self) -> Result<Bytes, Status> {
        self.map_err(Into::into)
            .and_then(|value| value.into_reply())
    }
}

/// Result of a handler: the body of its reply, or the status that the caller gets instead.
pub(crate) type HandlerResult = Result<Bytes, Status>;
