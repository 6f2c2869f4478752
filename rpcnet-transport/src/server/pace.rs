//! Whether a method may be polled where its request was read.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// Where the handler of a unary method runs when its call shares a lane with others. Calls with streams of their own have
/// tasks of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dispatch {
    /// It is polled once where its request was read, and gets a task of its own if it has to wait: the default. A handler
    /// that turns out to compute for more than 100 us before its first await gets a task from the start, until it
    /// is quick again.
    #[default]
    Adaptive,
    /// It is always polled first where its request was read, however long that takes. Other calls of the lane wait
    /// meanwhile.
    Inline,
    /// It always has a task of its own: for handlers that are known to compute.
    Spawned,
}

/// How quick the first polls of a handler are.
#[derive(Debug, Default)]
pub(super) struct Pace {
    score: AtomicU32,
}

impl Pace {
    /// Whether the handler needs a task from the start.
    pub(super) fn is_slow(&self) -> bool {
        self.score.load(Relaxed) & SLOW != 0
    }

    /// Takes note of how long a first poll took. Two slow ones among few quick ones make a handler slow: one may be the fault
    /// of the machine.
    pub(super) fn note(&self, first_poll: Duration) {
        let before = self.score.load(Relaxed);
        let (slow, points) = (before & SLOW, before & !SLOW);
        let points = if first_poll > QUICK_MAX {
            (points + POINTS_SLOW).min(POINTS_MAX)
        } else {
            points.saturating_sub(1)
        };
        let after = match points {
            0 => 0,
            SLOW_FROM.. => points | SLOW,
            _ => points | slow,
        };
        if after != before {
            self.score.store(after, Relaxed);
        }
    }
}

/// Longest first poll of a handler that is quick.
pub(super) const QUICK_MAX: Duration = Duration::from_micros(100);

const POINTS_SLOW: u32 = 16;
const SLOW_FROM: u32 = 2 * POINTS_SLOW - 8;
const POINTS_MAX: u32 = 4 * POINTS_SLOW;

/// Set until all points are gone.
const SLOW: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(5);
    const LONG: Duration = Duration::from_millis(1);

    #[test]
    fn one_slow_poll_is_an_accident_two_are_a_habit() {
        let pace = Pace::default();
        pace.note(LONG);
        assert!(!pace.is_slow());
        for _ in 0..16 {
            pace.note(QUICK);
        }
        pace.note(LONG);
        assert!(!pace.is_slow(), "the first is forgotten");
        pace.note(LONG);
        assert!(pace.is_slow());
    }

    #[test]
    fn a_slow_handler_is_trusted_again_after_many_quick_polls() {
        let pace = Pace::default();
        for _ in 0..1_000 {
            pace.note(LONG);
        }
        let quick = (0..1_000).take_while(|_| {
            pace.note(QUICK);
            pace.is_slow()
        });
        assert_eq!(quick.count(), POINTS_MAX as usize - 1);
    }
}
