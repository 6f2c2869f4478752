//! Exponential backoff of an endpoint whose calls fail, in one atomic word.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::Time;

/// Exponential backoff of an endpoint: a failure keeps calls away for a while, four times as long
/// if the first call afterwards fails too, and so on.
///
/// The word holds the end of the backoff in units of 1.024 us, and in its lowest bits the number of
/// consecutive failures. Without a failure the backoff ends at the origin: it is over at any time.
#[derive(Debug)]
pub(crate) struct Backoff(AtomicU64);

impl Backoff {
    pub(crate) const fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether calls should go to other endpoints.
    #[inline]
    pub(crate) fn is_active(&self, now: Time) -> bool {
        now < unpack(self.0.load(Ordering::Relaxed)).0
    }

    /// Whether there were failures, so that calls may have to go to other endpoints.
    #[inline]
    pub(crate) fn may_be_active(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Records the failure of an attempt from `began` to `now`. The first of consecutive failures
    /// backs off for `first`.
    pub(crate) fn on_failure(&self, began: Time, now: Time, first: Duration) {
        self.on_failure_up_to(began, now, first, BACKOFF_MAX);
    }

    /// Like [`on_failure`](Self::on_failure), with an upper bound `max` of the backoff.
    pub(crate) fn on_failure_up_to(&self, began: Time, now: Time, first: Duration, max: Duration) {
        self.update(|until, failures| {
            // Attempts that were in flight when the first one failed are no further evidence.
            let failures = if began >= until {
                failures + 1
            } else {
                failures.max(1)
            };
            let factor = 4_u32.saturating_pow(u32::from(failures) - 1);
            let backoff = first.saturating_mul(factor).min(max);
            (until.max(now + backoff), failures.min(FAILURES_MAX))
        });
    }

    /// Extends the backoff to `until`, as the endpoint asked for.
    pub(crate) fn extend(&self, until: Time) {
        self.update(|before, failures| (before.max(until), failures));
    }

    /// Records the replies to `count` attempts of which the first began at `began`.
    pub(crate) fn on_successes(&self, began: Time, count: u32) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.update(|until, failures| {
                // Halved, not reset: every other call may fail.
                let failures = if began >= until {
                    failures.checked_shr(count).unwrap_or(0)
                } else {
                    failures
                };
                (
                    if failures == 0 && began >= until {
                        NO_BACKOFF
                    } else {
                        until
                    },
                    failures,
                )
            });
        }
    }

    fn update(&self, next: impl Fn(Time, u16) -> (Time, u16)) {
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let (until, failures) = unpack(word);
                let (until, failures) = next(until, failures);
                let next = pack(until, failures);
                (next != word).then_some(next)
            });
    }
}

/// Packs a backoff into its word. The end is rounded up, so that a backoff is never shorter than
/// intended.
const fn pack(until: Time, failures: u16) -> u64 {
    let units = until.as_nanos().div_ceil(1 << UNIT_BITS);
    let units = if units > UNITS_MAX { UNITS_MAX } else { units };
    units << UNIT_BITS | failures as u64
}

const fn unpack(word: u64) -> (Time, u16) {
    let failures = word & ((1 << UNIT_BITS) - 1);
    (Time::from_nanos(word - failures), failures as u16)
}

/// The end of a backoff that never began.
const NO_BACKOFF: Time = Time::ZERO;

/// The lowest bits of the word, in place of the lowest bits of the nanoseconds, hold the number of
/// failures.
const UNIT_BITS: u32 = 10;
const UNITS_MAX: u64 = u64::MAX >> UNIT_BITS;
const FAILURES_MAX: u16 = 15;

/// The longest backoff after failures. Outlier detection has ejected the endpoint by then.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Time {
        Time::from(Duration::from_millis(ms))
    }

    impl Backoff {
        fn word(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn ends_at(&self) -> Time {
            unpack(self.word()).0
        }
    }

    /// Whether the backoff ends at `ms`: active just before, over just after.
    fn ends(backoff: &Backoff, ms: u64) -> bool {
        backoff.is_active(at(ms - 1)) && !backoff.is_active(at(ms + 1))
    }

    #[test]
    fn consecutive_failures_lengthen_the_backoff() {
        let backoff = Backoff::none();
        let mut now = 1000;
        for hold_ms in [100, 400, 1600, 6400, 25_600, 30_000, 30_000] {
            backoff.on_failure(at(now), at(now), FIRST);
            assert!(ends(&backoff, now + hold_ms), "{hold_ms} ms");
            now += hold_ms + 1;
        }
    }

    #[test]
    fn attempts_in_flight_at_the_first_failure_do_not_lengthen_the_backoff() {
        let backoff = Backoff::none();
        for ended in [1000, 1010, 1050] {
            backoff.on_failure(at(990), at(ended), FIRST);
        }
        assert!(ends(&backoff, 1150));
        // Replies to such attempts do not end a backoff either.
        backoff.on_successes(at(990), 1);
        assert!(ends(&backoff, 1150));
    }

    #[test]
    fn successes_halve_the_number_of_failures() {
        let backoff = Backoff::none();
        let fail = |ms| backoff.on_failure(at(ms), at(ms), FIRST);
        [1000, 2000, 4000].into_iter().for_each(fail);
        assert!(ends(&backoff, 5600));
        backoff.on_successes(at(6000), 1);
        fail(6000);
        // The second of consecutive failures again, not the fourth.
        assert!(ends(&backoff, 6400));
        (0..2).for_each(|_| backoff.on_successes(at(7000), 1));
        fail(8000);
        assert!(ends(&backoff, 8100));
    }

    #[test]
    fn a_batch_of_successes_counts_as_its_single_replies() {
        for (failures, count) in [(3, 1), (3, 2), (15, 3), (15, 4), (15, u32::MAX), (2, 0)] {
            for began in [at(1000), at(99_000)] {
                let (batch, singly) = (Backoff::none(), Backoff::none());
                for backoff in [&batch, &singly] {
                    let fail = |_| backoff.on_failure(backoff.ends_at(), backoff.ends_at(), FIRST);
                    (0..failures).for_each(fail);
                }
                let began = if began == at(1000) {
                    began
                } else {
                    batch.ends_at()
                };
                batch.on_successes(began, count);
                (0..count.min(99)).for_each(|_| singly.on_successes(began, 1));
                assert_eq!(batch.word(), singly.word(), "{count} after {failures}");
            }
        }
    }

    #[test]
    fn a_backoff_is_extended_as_the_endpoint_asks() {
        let backoff = Backoff::none();
        backoff.extend(at(700));
        backoff.extend(at(300));
        assert!(ends(&backoff, 700));
    }

    #[test]
    fn a_backoff_begins_and_ends_at_any_time() {
        let backoff = Backoff::none();
        assert!(!backoff.is_active(Time::ZERO));
        backoff.on_failure(Time::ZERO, Time::ZERO, FIRST);
        assert!(backoff.is_active(Time::ZERO) && ends(&backoff, 100));
        // It does not overflow at the end of time.
        let end = Time::from_nanos(u64::MAX);
        (0..40).for_each(|_| backoff.on_failure(end, end, Duration::MAX));
    }
}
