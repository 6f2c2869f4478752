//! Planned panic in a method of an observer.

/// Method of an observer that panics, for tests of what such a panic may harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicIn {
    /// The method that gets all nodes.
    Snapshot,
    /// The method that gets events.
    Events,
    /// The method that gets the end of the source.
    End,
    /// The method after events, without the lock.
    AfterEvents,
    /// No method.
    Nothing,
}

impl PanicIn {
    /// Enters a method.
    ///
    /// # Panics
    ///
    /// If it is the one that panics.
    pub fn enter(self, method: Self) {
        assert!(self != method, "a fault of the observer");
    }
}
