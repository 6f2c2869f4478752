//! Latencies of calls, as quantiles of a histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies of calls, to three digits, in constant memory.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

/// Quantiles of latencies, in µs; 0 before the first call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The 99.9th percentile.
    pub p999_us: f64,
}

impl Latencies {
    /// Records a call. A longer one than two minutes counts as two minutes.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos.max(1));
    }

    /// Adds the calls of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// Number of calls.
    pub fn calls(&self) -> u64 {
        self.0.len()
    }

    /// The quantiles.
    pub fn quantiles(&self) -> Quantiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
        }
    }

    /// The median in whole µs.
    pub fn p50_us(&self) -> u64 {
        self.0.value_at_quantile(0.5) / 1_000
    }

    /// The 99th percentile in whole µs.
    pub fn p99_us(&self) -> u64 {
        self.0.value_at_quantile(0.99) / 1_000
    }

    /// The longest in whole µs.
    pub fn max_us(&self) -> u64 {
        self.0.max() / 1_000
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("the bounds are valid"))
    }
}

/// Two minutes.
const NANOS_MAX: u64 = 120_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_calls() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantiles(), Quantiles::default());
        for micros in 1..=1000 {
            latencies.record(Duration::from_micros(micros));
        }
        assert_eq!(latencies.calls(), 1000);
        let quantiles = latencies.quantiles();
        for (got, expected) in [
            (quantiles.p50_us, 500.0),
            (quantiles.p99_us, 990.0),
            (quantiles.p999_us, 999.0),
            (latencies.p50_us() as f64, 500.0),
            (latencies.p99_us() as f64, 990.0),
            (latencies.max_us() as f64, 1000.0),
        ] {
            assert!((got / expected - 1.0).abs() < 0.003, "{got} {expected}");
        }
    }

    #[test]
    fn extremes_are_kept_within_the_bounds() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        assert_eq!((latencies.calls(), latencies.p50_us()), (2, 0));
        assert!(latencies.max_us() >= 120_000_000);
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
