//! Latencies of calls, as quantiles of a histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The latencies of a process, to three digits, in constant memory.
///
/// Callers keep theirs in a batch and add them some at a time, so that recording takes no lock for
/// most calls.
#[derive(Debug)]
pub struct Latencies(Mutex<Histogram<u64>>);

/// Quantiles of a histogram, in µs.
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
    /// Adds one; what took longer than two minutes counts as two minutes.
    pub fn record(&self, latency: Duration) {
        self.0.lock().saturating_record(nanos(latency));
    }

    /// The quantiles of what was added, all 0 if nothing was.
    pub fn quantiles(&self) -> Quantiles {
        let histogram = self.0.lock();
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
        }
    }

    /// Number of recorded latencies.
    pub fn count(&self) -> u64 {
        self.0.lock().len()
    }
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("the bounds are valid");
        Self(Mutex::new(histogram))
    }
}

/// Latencies of one caller that are still to be added to those of its process.
#[derive(Debug)]
pub(crate) struct Batch {
    nanos: [u64; BATCH_LEN],
    len: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            nanos: [0; BATCH_LEN],
            len: 0,
        }
    }

    /// Keeps one, and adds all to `latencies` when there is no room for more.
    pub(crate) fn record(&mut self, latency: Duration, latencies: &Latencies) {
        self.nanos[self.len] = nanos(latency);
        self.len += 1;
        if self.len == BATCH_LEN {
            self.flush(latencies);
        }
    }

    /// Adds all to `latencies`.
    pub(crate) fn flush(&mut self, latencies: &Latencies) {
        let mut histogram = latencies.0.lock();
        for nanos in &self.nanos[..self.len] {
            histogram.saturating_record(*nanos);
        }
        self.len = 0;
    }
}

fn nanos(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1)
}

const BATCH_LEN: usize = 32;

/// Two minutes.
const NANOS_MAX: u64 = 120_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_calls() {
        let latencies = Latencies::default();
        assert_eq!(latencies.quantiles(), Quantiles::default());
        let mut batch = Batch::new();
        for micros in 1..=1000 {
            batch.record(Duration::from_micros(micros), &latencies);
        }
        batch.flush(&latencies);
        assert_eq!(latencies.count(), 1000);
        let quantiles = latencies.quantiles();
        for (got, expected) in [
            (quantiles.p50_us, 500.0),
            (quantiles.p99_us, 990.0),
            (quantiles.p999_us, 999.0),
        ] {
            assert!((got / expected - 1.0).abs() < 0.002, "{got} {expected}");
        }
    }

    #[test]
    fn extremes_are_kept_within_the_bounds() {
        let latencies = Latencies::default();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        assert_eq!(latencies.count(), 2);
        assert!(latencies.quantiles().p999_us >= 120e6);
    }
}
