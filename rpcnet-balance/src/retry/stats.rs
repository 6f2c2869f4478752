//! Counts of calls and attempts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{AdmissionKind, RetryKind};
use crate::stripes::Stripes;

/// Counts of the calls of a client since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallStats {
    /// Calls for which there was an endpoint. A call to several endpoints counts for each.
    pub calls: u64,
    /// Attempts of these calls, hedges included.
    pub attempts: u64,
    /// Transparent retries: after an attempt that was certainly not processed, and not for want of
    /// capacity.
    pub retries_transparent: u64,
    /// Retries after an attempt that an endpoint rejected for want of capacity.
    pub retries_overloaded: u64,
    /// Retries after an attempt that may have been processed.
    pub retries_maybe_processed: u64,
    /// Retries after an attempt that an endpoint rejected since it could not read the request.
    pub retries_unreadable: u64,
    /// Hedges: attempts that were made because another one took long.
    pub hedges: u64,
    /// Hedges whose reply came first.
    pub hedges_won: u64,
    /// Attempts that were not made because the retry budget was empty.
    pub budget_exhausted: u64,
    /// Attempts for which endpoints were passed over because of the types that they announce; kept
    /// by clients that know types.
    pub schema_mismatches: u64,
}

impl CallStats {
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

/// Counters of a client. A call without trouble changes that of calls alone, of which each thread
/// has its own.
#[derive(Debug)]
pub struct CallCounters {
    calls: Stripes<AtomicU64>,
    retries: [AtomicU64; 4],
    hedges: AtomicU64,
    hedges_won: AtomicU64,
    budget_exhausted: AtomicU64,
}

impl Default for CallCounters {
    fn default() -> Self {
        Self {
            calls: Stripes::new(AtomicU64::default),
            retries: Default::default(),
            hedges: AtomicU64::new(0),
            hedges_won: AtomicU64::new(0),
            budget_exhausted: AtomicU64::new(0),
        }
    }
}

impl CallCounters {
    /// Counts an attempt that begins.
    #[inline]
    pub fn on_attempt(&self, kind: AdmissionKind) {
        add_one(match kind {
            AdmissionKind::First => self.calls.local(),
            AdmissionKind::Retry(kind) => &self.retries[kind as usize],
            AdmissionKind::Hedge => &self.hedges,
        });
    }

    /// Counts a hedge whose reply came first.
    pub fn on_hedge_won(&self) {
        add_one(&self.hedges_won);
    }

    /// Counts an attempt that is not made because the retry budget is empty.
    pub fn on_budget_exhausted(&self) {
        add_one(&self.budget_exhausted);
    }

    /// The counts so far.
    #[must_use]
    pub fn stats(&self) -> CallStats {
        let retries = |kind: RetryKind| self.retries[kind as usize].load(Relaxed);
        let mut stats = CallStats {
            calls: self.calls.iter().map(|calls| calls.load(Relaxed)).sum(),
            attempts: 0,
            retries_transparent: retries(RetryKind::Transparent),
            retries_overloaded: retries(RetryKind::Overloaded),
            retries_maybe_processed: retries(RetryKind::MaybeProcessed),
            retries_unreadable: retries(RetryKind::Unreadable),
            hedges: self.hedges.load(Relaxed),
            hedges_won: self.hedges_won.load(Relaxed),
            budget_exhausted: self.budget_exhausted.load(Relaxed),
            schema_mismatches: 0,
        };
        stats.attempts = stats.calls + stats.extra_attempts();
        stats
    }
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
