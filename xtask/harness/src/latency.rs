//! Latencies of calls, as quantiles of a histogram.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies of calls, to three digits, in constant memory.
#[derive(Clone, Debug)]
pub struct Latencies {
    micros: Histogram<u64>,
}

impl Latencies {
    /// Records a call. A longer one than a minute counts as a minute.
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.micros.saturating_record(micros.max(1));
    }

    /// Adds the calls of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.micros
            .add(&other.micros)
            .expect("all have the same bounds");
    }

    /// Number of calls.
    pub fn calls(&self) -> u64 {
        self.micros.len()
    }

    /// The median in µs, 0 before the first call.
    pub fn p50_us(&self) -> u64 {
        self.micros.value_at_quantile(0.50)
    }

    /// The 99th percentile in µs, 0 before the first call.
    pub fn p99_us(&self) -> u64 {
        self.micros.value_at_quantile(0.99)
    }

    /// The longest in µs, 0 before the first call.
    pub fn max_us(&self) -> u64 {
        self.micros.max()
    }
}

impl Default for Latencies {
    fn default() -> Self {
        let micros = Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("the bounds are valid");
        Self { micros }
    }
}

/// A minute.
const MICROS_MAX: u64 = 60_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_calls() {
        let mut latencies = Latencies::default();
        assert_eq!(
            (latencies.calls(), latencies.p50_us(), latencies.p99_us()),
            (0, 0, 0)
        );
        for millis in 1..=200 {
            latencies.record(Duration::from_millis(millis));
        }
        assert!(
            latencies.p50_us().abs_diff(100_000) <= 100,
            "{}",
            latencies.p50_us()
        );
        assert!(
            latencies.p99_us().abs_diff(198_000) <= 200,
            "{}",
            latencies.p99_us()
        );
    }

    #[test]
    fn extremes_are_kept_within_the_bounds() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        assert_eq!(latencies.calls(), 2);
        assert_eq!(latencies.p50_us(), 1);
        assert!(latencies.p99_us() >= MICROS_MAX);
    }

    #[test]
    fn merging_adds_calls() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        one.record(Duration::from_micros(5));
        other.record(Duration::from_micros(7));
        one.merge(&other);
        assert_eq!((one.calls(), one.p99_us()), (2, 7));
    }
}
