//! Retry decision: from the error of an attempt to the next attempt.

use rpcnet_balance::retry::{RetryDecision, RetryKind, StopReason};
use rpcnet_transport::{Code, Processed, RetryScope, RpcError};

/// Retry decision after the error of an attempt.
pub(super) fn retry_decision(error: &RpcError, repeatable: bool) -> RetryDecision {
    in_scope(error.retry_scope(repeatable), error)
}

/// Retry decision after an error that may be retried in this scope.
pub(super) fn in_scope(scope: RetryScope, error: &RpcError) -> RetryDecision {
    match scope {
        RetryScope::Nowhere => RetryDecision::Stop(stop_reason(error)),
        RetryScope::OtherNode => RetryDecision::OtherEndpoint(retry_kind(error)),
        RetryScope::AnyNode => RetryDecision::AnyEndpoint(retry_kind(error)),
    }
}

/// Stop reason of a call that ends with this error.
pub(super) fn stop_reason(error: &RpcError) -> StopReason {
    if error.forbids_retry() {
        StopReason::DoNotRetry
    } else if error.code() == Code::DeadlineExceeded && error.processed() != Processed::Yes {
        StopReason::Deadline
    } else {
        StopReason::NotRetryable
    }
}

/// Kind of a retry after this error. A retry after a worker that does not know the method or its
/// types is transparent: there are few, since calls pass it over then.
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
    fn only_what_cannot_do_harm_is_retried_and_what_adds_load_uses_budget() {
        use Code::{
            App, Cancelled, DeadlineExceeded, Draining, Incompatible, Internal, InvalidRequest,
            Overloaded, Unavailable, Unimplemented,
        };
        use Processed::{Maybe, No, Yes};
        use RetryDecision::{AnyEndpoint, OtherEndpoint, Stop};
        use RetryKind::{MaybeProcessed, Transparent, Unreadable};
        let stop = Stop(StopReason::NotRetryable);
        let (again, late) = (AnyEndpoint(MaybeProcessed), Stop(StopReason::Deadline));
        let transparent = AnyEndpoint(Transparent);
        let overloaded = AnyEndpoint(RetryKind::Overloaded);
        let (unknown, unreadable) = (OtherEndpoint(Transparent), OtherEndpoint(Unreadable));
        // Code and fate of the request; then the decision, for an ordinary and a repeatable call.
        let table = [
            (Unavailable, No, transparent, transparent),
            (Draining, No, transparent, transparent),
            (Overloaded, No, overloaded, overloaded),
            (Unimplemented, No, unknown, unknown),
            (Incompatible, No, unknown, unknown),
            // The handler has run, and its reply could not be read.
            (Incompatible, Yes, stop, stop),
            (Unavailable, Maybe, stop, again),
            (Cancelled, Maybe, stop, again),
            (Cancelled, Yes, stop, stop),
            // A handler that panicked, and one that said so.
            (Internal, Maybe, stop, again),
            (Internal, Yes, stop, stop),
            (App, Yes, stop, stop),
            (InvalidRequest, No, unreadable, unreadable),
            (InvalidRequest, Yes, stop, stop),
            (DeadlineExceeded, Maybe, late, late),
            (DeadlineExceeded, Yes, stop, stop),
        ];
        for (code, processed, ordinary, repeatable) in table {
            let error = RpcError::new(code, processed, "");
            assert_eq!(retry_decision(&error, false), ordinary, "{error:?}");
            let decision = retry_decision(&error, true);
            assert_eq!(decision, repeatable, "{error:?}, repeatable");
            // Nothing is retried if the server says so.
            let error = error.with_retry_after(Duration::MAX);
            assert!(error.forbids_retry());
            let forbidden = Stop(StopReason::DoNotRetry);
            assert_eq!(retry_decision(&error, true), forbidden, "{error:?}");
        }
        for (code, processed, uses_budget) in [
            (Unavailable, No, false),
            (Unimplemented, No, false),
            (Incompatible, No, false),
            (InvalidRequest, No, true),
            (Overloaded, No, true),
            (Unavailable, Maybe, true),
            (DeadlineExceeded, Maybe, true),
        ] {
            let kind = retry_kind(&RpcError::new(code, processed, ""));
            assert_eq!(kind.uses_budget(), uses_budget, "{code}");
        }
    }
}
