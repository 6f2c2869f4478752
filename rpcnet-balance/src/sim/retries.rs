//! When a call is tried again.

use std::time::Duration;

use super::{Policy, dice::Dice, trip::Answer};
use crate::OutcomeKind;

/// What follows an attempt that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// Another at once, of which no server knows that it is not the first, so it costs nothing.
    Free,
    /// Another, if the budget allows it.
    After(Wait),
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wait {
    None,
    /// Anything up to this.
    UpTo(Duration),
    AtLeast(Duration),
}

impl Wait {
    pub(super) fn draw(self, dice: &mut Dice) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::UpTo(time) => dice.part(time),
            Self::AtLeast(time) => time + dice.part(time / 2),
        }
    }
}

/// What follows after so many attempts, the last of which had this answer; `left` if there is a worker it was not sent to.
pub(super) fn next(policy: &Policy, attempts: u8, answer: &Answer, left: bool) -> Next {
    if attempts >= policy.attempts_max {
        return Next::Never;
    }
    match answer.kind {
        OutcomeKind::Unreachable | OutcomeKind::Refused if !answer.processed => Next::Free,
        // Another may have room; if none has, not before they say.
        OutcomeKind::Overloaded if left => Next::After(Wait::None),
        OutcomeKind::Overloaded => {
            let time = answer.retry_after.unwrap_or(BACKOFF);
            Next::After(Wait::AtLeast(time))
        }
        _ => {
            let doubled = BACKOFF * (1 << (attempts - 1).min(7));
            Next::After(Wait::UpTo(doubled.min(BACKOFF_MAX)))
        }
    }
}

const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
