//! Retry control: retry budget, backoff and counters of a client.

use std::sync::Arc;

use rpcnet_balance::{
    RetryBudget, Time,
    retry::{AdmissionKind, CallCounters, RetryBackoff},
};
use tokio::time::Instant;

/// Limits and counters of the attempts of all calls of a client.
pub(super) struct RetryControl {
    budget: Option<Arc<SharedRetryBudget>>,
    pub(super) backoff: RetryBackoff,
    pub(super) counters: CallCounters,
}

impl RetryControl {
    pub(super) fn new(budget: Option<Arc<SharedRetryBudget>>, backoff: RetryBackoff) -> Self {
        Self {
            budget,
            backoff,
            counters: CallCounters::default(),
        }
    }

    pub(super) fn on_call_succeeded(&self) {
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
    }

    /// Counts an attempt that begins now, if the budget has a token for it where it needs one.
    pub(super) fn admit(&self, kind: AdmissionKind) -> bool {
        let is_admitted = !kind.uses_budget() || self.ask_budget(SharedRetryBudget::withdraw);
        if is_admitted {
            self.counters.on_attempt(kind);
        }
        is_admitted
    }

    /// Whether the budget has a token.
    pub(super) fn has_budget(&self) -> bool {
        self.ask_budget(SharedRetryBudget::has_token)
    }

    fn ask_budget(&self, ask: impl FnOnce(&SharedRetryBudget) -> bool) -> bool {
        let is_allowed = self.budget.as_deref().is_none_or(ask);
        if !is_allowed {
            self.counters.on_budget_refusal();
        }
        is_allowed
    }
}

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
