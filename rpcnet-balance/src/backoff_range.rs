//! Range of an exponential backoff.

use std::time::Duration;

/// Range of an exponential backoff, which doubles with each consecutive failure. Default 10 ms to
/// 1 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffRange {
    /// Backoff after the first failure.
    pub initial: Duration,
    /// Maximum of the backoff. One below the initial backoff counts as equal to it.
    pub max: Duration,
}

impl BackoffRange {
    /// The same backoff after every failure.
    #[must_use]
    pub const fn constant(backoff: Duration) -> Self {
        Self {
            initial: backoff,
            max: backoff,
        }
    }

    /// The maximum.
    pub(crate) fn longest(self) -> Duration {
        self.max.max(self.initial)
    }

    /// The initial backoff, doubled as often as there were failures before.
    pub(crate) fn after(self, failures_before: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures_before).unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.longest())
    }
}

impl Default for BackoffRange {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(10),
            max: Duration::from_secs(1),
        }
    }
}
