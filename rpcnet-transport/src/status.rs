//! Status: the failure with which a handler or the server ends a call.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::Serialize;

use crate::{Code, Processed, codec};

/// Failure of a handler. The caller gets it as an [`RpcError`](crate::RpcError).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) details: Bytes,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) processed: Processed,
}

impl Status {
    /// Status with this code. The message is for people, and is cut at 1,024 bytes on the wire.
    ///
    /// [`Code::Ok`] is not a failure; it is sent as [`Code::Internal`].
    #[must_use]
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

    /// The server failed by its own fault.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The request is invalid.
    #[must_use]
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    /// The caller is not allowed to do this.
    #[must_use]
    pub fn permission_denied(message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// The handler did nothing because the server is overloaded: the caller may retry on another
    /// node at once.
    #[must_use]
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::new(Code::Overloaded, message).not_processed()
    }

    /// Application error, which the caller reads with [`RpcError::app`](crate::RpcError::app). A
    /// value that cannot be encoded becomes [`Code::Internal`].
    #[must_use]
    pub fn app<E: Serialize>(error: &E, message: impl Into<String>) -> Self {
        match codec::to_postcard(error) {
            // It may be kept, as in the cache of a method.
            Ok(details) => Self::new(Code::App, message).with_details(codec::owned(details)),
            Err(failure) => Self::internal(format!(
                "the application error could not be encoded: {failure}"
            )),
        }
    }

    /// Sets the details, which are sent along.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Bytes>) -> Self {
        self.details = details.into();
        self
    }

    /// Sets the time after which a retry is sensible.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Forbids retries, here or elsewhere: they would only make things worse. It is sent as the
    /// longest [`retry_after`](crate::RpcError::retry_after), and makes
    /// [`RpcError::is_retryable`](crate::RpcError::is_retryable) false.
    #[must_use]
    pub fn do_not_retry(self) -> Self {
        self.with_retry_after(Duration::MAX)
    }

    /// Declares that the handler did nothing that a retry would do twice.
    #[must_use]
    pub fn not_processed(mut self) -> Self {
        self.processed = Processed::No;
        self
    }

    /// Code of the status.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Message for people. The [`Display`](fmt::Display) of the status escapes unprintable
    /// characters.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Details that are sent along.
    #[must_use]
    pub fn details(&self) -> &Bytes {
        &self.details
    }

    /// Status that a layer or a handler returns, for the caller. An unprocessed one with
    /// [`Code::Incompatible`] loses its details: the caller would read them as this server's schema
    /// of the method, and they may be what another server has said about another method. Without
    /// them it asks whether the types fit.
    #[must_use]
    pub(crate) fn without_schema(mut self) -> Self {
        if self.code == Code::Incompatible && self.processed == Processed::No {
            self.details = Bytes::new();
        }
        self
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
