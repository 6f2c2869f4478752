//! Retry policy: policies of methods, bookkeeping of attempts, backoff with jitter.
//!
//! The caller decides whether an error is retryable, where and from when on, and of which
//! [`RetryKind`] the retry is; [`CallState`] goes by that.
//!
//! ```
//! use std::time::Duration;
//! use rpcnet_balance::{
//!     BackoffRange, RetryBudget, Time,
//!     retry::{
//!         AdmissionKind, AttemptLimits, CallState, Choice, Failure, RetryBackoff, RetryDecision,
//!         RetryKind, Step, StopReason,
//!     },
//! };
//!
//! let backoff = RetryBackoff::seeded(7, BackoffRange::default());
//! let now = Time::from_nanos(1);
//! // All calls share the budget; one that succeeds gives `budget.deposit()`.
//! let budget = RetryBudget::new();
//! let admit = |kind: AdmissionKind| !kind.uses_budget() || budget.withdraw(now);
//! let has_budget = || budget.level(now) >= 1.0;
//!
//! let mut call = CallState::new(AttemptLimits::new(2, &backoff));
//! let overloaded = Failure {
//!     stops_hedging: true,
//!     is_rejection: true,
//!     ..Failure::new(RetryDecision::AnyEndpoint(RetryKind::Overloaded))
//! };
//!
//! // The first attempt goes to endpoint 4, which is overloaded and may be tried again at once.
//! assert_eq!(call.step(now), Step::Begin(Choice::Any));
//! call.begin(now, 4, admit).unwrap();
//! call.on_failure(now, 4, &overloaded, has_budget);
//! // No other endpoint is left: the next attempt waits.
//! assert_eq!(call.excluded(), [4]);
//! call.on_no_endpoint(now);
//! let Step::Wait(Some(until)) = call.step(now) else { panic!("it waits") };
//! assert!(until.since(now) <= Duration::from_millis(10) && call.excluded().is_empty());
//!
//! call.begin(until, 4, admit).unwrap();
//! call.on_failure(until, 4, &overloaded, has_budget);
//! assert_eq!(call.step(until), Step::Stop(StopReason::AttemptLimit));
//! ```

mod backoff;
mod call_state;
mod control;
mod method_table;
mod policy;
mod quorum_tally;
mod stats;

use std::{fmt, time::Duration};

pub use self::{
    backoff::RetryBackoff,
    call_state::{AttemptLimits, CallState, Choice, Failure, RetryDecision, Step},
    control::RetryControl,
    method_table::{MethodEntry, MethodTable},
    policy::{CallPolicy, MethodPolicy},
    quorum_tally::{QuorumState, QuorumTally},
    stats::{CallCounters, CallStats},
};

/// Kind of an attempt, for counters and the retry budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionKind {
    /// The first attempt.
    First,
    /// A retry.
    Retry(RetryKind),
    /// A hedge.
    Hedge,
}

impl AdmissionKind {
    /// Whether the attempt takes a token of the retry budget.
    #[must_use]
    pub fn uses_budget(self) -> bool {
        match self {
            Self::First => false,
            Self::Retry(kind) => kind.uses_budget(),
            Self::Hedge => true,
        }
    }
}

/// Reason of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptReason {
    /// The first attempt.
    First,
    /// A retry: the attempt before had failed.
    Retry {
        /// Backoff before it; zero if it went to another endpoint at once.
        after: Duration,
    },
    /// A hedge: the attempt before took long; see [`Hedging`](crate::Hedging).
    Hedge,
}

impl fmt::Display for AttemptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Retry { after } if after.is_zero() => f.write_str("retry"),
            Self::Retry { after } => write!(f, "retry after {after:?}"),
            Self::Hedge => f.write_str("hedge"),
        }
    }
}

/// Kind of a retry: its effect on the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryKind {
    /// Transparent retry (gRPC A6): the failed attempt was not processed, so nothing is done twice.
    Transparent,
    /// The failed attempt was rejected for want of capacity.
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
