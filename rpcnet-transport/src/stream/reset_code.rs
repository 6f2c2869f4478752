//! Error codes of stream resets, and what they tell a caller.

use crate::code::{Code, Processed};

/// Error code of a stream reset, which tells the other side the reason (RFC 9000 section 19.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResetCode {
    /// The stream is no longer wanted.
    Cancelled = 0,
    /// The bytes are not of this protocol, or a frame is not allowed here.
    Malformed = 1,
    /// The header did not arrive in time.
    HeaderTimeout = 2,
    /// The other side stopped reading or writing.
    Stalled = 3,
    /// The message could not be completed.
    Failed = 4,
    /// The server shuts down, and the reply was not complete.
    ShuttingDown = 5,
    /// The deadline of the call passed.
    DeadlineExceeded = 6,
}

/// Status and message for a call that was reset with this code.
pub(crate) fn reset_to_error(code: u64) -> (Code, Processed, &'static str) {
    match code {
        c if c == ResetCode::Malformed as u64 => (
            Code::Internal,
            Processed::Maybe,
            "the server reset the stream as malformed",
        ),
        c if c == ResetCode::HeaderTimeout as u64 => (
            Code::Unavailable,
            Processed::No,
            "header timeout: the request did not reach the server in time",
        ),
        c if c == ResetCode::Stalled as u64 => (
            Code::Unavailable,
            Processed::Maybe,
            "stall timeout: the server reset a call whose request or response was too slow",
        ),
        c if c == ResetCode::Failed as u64 => (
            Code::Internal,
            Processed::Maybe,
            "the server could not complete its response",
        ),
        c if c == ResetCode::ShuttingDown as u64 => (
            Code::Unavailable,
            Processed::Maybe,
            "the server shut down before its response was complete",
        ),
        c if c == ResetCode::DeadlineExceeded as u64 => (
            Code::DeadlineExceeded,
            Processed::Maybe,
            "deadline exceeded before the handler returned",
        ),
        _ => (Code::Cancelled, Processed::Maybe, "cancelled by the server"),
    }
}
