//! Minimum transfer rate: whether bytes come fast enough, and how long they may take.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// Whether bytes come at a minimum rate, on average. Bytes that come faster are not saved up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinRateTracker {
    bytes_per_second: NonZeroU32,
    met_until: Instant,
}

impl MinRateTracker {
    /// A tracker for bytes that come from now on.
    pub(crate) fn new(bytes_per_second: NonZeroU32, now: Instant) -> Self {
        Self {
            bytes_per_second,
            met_until: now,
        }
    }

    /// Records bytes that have come by now.
    pub(crate) fn record(&mut self, bytes: u64, now: Instant) {
        self.met_until = now.min(self.met_until + time_at_rate(bytes, self.bytes_per_second));
    }

    /// The moment up to which the rate was met.
    pub(crate) fn met_until(&self) -> Instant {
        self.met_until
    }
}

/// How long so many bytes take at a rate.
pub(crate) fn time_at_rate(bytes: u64, bytes_per_second: NonZeroU32) -> Duration {
    Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_second.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_an_average_and_bursts_are_not_saved_up() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut rate = MinRateTracker::new(NonZeroU32::new(1_000).unwrap(), began);
        rate.record(1_000, at(10));
        assert_eq!(rate.met_until(), at(1));
        rate.record(4_000, at(10));
        assert_eq!(rate.met_until(), at(5));
        rate.record(1_000_000, at(20));
        assert_eq!(rate.met_until(), at(20));
        rate.record(0, at(30));
        assert_eq!(rate.met_until(), at(20));
    }
}
