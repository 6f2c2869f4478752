//! Race between the start of a queued call and its cancellation, decided once.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// State of a call that waits for a permit: either its handler starts, or its caller is told that
/// it did not. `true` once one of both is decided.
#[derive(Debug, Default)]
pub(super) struct StartOnce(AtomicBool);

impl StartOnce {
    /// Returns whether the handler may start.
    pub(super) fn try_start(&self) -> bool {
        self.is_first()
    }

    /// Returns whether the handler has not started, and never will.
    pub(super) fn try_cancel(&self) -> bool {
        self.is_first()
    }

    fn is_first(&self) -> bool {
        !self.0.swap(true, SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_start_and_cancel_decides() {
        let once = StartOnce::default();
        assert!(once.try_start());
        assert!(!once.try_cancel());
        let once = StartOnce::default();
        assert!(once.try_cancel());
        assert!(!once.try_start() && !once.try_cancel());
    }
}
