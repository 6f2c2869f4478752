//! When a call is tried again.

use std::time::Duration;

use super::{ClientPolicy, in_flight::Reply, sim_rng::SimRng};
use crate::OutcomeKind;

/// What follows an attempt that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RetryDecision {
    /// Another at once, of which no server knows that it is not the first, so it costs nothing.
    Transparent,
    /// Another, if the budget allows it.
    After(RetryDelay),
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RetryDelay {
    None,
    /// Anything up to this.
    UpTo(Duration),
    AtLeast(Duration),
}

impl RetryDelay {
    pub(super) fn sample(self, dice: &mut SimRng) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::UpTo(time) => dice.fraction_of(time),
            Self::AtLeast(time) => time + dice.fraction_of(time / 2),
        }
    }
}

/// What follows after so many attempts, the last of which had this answer; `left` if there is a worker it was not sent to.
pub(super) fn decide(
    policy: &ClientPolicy,
    attempts: u8,
    answer: &Reply,
    left: bool,
) -> RetryDecision {
    if attempts >= policy.attempts_max {
        return RetryDecision::Stop;
    }
    match answer.kind {
        OutcomeKind::Unreachable | OutcomeKind::Refused if !answer.processed => {
            RetryDecision::Transparent
        }
        // Another may have room; if none has, not before they say.
        OutcomeKind::Overloaded if left => RetryDecision::After(RetryDelay::None),
        OutcomeKind::Overloaded => {
            let time = answer.retry_after.unwrap_or(BACKOFF);
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
