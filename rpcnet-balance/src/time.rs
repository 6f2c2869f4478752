//! Points in time, without a clock.

use std::{ops::Add, time::Duration};

/// Point in time: nanoseconds since an origin of the caller's choice, the same for all balancers
/// and endpoints of the caller.
///
/// The crate reads no clock. A client computes it from the time since its start,
/// `Time::from(began.elapsed())`; a simulation counts by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// The point in time this many nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this; zero if `earlier` is later.
    #[must_use]
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for Time {
    #[inline]
    fn from(since: Duration) -> Self {
        let seconds = since.as_secs().saturating_mul(1_000_000_000);
        Self(seconds.saturating_add(since.subsec_nanos().into()))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    #[inline]
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(Self::from(time).0))
    }
}

/// The time that ages are computed at: without a time the origin, at which nothing has aged.
#[inline]
pub(crate) const fn age_reference(now: Option<Time>) -> Time {
    match now {
        Some(now) => now,
        None => Time::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_saturate() {
        let second = Duration::from_secs(1);
        assert_eq!((Time::ZERO + second).as_nanos(), 1_000_000_000);
        assert_eq!(Time::ZERO.since(Time::ZERO + second), Duration::ZERO);
        assert_eq!(
            Time::from(Duration::MAX) + second,
            Time::from_nanos(u64::MAX)
        );
    }
}
