//! Results of handlers: their return types, and the statuses that replace them.

use bytes::Bytes;

use crate::{Code, Encode, ErrorType, Processed, Status, codec::Encoding};

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
        encode_reply(&self, Encoding::Postcard)
    }
}

impl<T: Encode, E: Into<Status>> IntoReply<ResultReply> for Result<T, E> {
    fn into_reply(self) -> Result<Bytes, Status> {
        self.map_err(Into::into)
            .and_then(|value| encode_reply(&value, Encoding::Postcard))
    }
}

/// Return type of the handler of a typed method: its reply, or a `Result` of it and the error of
/// the method. The compiler finds `By`.
pub trait MethodReply<Reply, E, By> {
    #[doc(hidden)]
    fn into_reply(self, encoding: Encoding) -> Result<Bytes, Status>;
}

impl<Reply: Encode, E> MethodReply<Reply, E, ValueReply> for Reply {
    fn into_reply(self, encoding: Encoding) -> Result<Bytes, Status> {
        encode_reply(&self, encoding)
    }
}

impl<Reply: Encode, E: ErrorType> MethodReply<Reply, E, ResultReply> for Result<Reply, E> {
    fn into_reply(self, encoding: Encoding) -> Result<Bytes, Status> {
        match self {
            Ok(reply) => encode_reply(&reply, encoding),
            Err(error) => Err(error.into_status(encoding)),
        }
    }
}

pub(super) fn encode_reply(reply: &impl Encode, encoding: Encoding) -> Result<Bytes, Status> {
    let encoded = reply.encode_as(encoding);
    encoded.map_err(|e| Status::internal(format!("the reply could not be encoded: {e}")))
}

/// Result of a handler: the body of its reply, or the status that the caller gets instead.
pub(crate) type HandlerResult = Result<Bytes, Status>;

/// The reply, unless it exceeds the limit of the size of messages.
pub(super) fn check_reply_size(reply: Bytes, limit: usize) -> Result<Bytes, Status> {
    if reply.len() <= limit {
        return Ok(reply);
    }
    let message = format!(
        "the reply of {} bytes exceeds the limit of {limit} bytes",
        reply.len()
    );
    Err(Status::new(Code::PayloadTooLarge, message))
}

/// A status for a call whose handler may have done its work.
pub(super) fn maybe_processed(code: Code, message: &str) -> Status {
    Status::new(code, message).with_processed(Processed::Maybe)
}
