//! Work counter: elementary steps, for the checker of the work that one datagram causes.

#[cfg(feature = "sim")]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counter of table look-ups and visited index entries. Without feature `sim` it counts nothing.
#[derive(Debug, Default)]
pub(crate) struct WorkCounter {
    #[cfg(feature = "sim")]
    steps: AtomicU64,
    /// Items of the last datagram read.
    #[cfg(feature = "sim")]
    items: Option<usize>,
}

impl WorkCounter {
    #[cfg_attr(not(feature = "sim"), expect(unused_variables, clippy::unused_self))]
    pub(super) fn add(&self, steps: usize) {
        #[cfg(feature = "sim")]
        self.steps.fetch_add(steps as u64, Relaxed);
    }

    /// Starts counting for a datagram with so many items.
    #[cfg(feature = "sim")]
    pub(super) fn begin(&mut self, items: usize) {
        self.steps.store(0, Relaxed);
        self.items = Some(items);
    }

    /// Items of the datagram that was read since the last call, and steps.
    #[cfg(feature = "sim")]
    pub(super) fn take(&mut self) -> (Option<usize>, u64) {
        (self.items.take(), self.steps.swap(0, Relaxed))
    }
}
