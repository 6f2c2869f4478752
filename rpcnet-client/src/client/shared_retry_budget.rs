//! Shared retry budget: a retry budget with a clock, for several clients.

use rpcnet_balance::{RetryBudget, Time};
use tokio::time::Instant;

/// A retry budget with a clock, for all clients that share it.
#[derive(Debug)]
pub(super) struct SharedRetryBudget {
    tokens: RetryBudget,
    started_at: Instant,
}

impl SharedRetryBudget {
    pub(super) fn new(tokens: RetryBudget) -> Self {
        Self {
            tokens,
            started_at: Instant::now(),
        }
    }

    pub(super) fn deposit(&self) {
        self.tokens.deposit();
    }

    pub(super) fn withdraw(&self) -> bool {
        self.tokens.withdraw(self.now())
    }

    pub(super) fn has_token(&self) -> bool {
        self.tokens.level(self.now()) >= 1.0
    }

    fn now(&self) -> Time {
        Time::from(self.started_at.elapsed())
    }
}
