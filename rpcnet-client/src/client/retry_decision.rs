//! Retry decision: from the error of an attempt to the next attempt.

use rpcnet_balance::retry::RetryKind;
use rpcnet_transport::{Code, Processed, RpcError};

/// Next step after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// No retry: the error is the outcome of the call.
    Stop,
    /// Another worker may serve the call, but this one will not soon.
    OtherWorker,
    /// Another worker may serve the call, and this one after a backoff.
    AnyWorker,
}

/// Decides by what is certain: a request that no handler has seen may go anywhere; one that a
/// handler may have seen only if repeating it does no harm.
pub(super) fn retry_decision(error: &RpcError, repeatable: bool) -> RetryDecision {
    // The deadline of the call: no further attempt has time. That of an attempt is decided before.
    if error.code() == Code::DeadlineExceeded {
        return RetryDecision::Stop;
    }
    if error.is_retryable() {
        return match error.code() {
            // A rollout: other workers may be of the newer version already.
            Code::Unimplemented => RetryDecision::OtherWorker,
            _ => RetryDecision::AnyWorker,
        };
    }
    if is_unreadable(error) {
        return RetryDecision::OtherWorker;
    }
    let may_differ = error.is_retryable_if_idempotent()
        || match error.code() {
            // The caller did not cancel: a server that stops cut it. Or its handler panicked: that
            // is no answer.
            Code::Cancelled | Code::Internal => error.processed() != Processed::Yes,
            _ => false,
        };
    if repeatable && may_differ && !error.forbids_retry() {
        RetryDecision::AnyWorker
    } else {
        RetryDecision::Stop
    }
}

/// Whether the worker has the method and could not read the request, which another version of it
/// may.
pub(super) fn is_unreadable(error: &RpcError) -> bool {
    error.code() == Code::InvalidRequest
        && error.processed() == Processed::No
        && !error.forbids_retry()
}

/// Kind of a retry after this error. A retry after a worker that does not know the method is
/// transparent: there are few, since calls pass it over then.
pub(super) fn retry_kind(error: &RpcError) -> RetryKind {
    match (error.processed(), error.code()) {
        (Processed::No, Code::Overloaded) => RetryKind::Overloaded,
        (Processed::No, Code::InvalidRequest) => RetryKind::Unreadable,
        (Processed::No, _) => RetryKind::Transparent,
        _ => RetryKind::MaybeProcessed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_cannot_do_harm_is_retried() {
        use RetryDecision::{AnyWorker, OtherWorker, Stop};
        // Code and fate of the request; then the decision, for an ordinary and a repeatable call.
        let table = [
            (Code::Unavailable, Processed::No, AnyWorker, AnyWorker),
            (Code::Draining, Processed::No, AnyWorker, AnyWorker),
            (Code::Overloaded, Processed::No, AnyWorker, AnyWorker),
            (Code::Unimplemented, Processed::No, OtherWorker, OtherWorker),
            (Code::Unavailable, Processed::Maybe, Stop, AnyWorker),
            (Code::Cancelled, Processed::Maybe, Stop, AnyWorker),
            (Code::Cancelled, Processed::Yes, Stop, Stop),
            // A handler that panicked, and one that said so.
            (Code::Internal, Processed::Maybe, Stop, AnyWorker),
            (Code::Internal, Processed::Yes, Stop, Stop),
            (Code::App, Processed::Yes, Stop, Stop),
            (
                Code::InvalidRequest,
                Processed::No,
                OtherWorker,
                OtherWorker,
            ),
            (Code::InvalidRequest, Processed::Yes, Stop, Stop),
            (Code::DeadlineExceeded, Processed::Maybe, Stop, Stop),
        ];
        for (code, processed, ordinary, repeatable) in table {
            let error = RpcError::new(code, processed, "");
            assert_eq!(retry_decision(&error, false), ordinary, "{error:?}");
            let decision = retry_decision(&error, true);
            assert_eq!(decision, repeatable, "{error:?}, repeatable");
            // Nothing is retried if the server says so.
            let error = error.with_retry_after(Duration::MAX);
            assert!(error.forbids_retry());
            assert_eq!(retry_decision(&error, true), Stop, "{error:?}");
        }
    }

    #[test]
    fn retries_that_add_to_the_load_use_budget() {
        let table = [
            (Code::Unavailable, Processed::No, RetryKind::Transparent),
            (Code::Draining, Processed::No, RetryKind::Transparent),
            (Code::Unimplemented, Processed::No, RetryKind::Transparent),
            (Code::InvalidRequest, Processed::No, RetryKind::Unreadable),
            (Code::Overloaded, Processed::No, RetryKind::Overloaded),
            (
                Code::Unavailable,
                Processed::Maybe,
                RetryKind::MaybeProcessed,
            ),
            (
                Code::DeadlineExceeded,
                Processed::Maybe,
                RetryKind::MaybeProcessed,
            ),
        ];
        for (code, processed, kind) in table {
            let found = retry_kind(&RpcError::new(code, processed, ""));
            assert_eq!(found, kind, "{code}");
            assert_eq!(found.uses_budget(), kind != RetryKind::Transparent);
        }
    }
}
