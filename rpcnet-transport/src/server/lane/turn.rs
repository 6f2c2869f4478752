//! Whose word counts when a call's turn comes at the moment at which it is given up.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

/// Of a call that waits for its place: either its handler begins, or its caller is told that it did not.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU8);

impl Turn {
    /// Says whether the handler may begin.
    pub(super) fn begin(&self) -> bool {
        self.decide(BEGUN)
    }

    /// Says whether the handler has not begun, and never will.
    pub(super) fn give_up(&self) -> bool {
        self.decide(GIVEN_UP)
    }

    fn decide(&self, state: u8) -> bool {
        self.0
            .compare_exchange(WAITS, state, SeqCst, SeqCst)
            .is_ok()
    }
}

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_first_decides() {
        let turn = Turn::default();
        assert!(turn.begin());
        assert!(!turn.give_up());
        let turn = Turn::default();
        assert!(turn.give_up());
        assert!(!turn.begin() && !turn.give_up());
    }
}
