//! Counts of calls and attempts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rpcnet_balance::retry::{AttemptKind, RetryKind};

/// Counts of the calls of a [`ClusterClient`](super::ClusterClient) since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterClientStats {
    /// Calls for which there was a worker. A broadcast counts for each of its workers.
    pub calls: u64,
    /// Attempts of these calls, hedges included.
    pub attempts: u64,
    /// Transparent retries: after an attempt that was certainly not processed, and not for want of
    /// capacity.
    pub retries_transparent: u64,
    /// Retries after an attempt that a worker refused for want of capacity.
    pub retries_overloaded: u64,
    /// Retries after an attempt that may have been processed.
    pub retries_maybe_processed: u64,
    /// Retries after an attempt that a worker refused since it could not read the request.
    pub retries_unreadable: u64,
    /// Hedges: attempts that were made because another one took long.
    pub hedges: u64,
    /// Hedges whose reply came first.
    pub hedges_won: u64,
    /// Attempts that were not made because the retry budget was empty.
    pub budget_refusals: u64,
}

impl ClusterClientStats {
    /// All retries.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries_transparent
            + self.retries_overloaded
            + self.retries_maybe_processed
            + self.retries_unreadable
    }

    /// All attempts except the first one of each call.
    #[must_use]
    pub fn extra_attempts(&self) -> u64 {
        self.retries() + self.hedges
    }
}

/// Counters of a client. A call without trouble changes the first alone. They lie apart from what
/// calls only read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct CallCounters {
    calls: RelaxedCounter,
    retries: [RelaxedCounter; 4],
    hedges: RelaxedCounter,
    pub(super) hedges_won: RelaxedCounter,
    pub(super) budget_refusals: RelaxedCounter,
}

impl CallCounters {
    pub(super) fn count(&self, kind: AttemptKind) {
        let counter = match kind {
            AttemptKind::First => &self.calls,
            AttemptKind::Retry(kind) => &self.retries[kind as usize],
            AttemptKind::Hedge => &self.hedges,
        };
        counter.add_one();
    }

    pub(super) fn stats(&self) -> ClusterClientStats {
        let retries = |kind: RetryKind| self.retries[kind as usize].get();
        let mut stats = ClusterClientStats {
            calls: self.calls.get(),
            attempts: 0,
            retries_transparent: retries(RetryKind::Transparent),
            retries_overloaded: retries(RetryKind::Overloaded),
            retries_maybe_processed: retries(RetryKind::MaybeProcessed),
            retries_unreadable: retries(RetryKind::Unreadable),
            hedges: self.hedges.get(),
            hedges_won: self.hedges_won.get(),
            budget_refusals: self.budget_refusals.get(),
        };
        stats.attempts = stats.calls + stats.extra_attempts();
        stats
    }
}

#[derive(Debug, Default)]
pub(super) struct RelaxedCounter(AtomicU64);

impl RelaxedCounter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
