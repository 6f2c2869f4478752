//! Errors of calls that end on this side: deadlines and draining servers.

use crate::{Code, Processed, RpcError};

/// [`Processed`] of a failed call, by whether its request was sent completely.
pub(super) fn processed_if_sent(sent: bool) -> Processed {
    if sent {
        Processed::Maybe
    } else {
        Processed::No
    }
}

/// Error of a call to a draining server.
pub(super) fn draining_error() -> RpcError {
    let message = "the server drains and accepts no new calls";
    RpcError::new(Code::Draining, Processed::No, message)
}

/// Error of a call whose deadline has passed, before or after its request was sent.
pub(super) fn deadline_exceeded(sent: bool) -> RpcError {
    let message = match sent {
        true => "deadline exceeded before the reply arrived",
        false => "deadline exceeded before the request was sent",
    };
    RpcError::new(Code::DeadlineExceeded, processed_if_sent(sent), message)
}
