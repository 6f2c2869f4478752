//! Whose word counts when a call's turn comes at the moment at which it is given up.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

/// Of a call that waits for its place: either its handler begins, or its caller is told that it did not.
#[derive(Debug, Default)]
pub(super) struct StartOnce(AtomicU8);

impl StartOnce {
    /// Says whether the handler may begin.
    pub(super) fn try_start(&self) -> bool {
        self.decide(STARTED)
    }

    /// Says whether the handler has not begun, and never will.
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
    fn who_is_first_decides() {
        let turn = StartOnce::default();
        assert!(turn.try_start());
        assert!(!turn.try_cancel());
        let turn = StartOnce::default();
        assert!(turn.try_cancel());
        assert!(!turn.try_start() && !turn.try_cancel());
    }
}
