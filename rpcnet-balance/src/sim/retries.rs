//! Retry decisions of a simulated client.

use std::time::Duration;

use super::{ClientPolicy, in_flight::Reply, sim_rng::SimRng};
use crate::OutcomeKind;

/// Decision after an attempt that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RetryDecision {
    /// Retry at once and free of budget, as no server processed the attempt (gRPC's transparent
    /// retry).
    Transparent,
    /// Retry after a delay, if the budget allows it.
    After(RetryDelay),
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RetryDelay {
    None,
    /// A random time up to this.
    UpTo(Duration),
    AtLeast(Duration),
}

impl RetryDelay {
    pub(super) fn sample(self, rng: &mut SimRng) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::UpTo(time) => rng.fraction_of(time),
            Self::AtLeast(time) => time + rng.fraction_of(time / 2),
        }
    }
}

/// The decision after a number of attempts, the last of which had this reply; `has_untried` if
/// there is a worker that was not tried.
pub(super) fn decide(
    policy: &ClientPolicy,
    attempts: u8,
    reply: &Reply,
    has_untried: bool,
) -> RetryDecision {
    if attempts >= policy.attempts_max {
        return RetryDecision::Stop;
    }
    match reply.kind {
        OutcomeKind::Unreachable | OutcomeKind::Refused if !reply.processed => {
            RetryDecision::Transparent
        }
        // Another worker may have capacity; if none has, not before they say.
        OutcomeKind::Overloaded if has_untried => RetryDecision::After(RetryDelay::None),
        OutcomeKind::Overloaded => {
            let time = reply.retry_after.unwrap_or(BACKOFF);
            RetryDecision::After(RetryDelay::AtLeast(time))
        }
        _ => {
            let doubled = BACKOFF * (1 << (attempts - 1).min(7));
            RetryDecision::After(RetryDelay::UpTo(doubled.min(BACKOFF_MAX)))
        }
    }
}

const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
