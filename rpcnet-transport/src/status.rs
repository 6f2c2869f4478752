//! Status of a call that its handler or its server ends without a reply.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::Serialize;

use crate::{Code, Processed, codec};

/// How a handler says that it failed. The caller gets it as an [`RpcError`](crate::RpcError).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) details: Bytes,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) processed: Processed,
}

impl Status {
    /// A status of this code. The message is for people and is cut at
    /// [`STATUS_MESSAGE_BYTES_MAX`](crate::wire::STATUS_MESSAGE_BYTES_MAX) bytes on the wire.
    ///
    /// [`Code::Ok`] is no failure; it is sent as [`Code::Internal`].
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let code = if code == Code::Ok {
            Code::Internal
        } else {
            code
        };
        Self {
            code,
            message: message.into(),
            details: Bytes::new(),
            retry_after: None,
            processed: Processed::Yes,
        }
    }

    /// The server failed, by its own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The request makes no sense.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    /// The caller may not do this.
    pub fn permission_denied(message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// The handler did nothing, since there is too much to do: the caller may go to another node at once.
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::new(Code::Overloaded, message).not_processed()
    }

    /// An error of the application's own, which the caller reads with [`RpcError::app`](crate::RpcError::app).
    /// A value that does not encode becomes [`Code::Internal`].
    pub fn app<E: Serialize>(error: &E, message: impl Into<String>) -> Self {
        match codec::to_postcard(error) {
            Ok(details) => Self::new(Code::App, message).with_details(details),
            Err(failure) => Self::internal(format!(
                "the application error could not be encoded: {failure}"
            )),
        }
    }

    /// Sends bytes along.
    pub fn with_details(mut self, details: impl Into<Bytes>) -> Self {
        self.details = details.into();
        self
    }

    /// Tells the caller when another attempt makes sense.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Tells the caller not to try again, here or elsewhere: it would only make things worse. It becomes the longest
    /// [`retry_after`](crate::RpcError::retry_after), and [`RpcError::is_retryable`](crate::RpcError::is_retryable) is false.
    pub fn do_not_retry(self) -> Self {
        self.with_retry_after(Duration::MAX)
    }

    /// Vouches that the handler did nothing that a second attempt would do twice.
    pub fn not_processed(mut self) -> Self {
        self.processed = Processed::No;
        self
    }

    /// What happened.
    pub fn code(&self) -> Code {
        self.code
    }

    /// For people. The [`Display`](fmt::Display) of the status escapes characters that cannot be
    /// printed.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What is sent along.
    pub fn details(&self) -> &Bytes {
        &self.details
    }

    pub(crate) fn with_processed(mut self, processed: Processed) -> Self {
        self.processed = processed;
        self
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.fmt_with(&self.message, f)
    }
}

impl std::error::Error for Status {}
