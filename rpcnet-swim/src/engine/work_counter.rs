//! Work counter: elementary steps, for the checker of the work that one datagram causes.

#[cfg(feature = "unstable")]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counter of table lookups and visited index entries. Without the feature `unstable` it counts
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct WorkCounter {
    #[cfg(feature = "unstable")]
    steps: AtomicU64,
    /// Items of the last datagram read.
    #[cfg(feature = "unstable")]
    items: Option<usize>,
}

impl WorkCounter {
    #[cfg_attr(
        not(feature = "unstable"),
        expect(unused_variables, clippy::unused_self)
    )]
    pub(super) fn add(&self, steps: usize) {
        #[cfg(feature = "unstable")]
        self.steps.fetch_add(steps as u64, Relaxed);
    }

    /// Starts counting for a datagram with so many items.
    #[cfg(feature = "unstable")]
    pub(super) fn begin(&mut self, items: usize) {
        self.steps.store(0, Relaxed);
        self.items = Some(items);
    }

    /// Items of the datagram that was read since the last call, and steps.
    #[cfg(feature = "unstable")]
    pub(super) fn take(&mut self) -> (Option<usize>, u64) {
        (self.items.take(), self.steps.swap(0, Relaxed))
    }
}
