//! End of a handler's run: how it is counted, and the result for the caller.

use bytes::Bytes;

use crate::{
    Code, Status,
    endpoint::EndpointShared,
    server::{
        call_parts::CallParts,
        call_status,
        handler_result::{check_reply_size, maybe_processed},
    },
    stream::SendAbort,
};

/// How the run of a handler ended.
pub(super) enum HandlerEnd {
    Returned(Result<Bytes, Status>),
    Panicked,
    CallerGone,
    DeadlineExceeded,
    ShuttingDown,
    /// The caller has not read earlier messages of the stream, so there is no room for another.
    Overloaded,
}

impl HandlerEnd {
    /// Counts the end, apart from that of a handler that returned: its reply is counted when it is
    /// sent.
    pub(super) fn count(&self, shared: &EndpointShared) {
        let counters = &shared.counters;
        match self {
            Self::Panicked => counters.handler_panics.add_one(),
            Self::CallerGone => counters.calls_cancelled.add_one(),
            Self::DeadlineExceeded => counters.calls_timed_out.add_one(),
            Self::ShuttingDown => {
                counters.calls_cancelled.add_one();
                shared.served.cancelled_by_shutdown.add_one();
            }
            // The dropped message was counted.
            Self::Returned(_) | Self::Overloaded => {}
        }
    }

    /// Counts the end of a call that cannot be answered.
    pub(super) fn count_unanswered(&self, shared: &EndpointShared) {
        match self {
            Self::Returned(_) => shared.counters.calls_cancelled.add_one(),
            end => end.count(shared),
        }
    }

    /// The end with a failure in place of a reply that is too large.
    pub(super) fn with_checked_size(self, reply_bytes_max: usize) -> Self {
        match self {
            Self::Returned(outcome) => {
                let checked = outcome.and_then(|reply| check_reply_size(reply, reply_bytes_max));
                Self::Returned(checked)
            }
            end => end,
        }
    }

    /// Tells the layers of the call.
    pub(super) fn tell_layers(&self, parts: &mut CallParts) {
        match self {
            Self::Returned(outcome) => parts.end(outcome),
            Self::Panicked => parts.end_without_result(Code::Internal),
            Self::CallerGone | Self::ShuttingDown => parts.end_without_result(Code::Cancelled),
            Self::DeadlineExceeded => parts.end_without_result(Code::DeadlineExceeded),
            Self::Overloaded => parts.end_without_result(Code::Overloaded),
        }
    }

    /// The result for the caller; `None` if the caller is gone.
    pub(super) fn into_reply(self) -> Option<Result<Bytes, Status>> {
        let status = match self {
            Self::Returned(outcome) => return Some(outcome),
            Self::CallerGone => return None,
            Self::Panicked => call_status::panicked(),
            Self::DeadlineExceeded => call_status::timed_out(),
            Self::ShuttingDown => call_status::cancelled_in_shutdown(),
            Self::Overloaded => {
                let message = "buffer limit reached: earlier messages were not read";
                maybe_processed(Code::Overloaded, message)
            }
        };
        Some(Err(status))
    }
}

impl From<SendAbort> for HandlerEnd {
    fn from(abort: SendAbort) -> Self {
        match abort {
            SendAbort::ShuttingDown => Self::ShuttingDown,
            SendAbort::DeadlineExceeded => Self::DeadlineExceeded,
            SendAbort::CallerGone => Self::CallerGone,
            SendAbort::Overloaded => Self::Overloaded,
        }
    }
}

/// Counts a call as cancelled if it is dropped before it is counted otherwise.
pub(super) struct CancelledOnDrop<'a>(pub(super) Option<&'a EndpointShared>);

impl Drop for CancelledOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.counters.calls_cancelled.add_one();
            if shared.served.cancel.is_cancelled() {
                shared.served.cancelled_by_shutdown.add_one();
            }
        }
    }
}
