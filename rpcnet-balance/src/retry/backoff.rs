//! Retry backoff: exponential, with full jitter.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{
    BackoffRange,
    rng::{GOLDEN, mix, unit_f64},
};

/// Exponential backoff with full jitter (Brooker, Exponential Backoff And Jitter): each wait is a
/// random part, from none to all, of a range that doubles with every retry up to a maximum. Callers
/// that failed at the same moment come back as spread out as can be.
///
/// The sequence of waits is that of the seed.
#[derive(Debug)]
pub struct RetryBackoff {
    range: BackoffRange,
    state: AtomicU64,
}

impl RetryBackoff {
    /// A backoff within this range.
    #[must_use]
    pub const fn seeded(seed: u64, range: BackoffRange) -> Self {
        Self {
            range,
            state: AtomicU64::new(seed),
        }
    }

    /// The wait before a retry, after so many waits of the same call.
    #[must_use]
    pub fn delay(&self, waits_before: u32) -> Duration {
        let range = self.range.after(waits_before);
        range.mul_f64(unit_f64(self.random()))
    }

    /// SplitMix64, with one sequence for all threads: retries are rare.
    fn random(&self) -> u64 {
        mix(self.state.fetch_add(GOLDEN, Relaxed).wrapping_add(GOLDEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(seed: u64) -> RetryBackoff {
        RetryBackoff::seeded(seed, BackoffRange::default())
    }

    #[test]
    fn waits_double_up_to_their_maximum_and_differ() {
        let backoff = seeded(7);
        for (waits_before, range) in [(0, 10), (1, 20), (6, 640), (7, 1_000), (99, 1_000)] {
            let range = Duration::from_millis(range);
            let mut sum = Duration::ZERO;
            for _ in 0..100 {
                let wait = backoff.delay(waits_before);
                assert!(wait <= range, "{wait:?} of {range:?}");
                sum += wait;
            }
            // Every part is as likely as any other.
            let mean = sum / 100;
            assert!(
                mean > range * 35 / 100 && mean < range * 65 / 100,
                "{mean:?} of {range:?}"
            );
        }
        assert_ne!(backoff.delay(9), backoff.delay(9));
    }

    #[test]
    fn equal_seeds_give_equal_waits() {
        let [one, other] = [seeded(1), seeded(1)];
        assert_eq!(one.delay(9), other.delay(9));
    }
}
