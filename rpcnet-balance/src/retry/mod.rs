//! Retry policy: limits of retries, bookkeeping of attempts, backoff with jitter.
//!
//! The caller decides whether an error is retryable, where and from when on, and of which
//! [`RetryKind`] the retry is; [`RetryState`] goes by that.
//!
//! ```
//! use std::time::Duration;
//! use rpcnet_balance::{
//!     Time,
//!     retry::{RetryBackoff, RetryKind, RetryState, StopReason},
//! };
//!
//! let backoff = RetryBackoff::seeded(7, Duration::from_millis(10), Duration::from_secs(1));
//! let (now, attempts_max) = (Time::from_nanos(1), 2);
//! let mut state = RetryState::new();
//!
//! // The first attempt goes to endpoint 4, which is overloaded and may be tried again at once.
//! state.start_attempt();
//! state.exclude(4, Some(now));
//! state.plan_retry(RetryKind::Overloaded, attempts_max, || true).unwrap();
//! // No other endpoint is left: the next attempt waits.
//! assert_eq!(state.excluded(), [4]);
//! let wait = state.back_off(now, None, attempts_max, true, &backoff).unwrap();
//! assert!(wait <= Duration::from_millis(10) && state.excluded().is_empty());
//!
//! state.start_attempt();
//! let planned = state.plan_retry(RetryKind::Overloaded, attempts_max, || true);
//! assert_eq!(planned, Err(StopReason::AttemptLimit));
//! ```

mod backoff;
mod state;

use std::fmt;

pub use self::{backoff::RetryBackoff, state::RetryState};

/// Kind of a retry: its effect on the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryKind {
    /// Transparent retry (gRPC A6): the failed attempt was not processed, so nothing is done twice.
    Transparent,
    /// The failed attempt was refused for want of capacity.
    Overloaded,
    /// The failed attempt may have been processed.
    MaybeProcessed,
    /// The request could not be read, and it is not known whether the server or the request is to
    /// blame.
    Unreadable,
}

impl RetryKind {
    /// Whether the retry takes a token of the retry budget: it adds to the load that may be the
    /// reason for the failure, or may fail everywhere.
    #[must_use]
    pub fn uses_budget(self) -> bool {
        self != Self::Transparent
    }
}

/// Stop reason: why a call was not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The error is not retryable: the handler has answered, or the request may have been processed
    /// and must not be repeated.
    NotRetryable,
    /// The call had as many attempts as it may have.
    AttemptLimit,
    /// The retry budget was empty.
    BudgetExhausted,
    /// The deadline was exceeded, or would have been before the next attempt.
    Deadline,
    /// The server asked not to retry.
    DoNotRetry,
    /// No endpoint was left that might serve the call soon.
    NoEndpointLeft,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRetryable => "not retryable",
            Self::AttemptLimit => "the limit of attempts is reached",
            Self::BudgetExhausted => "the retry budget is exhausted",
            Self::Deadline => "the deadline leaves no time for another attempt",
            Self::DoNotRetry => "the server forbids a retry",
            Self::NoEndpointLeft => "no other endpoint is available",
        })
    }
}
