//! Retries of a simulated client: their backoff, and the classification of failures.

use super::in_flight::Reply;
use crate::{
    BackoffRange, OutcomeKind,
    retry::{Failure, RetryBackoff, RetryDecision, RetryKind},
};

/// The backoff of all clients.
pub(super) fn backoff(seed: u64) -> RetryBackoff {
    RetryBackoff::seeded(seed, BackoffRange::default())
}

/// Classifies the failure of an attempt, as a client that may repeat every call.
pub(super) fn classify(reply: &Reply) -> Failure {
    let is_rejection = !reply.processed;
    let decision = match reply.kind {
        OutcomeKind::Overloaded => RetryDecision::AnyEndpoint(RetryKind::Overloaded),
        OutcomeKind::Rejected if is_rejection => {
            RetryDecision::OtherEndpoint(RetryKind::Transparent)
        }
        _ if is_rejection => RetryDecision::AnyEndpoint(RetryKind::Transparent),
        _ => RetryDecision::AnyEndpoint(RetryKind::MaybeProcessed),
    };
    Failure {
        retry_after: reply.retry_after.unwrap_or_default(),
        stops_hedging: reply.kind == OutcomeKind::Overloaded,
        is_rejection,
        ..Failure::new(decision)
    }
}
