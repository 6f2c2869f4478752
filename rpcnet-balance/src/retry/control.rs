//! Retry control: the budget, backoff and counters that all calls of a client share.

use std::sync::Arc;

use super::{AdmissionKind, CallCounters, CallStats, RetryBackoff};
use crate::{RetryBudget, Time};

/// Retry budget, backoff and counters that all calls of a client share.
///
/// ```
/// use std::sync::Arc;
/// use rpcnet_balance::{
///     BackoffRange, RetryBudget, Time,
///     retry::{AdmissionKind, RetryBackoff, RetryControl, RetryKind},
/// };
///
/// let budget = RetryBudget::new().with_cap(1.0).with_reserve_per_s(0.0);
/// let backoff = RetryBackoff::seeded(7, BackoffRange::default());
/// let control = RetryControl::new(Some(Arc::new(budget)), backoff);
/// let now = || Time::from_nanos(1);
/// assert!(control.admit(AdmissionKind::First, now));
/// let retry = AdmissionKind::Retry(RetryKind::Overloaded);
/// assert!(control.admit(retry, now));
/// assert!(!control.admit(retry, now), "the budget is exhausted");
/// assert_eq!((control.stats().attempts, control.stats().budget_exhausted), (2, 1));
/// ```
#[derive(Debug)]
pub struct RetryControl {
    budget: Option<Arc<RetryBudget>>,
    backoff: RetryBackoff,
    counters: CallCounters,
}

impl RetryControl {
    /// Shares this budget, which other clients may share too; without one, each call has as many
    /// attempts as it may have.
    #[must_use]
    pub fn new(budget: Option<Arc<RetryBudget>>, backoff: RetryBackoff) -> Self {
        Self {
            budget,
            backoff,
            counters: CallCounters::default(),
        }
    }

    /// Counts an attempt that begins now, if the budget has a token for it where it needs one.
    /// `now` is a time as all clients of the budget have it.
    #[must_use]
    pub fn admit(&self, kind: AdmissionKind, now: impl FnOnce() -> Time) -> bool {
        let is_admitted = !kind.uses_budget() || self.ask_budget(|budget| budget.withdraw(now()));
        if is_admitted {
            self.counters.on_attempt(kind);
        }
        is_admitted
    }

    /// Whether the budget has a token.
    #[must_use]
    pub fn has_budget(&self, now: Time) -> bool {
        self.ask_budget(|budget| budget.level(now) >= 1.0)
    }

    /// A call has succeeded, which adds to the budget.
    #[inline]
    pub fn on_call_succeeded(&self) {
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
    }

    /// Backoff of retries.
    #[must_use]
    pub fn backoff(&self) -> &RetryBackoff {
        &self.backoff
    }

    /// Counters of calls and attempts, for those that need no admission.
    #[must_use]
    #[inline]
    pub fn counters(&self) -> &CallCounters {
        &self.counters
    }

    /// Counts of calls and attempts so far.
    #[must_use]
    pub fn stats(&self) -> CallStats {
        self.counters.stats()
    }

    fn ask_budget(&self, ask: impl FnOnce(&RetryBudget) -> bool) -> bool {
        let is_allowed = self.budget.as_deref().is_none_or(ask);
        if !is_allowed {
            self.counters.on_budget_exhausted();
        }
        is_allowed
    }
}
