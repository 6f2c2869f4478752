//! Statuses of calls that end without a result of their handler. They count nothing.

use super::handler_result::maybe_processed;
use crate::{Code, Processed, Status};

/// The deadline passed before the handler started.
pub(super) fn expired() -> Status {
    let message = "deadline exceeded before the handler started";
    Status::new(Code::DeadlineExceeded, message).not_processed()
}

/// The deadline passed while the handler ran.
pub(super) fn timed_out() -> Status {
    let message = "deadline exceeded before the handler returned";
    maybe_processed(Code::DeadlineExceeded, message)
}

/// The server shut down before the handler started.
pub(super) fn not_started_in_shutdown() -> Status {
    let message = "the server shut down before the handler started";
    Status::new(Code::Draining, message).not_processed()
}

/// The server shut down while the handler ran.
pub(super) fn cancelled_in_shutdown() -> Status {
    let message = "the server shut down before the handler returned";
    maybe_processed(Code::Cancelled, message)
}

/// The handler panicked.
pub(crate) fn panicked() -> Status {
    maybe_processed(Code::Internal, "the handler panicked")
}

/// The handler has no future: a fault of this crate.
pub(super) fn not_started() -> Status {
    Status::internal("the handler was not started")
}

/// The caller asked whether it has the same schema of the method, or whether its request can be
/// read, and so it is: a reply without a body. No handler ran.
pub(super) fn check_passed() -> Status {
    // Not by `Status::new`, since a handler does not fail with this code.
    Status {
        code: Code::Ok,
        processed: Processed::No,
        ..Status::internal("")
    }
}
