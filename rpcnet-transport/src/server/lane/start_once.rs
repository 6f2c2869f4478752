//! Race between the start of a queued call and its cancellation, decided once.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

/// State of a call that waits for a permit: either its handler starts, or its caller is told that
/// it did not.
#[derive(Debug, Default)]
pub(super) struct StartOnce(AtomicU8);

impl StartOnce {
    /// Returns whether the handler may start.
    pub(super) fn try_start(&self) -> bool {
        self.decide(STARTED)
    }

    /// Returns whether the handler has not started, and never will.
    pub(super) fn try_cancel(&self) -> bool {
        self.decide(CANCELLED)
    }

    fn decide(&self, state: u8) -> bool {
        self.0
            .compare_exchange(WAITING, state, SeqCst, SeqCst)
            .is_ok()
    }
}

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const CANCELLED: u8 = 2;

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
