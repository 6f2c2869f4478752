//! Result of a run: what its callers get, and what is cached.

use bytes::Bytes;

use crate::{
    Code, Processed, Status,
    server::{
        call_status,
        handler_result::{HandlerResult, maybe_processed},
    },
};

#[derive(Debug, Clone)]
pub(super) enum DetachedResult {
    Returned(HandlerResult),
    Panicked,
    /// The run was cancelled before it returned.
    Cancelled,
}

impl DetachedResult {
    /// The result for a call that has not run the handler.
    pub(super) fn into_repeat_result(self) -> HandlerResult {
        match self {
            Self::Returned(outcome) => outcome,
            Self::Panicked => Err(call_status::panicked()),
            Self::Cancelled => Err(maybe_processed(
                Code::Cancelled,
                "the handler was cancelled before it returned",
            )),
        }
    }

    /// The part of the result that is cached, and its size. Nothing is cached of a call that was
    /// certainly not processed, or whose run was cut short: by its time limit, a shutdown, or a
    /// call that its handler made.
    pub(super) fn cacheable(&self) -> Option<(Self, usize)> {
        match self {
            Self::Returned(Ok(reply)) => {
                // A copy, so that the packets of the request are freed.
                let reply = Bytes::copy_from_slice(reply);
                let bytes = reply.len() + ENTRY_BYTES;
                Some((Self::Returned(Ok(reply)), bytes))
            }
            Self::Returned(Err(status)) if status.processed == Processed::No => None,
            Self::Returned(Err(status)) if is_unfinished(status) => None,
            Self::Returned(Err(status)) => {
                let bytes = status.message.len() + status.details.len() + ENTRY_BYTES;
                Some((self.clone(), bytes))
            }
            Self::Panicked => Some((Self::Panicked, ENTRY_BYTES)),
            Self::Cancelled => None,
        }
    }
}

/// Whether the handler, or a call that it made, stopped before the work was done.
fn is_unfinished(status: &Status) -> bool {
    matches!(status.code, Code::DeadlineExceeded | Code::Cancelled)
}

/// Marks the status of a run that was cut short, so that a repeat runs again.
pub(super) fn mark_unfinished(status: Status) -> Status {
    if is_unfinished(&status) && status.processed == Processed::Yes {
        return status.with_processed(Processed::Maybe);
    }
    status
}

/// Approximate size of an entry beside its reply.
const ENTRY_BYTES: usize = 200;
