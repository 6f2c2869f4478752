//! Time since when an endpoint takes calls, in one atomic word.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Time;

/// Time since when an endpoint takes calls, as far as a slow start has to know it.
///
/// The greatest words stand for the states without a time; a time that is as late is stored as
/// [`TIME_MAX`].
#[derive(Debug)]
pub(crate) struct ReadySince(AtomicU64);

impl ReadySince {
    /// No slow start has looked at the endpoint.
    pub(crate) const fn unknown() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }

    /// The time; `None` if it is not known, long ago, or still to come.
    #[inline]
    pub(crate) fn get(&self) -> Option<Time> {
        let word = self.0.load(Relaxed);
        (word <= TIME_MAX).then_some(Time::from_nanos(word))
    }

    pub(crate) fn set(&self, at: Time) {
        self.0.store(at.as_nanos().min(TIME_MAX), Relaxed);
    }

    /// Initialises, once, whether the endpoint is new or took calls long ago.
    pub(crate) fn init(&self, is_new: bool) {
        let word = if is_new { NOT_YET } else { LONG_AGO };
        let _ = self.0.compare_exchange(UNKNOWN, word, Relaxed, Relaxed);
    }

    /// The time; a new endpoint takes calls from now on.
    #[inline]
    pub(crate) fn get_or_start(&self, now: Time) -> Option<Time> {
        if self.0.load(Relaxed) == NOT_YET {
            self.set(now);
        }
        self.get()
    }
}

const UNKNOWN: u64 = u64::MAX;
const LONG_AGO: u64 = u64::MAX - 1;
const NOT_YET: u64 = u64::MAX - 2;
const TIME_MAX: u64 = u64::MAX - 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_endpoint_starts_at_its_first_pick_which_may_be_at_the_origin() {
        let new = ReadySince::unknown();
        new.init(true);
        assert_eq!(new.get(), None);
        assert_eq!(new.get_or_start(Time::ZERO), Some(Time::ZERO));
        let later = Time::from_nanos(9);
        assert_eq!(new.get_or_start(later), Some(Time::ZERO));
        new.set(later);
        assert_eq!(new.get(), Some(later));
    }

    #[test]
    fn an_endpoint_that_took_calls_long_ago_does_not_start() {
        let old = ReadySince::unknown();
        assert_eq!(old.get_or_start(Time::ZERO), None, "not initialised");
        old.init(false);
        old.init(true);
        assert_eq!(old.get_or_start(Time::ZERO), None);
        old.set(Time::from_nanos(u64::MAX));
        assert_eq!(old.get(), Some(Time::from_nanos(TIME_MAX)));
    }
}
