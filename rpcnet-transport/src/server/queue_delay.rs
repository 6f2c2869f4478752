//! Queue delay: how long requests wait for their handlers.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// Smoothed time between the arrival of a request and the start of its handler. Written by many
/// threads without a lock: a sample that is lost now and then does not matter.
#[derive(Debug, Default)]
pub(crate) struct QueueDelay {
    smoothed_us: AtomicU32,
}

impl QueueDelay {
    pub(crate) fn record(&self, waited: Duration) {
        let sample = u32::try_from(waited.as_micros()).unwrap_or(u32::MAX);
        let before = self.smoothed_us.load(Relaxed);
        // An eighth of the difference, rounded up so that the value reaches the sample.
        let after = if sample >= before {
            before + (sample - before).div_ceil(8)
        } else {
            before - (before - sample).div_ceil(8)
        };
        if after != before {
            self.smoothed_us.store(after, Relaxed);
        }
    }

    pub(crate) fn smoothed(&self) -> Duration {
        Duration::from_micros(u64::from(self.smoothed_us.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_converges_to_the_sample() {
        let delay = QueueDelay::default();
        for sample_us in [800, 0, u64::from(u32::MAX)] {
            let sample = Duration::from_micros(sample_us);
            let before = delay.smoothed();
            delay.record(sample);
            let after = delay.smoothed();
            assert!(after.abs_diff(sample) < before.abs_diff(sample));
            for _ in 0..300 {
                delay.record(sample);
            }
            assert_eq!(delay.smoothed(), sample);
        }
        delay.record(Duration::MAX);
    }
}
