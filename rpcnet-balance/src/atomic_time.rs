//! Optional point in time in one atomic word.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Time;

/// Optional point in time in one atomic word, shared between threads.
///
/// The greatest word stands for no time. So an age by saturating subtraction is zero without a
/// time, and a pick needs no branch for it. A time that is as late is stored as one nanosecond
/// earlier.
#[derive(Debug)]
pub(crate) struct AtomicTime(AtomicU64);

impl AtomicTime {
    pub(crate) const fn none() -> Self {
        Self(AtomicU64::new(NONE))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Time> {
        unpack(self.0.load(Relaxed))
    }

    #[inline]
    pub(crate) fn set(&self, at: Option<Time>) {
        self.0.store(pack(at), Relaxed);
    }

    /// Sets the time, if it is still `before`. Whether it was.
    pub(crate) fn replace(&self, before: Option<Time>, at: Option<Time>) -> bool {
        let replaced = self
            .0
            .compare_exchange(pack(before), pack(at), Relaxed, Relaxed);
        replaced.is_ok()
    }

    /// Nanoseconds since the time; zero without one, and if it is later than `now`.
    #[inline]
    pub(crate) fn age_nanos(&self, now: Time) -> u64 {
        now.as_nanos().saturating_sub(self.0.load(Relaxed))
    }
}

const fn pack(at: Option<Time>) -> u64 {
    match at {
        Some(at) if at.as_nanos() == NONE => NONE - 1,
        Some(at) => at.as_nanos(),
        None => NONE,
    }
}

const fn unpack(word: u64) -> Option<Time> {
    match word {
        NONE => None,
        nanos => Some(Time::from_nanos(nanos)),
    }
}

const NONE: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_a_time_like_others() {
        let at = AtomicTime::none();
        let later = Time::from_nanos(7);
        assert_eq!((at.get(), at.age_nanos(later)), (None, 0));
        at.set(Some(Time::ZERO));
        assert_eq!((at.get(), at.age_nanos(later)), (Some(Time::ZERO), 7));
        assert!(!at.replace(None, Some(later)) && at.replace(Some(Time::ZERO), Some(later)));
        assert_eq!((at.get(), at.age_nanos(Time::ZERO)), (Some(later), 0));
        at.set(None);
        assert_eq!(at.get(), None);
    }

    #[test]
    fn the_end_of_time_is_a_time_too() {
        let (at, end) = (AtomicTime::none(), Time::from_nanos(u64::MAX));
        at.set(Some(end));
        assert_eq!(at.get(), Some(Time::from_nanos(u64::MAX - 1)));
        assert_eq!(at.age_nanos(end), 1);
    }
}
