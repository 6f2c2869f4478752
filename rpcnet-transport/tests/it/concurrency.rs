//! Counter of what runs at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

/// Number of handlers that run now, and the most that ran at the same time. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Concurrency(Arc<Counts>);

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Guard that counts one handler.
pub(crate) struct RunningHandler(Concurrency);

impl Concurrency {
    /// Counts one more handler, until the guard is dropped.
    pub(crate) fn enter(&self) -> RunningHandler {
        let now = self.0.now.fetch_add(1, SeqCst) + 1;
        self.0.most.fetch_max(now, SeqCst);
        RunningHandler(self.clone())
    }

    /// Handlers that run now.
    pub(crate) fn now(&self) -> usize {
        self.0.now.load(SeqCst)
    }

    /// Most handlers that ran at the same time.
    pub(crate) fn most(&self) -> usize {
        self.0.most.load(SeqCst)
    }
}

impl Drop for RunningHandler {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, SeqCst);
    }
}
