//! Errors of calls that end on this side: deadlines and draining servers.

use tokio::time::Instant;

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
    RpcError::new(
        Code::Draining,
        Processed::No,
        "the server drains and accepts no new calls",
    )
}

/// Whether a deadline has passed.
pub(super) fn is_expired(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|at| at <= now)
}

/// Error of a call whose deadline has passed, before or after its request was sent.
pub(super) fn deadline_exceeded(sent: bool) -> RpcError {
    if sent {
        RpcError::new(
            Code::DeadlineExceeded,
            Processed::Maybe,
            "deadline exceeded before the reply arrived",
        )
    } else {
        RpcError::new(
            Code::DeadlineExceeded,
            Processed::No,
            "deadline exceeded before the request was sent",
        )
    }
}
