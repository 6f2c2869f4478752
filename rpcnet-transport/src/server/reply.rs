//! What handlers may return.

use bytes::Bytes;

use crate::{Encode, Status};

/// What a typed handler may return: a value to reply with, or a `Result` whose error becomes a [`Status`].
///
/// `By` is found by the compiler. A `Result` whose error both serialises and becomes a [`Status`] fits twice; map its
/// error to a `Status` first.
pub trait IntoReply<By> {
    /// The bytes of the reply, or the status to send instead.
    ///
    /// # Errors
    ///
    /// The handler's status, or [`Code::Internal`](crate::Code::Internal) if the value does not encode.
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
