//! Moments, without a clock.

use std::{ops::Add, time::Duration};

/// A moment: nanoseconds since one that the caller has chosen, the same for all balancers and endpoints that it uses.
///
/// The crate reads no clock. A client makes it of the time since it was made, `Time::from(began.elapsed())`; a simulation
/// counts for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The chosen moment itself.
    pub const ZERO: Self = Self(0);

    /// So many nanoseconds after the chosen moment.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the chosen moment.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `started_before_window` to this; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for Time {
    fn from(since: Duration) -> Self {
        let seconds = since.as_secs().saturating_mul(1_000_000_000);
        Self(seconds.saturating_add(since.subsec_nanos().into()))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(Self::from(time).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_neither_wrap_nor_go_below_zero() {
        let second = Duration::from_secs(1);
        assert_eq!((Time::ZERO + second).as_nanos(), 1_000_000_000);
        assert_eq!(Time::ZERO.since(Time::ZERO + second), Duration::ZERO);
        assert_eq!(
            Time::from(Duration::MAX) + second,
            Time::from_nanos(u64::MAX)
        );
    }
}
