//! Backoff of an endpoint whose calls fail, as one atomic word.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::Time;

/// A failure holds calls back for a while, four times as long if the first call afterwards fails
/// too, and so on.
///
/// The word holds the end of the hold in units of 1.024 us, and in its lowest bits how many holds
/// there were in a row.
#[derive(Debug)]
pub(crate) struct Backoff(AtomicU64);

impl Backoff {
    pub(crate) const fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether calls are better made elsewhere. Never at [`Time::ZERO`], so for who has no time
    /// none is held for ever.
    #[inline]
    pub(crate) fn is_active(&self, now: Time) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word != 0 && now > Time::ZERO && now < unpack(word).0
    }

    /// An attempt from `began` to `now` has failed. The first of a row holds for `first`.
    pub(crate) fn on_failure(&self, began: Time, now: Time, first: Duration) {
        self.on_failure_up_to(began, now, first, BACKOFF_MAX);
    }

    /// The same with a bound for all of a row.
    pub(crate) fn on_failure_up_to(&self, began: Time, now: Time, first: Duration, most: Duration) {
        self.update(|until, row| {
            // Others that were under way when the first one failed are no further proof.
            let row = if began >= until { row + 1 } else { row.max(1) };
            let factor = 4_u32.saturating_pow(u32::from(row) - 1);
            let hold = first.saturating_mul(factor).min(most);
            (until.max(now + hold), row.min(FAILURES_MAX))
        });
    }

    /// It asked to be left alone until then.
    pub(crate) fn extend(&self, until: Time) {
        self.update(|before, row| (before.max(until), row));
    }

    /// An attempt that began then was answered.
    pub(crate) fn on_success(&self, began: Time) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.update(|until, row| {
                // Halved, not forgotten: every other call may fail.
                let row = if began >= until { row / 2 } else { row };
                (
                    if row == 0 && began >= until {
                        Time::ZERO
                    } else {
                        until
                    },
                    row,
                )
            });
        }
    }

    fn update(&self, next: impl Fn(Time, u16) -> (Time, u16)) {
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let (until, row) = unpack(word);
                let (until, row) = next(until, row);
                let next = pack(until, row);
                (next != word).then_some(next)
            });
    }
}

/// Rounded up, so that a hold is never shorter than it was meant.
const fn pack(until: Time, row: u16) -> u64 {
    let units = until.as_nanos().div_ceil(1 << UNIT_BITS);
    let units = if units > UNITS_MAX { UNITS_MAX } else { units };
    units << UNIT_BITS | row as u64
}

const fn unpack(word: u64) -> (Time, u16) {
    let row = word & ((1 << UNIT_BITS) - 1);
    (Time::from_nanos(word - row), row as u16)
}

/// Of the nanoseconds, so many bits make room for the row.
const UNIT_BITS: u32 = 10;
const UNITS_MAX: u64 = u64::MAX >> UNIT_BITS;
const FAILURES_MAX: u16 = 15;

/// The longest hold for failures. Whoever watches the endpoints has put it out of use by then.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Time {
        Time::from(Duration::from_millis(ms))
    }

    /// Whether it is held just before and just after a time.
    fn ends(backoff: &Backoff, ms: u64) -> bool {
        backoff.is_active(at(ms - 1)) && !backoff.is_active(at(ms + 1))
    }

    #[test]
    fn failures_in_a_row_hold_for_longer_and_longer() {
        let backoff = Backoff::none();
        let mut now = 1000;
        for hold in [100, 400, 1600, 6400, 25_600, 30_000, 30_000] {
            backoff.on_failure(at(now), at(now), FIRST);
            assert!(ends(&backoff, now + hold), "{hold} ms");
            now += hold + 1;
        }
    }

    #[test]
    fn attempts_that_were_under_way_are_no_further_proof() {
        let backoff = Backoff::none();
        for ended in [1000, 1010, 1050] {
            backoff.on_failure(at(990), at(ended), FIRST);
        }
        assert!(ends(&backoff, 1150));
        // Nor do answers to such attempts end a hold.
        backoff.on_success(at(990));
        assert!(ends(&backoff, 1150));
    }

    #[test]
    fn answers_halve_the_row() {
        let backoff = Backoff::none();
        let fail = |ms| backoff.on_failure(at(ms), at(ms), FIRST);
        [1000, 2000, 4000].into_iter().for_each(fail);
        assert!(ends(&backoff, 5600));
        backoff.on_success(at(6000));
        fail(6000);
        // The second of a row again, not the fourth.
        assert!(ends(&backoff, 6400));
        (0..2).for_each(|_| backoff.on_success(at(7000)));
        fail(8000);
        assert!(ends(&backoff, 8100));
    }

    #[test]
    fn a_wish_to_be_left_alone_is_granted() {
        let backoff = Backoff::none();
        backoff.extend(at(700));
        backoff.extend(at(300));
        assert!(ends(&backoff, 700));
    }

    #[test]
    fn without_time_nobody_is_held() {
        let backoff = Backoff::none();
        backoff.on_failure(Time::ZERO, Time::ZERO, FIRST);
        assert!(!backoff.is_active(Time::ZERO));
        // Nor does it overflow at the end of time.
        let end = Time::from_nanos(u64::MAX);
        (0..40).for_each(|_| backoff.on_failure(end, end, Duration::MAX));
    }
}
