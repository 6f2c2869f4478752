//! Counts of the permits of a gate.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The limit of a gate, and the calls that run with and without a permit.
#[derive(Debug)]
pub(super) struct PermitCounts {
    limit: AtomicUsize,
    running: AtomicUsize,
    /// Calls that resumed without a permit, since they stopped waiting for their caller and none
    /// was free.
    over_limit: AtomicUsize,
}

impl PermitCounts {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            running: AtomicUsize::new(0),
            over_limit: AtomicUsize::new(0),
        }
    }

    /// Calls that may run at a time.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(SeqCst)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, SeqCst);
    }

    /// Calls that hold a permit.
    pub(super) fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    /// Calls that run without a permit.
    pub(super) fn over_limit(&self) -> usize {
        self.over_limit.load(SeqCst)
    }

    pub(super) fn has_free(&self) -> bool {
        self.running() < self.limit()
    }

    /// Counts one more call that holds a permit, if `allows` says so of the number that run.
    pub(super) fn try_add(&self, allows: impl Fn(usize) -> bool) -> bool {
        let more = |running| allows(running).then_some(running + 1);
        self.running.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    pub(super) fn remove(&self) {
        self.running.fetch_sub(1, SeqCst);
    }

    pub(super) fn begin_over_limit(&self) {
        self.over_limit.fetch_add(1, SeqCst);
    }

    pub(super) fn end_over_limit(&self) {
        self.over_limit.fetch_sub(1, SeqCst);
    }
}
