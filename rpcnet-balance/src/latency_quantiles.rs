//! Quantiles of recent latencies, such as the delay of a hedge.

use std::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::Time;

/// Histogram of the latencies of the last few seconds, for their quantiles: one call in twenty
/// takes longer than the 0.95 quantile.
///
/// Latencies are counted in buckets, each at most a sixteenth wider than its lower end. A quantile
/// is the upper end of its bucket: never less than the exact one, and at most a sixteenth, or 1.024
/// µs if that is more, above. Latencies of more than 73 min count as that.
///
/// Time is divided into windows; latencies older than the two windows before the current one are
/// dropped. Shared by threads without a lock: a record is one addition, and now and then the first
/// of a window clears the counts of an old one, at which moment records of other threads may get
/// lost.
///
/// ```
/// use std::time::Duration;
/// use rpcnet_balance::{LatencyQuantiles, Time};
///
/// let latencies = LatencyQuantiles::new();
/// for ms in 1..=100 {
///     latencies.record(Time::ZERO, Duration::from_millis(ms));
/// }
/// let p95 = latencies.quantile(Time::ZERO, 0.95).unwrap().as_millis();
/// assert!((95..=101).contains(&p95), "{p95}");
/// ```
pub struct LatencyQuantiles {
    window_ns: u64,
    windows: [TimeWindow; WINDOWS],
}

struct TimeWindow {
    /// The number of the window, counted from 1; 0 for an unused one.
    epoch: AtomicU64,
    len: AtomicU32,
    counts: [AtomicU32; BUCKETS],
}

impl LatencyQuantiles {
    /// An empty histogram with windows of 5 s.
    #[must_use]
    pub fn new() -> Self {
        Self {
            window_ns: 5_000_000_000,
            windows: [const { TimeWindow::new() }; WINDOWS],
        }
    }

    /// Sets the length of a window; default 5 s, at least 1 ms. Quantiles cover two to three
    /// windows: a longer window is steadier, a shorter one follows change sooner.
    #[must_use]
    pub fn with_window(mut self, window: Duration) -> Self {
        let nanos = Time::from(window).as_nanos();
        self.window_ns = nanos.max(1_000_000);
        self
    }

    /// Records the latency of a call that ended at `now`.
    pub fn record(&self, now: Time, latency: Duration) {
        let epoch = self.epoch(now);
        let window = &self.windows[(epoch % WINDOWS as u64) as usize];
        let window_epoch = window.epoch.load(Relaxed);
        if window_epoch != epoch {
            // A record that is too late is dropped; of the other threads, one clears the window.
            if window_epoch > epoch {
                return;
            }
            let won = window
                .epoch
                .compare_exchange(window_epoch, epoch, Relaxed, Relaxed);
            if won.is_ok() {
                window.clear();
            }
        }
        window.counts[bucket_of(latency)].fetch_add(1, Relaxed);
        window.len.fetch_add(1, Relaxed);
    }

    /// The latency that the fraction `q` of the calls, from 0 to 1, did not exceed; `None` if there
    /// were none. Reads some 1,500 counts: too many for every call.
    #[must_use]
    pub fn quantile(&self, now: Time, q: f64) -> Option<Duration> {
        let mut counts = [0_u64; BUCKETS];
        for window in self.recent(now) {
            for (sum, count) in counts.iter_mut().zip(&window.counts) {
                *sum += u64::from(count.load(Relaxed));
            }
        }
        let len: u64 = counts.iter().sum();
        if len == 0 {
            return None;
        }
        // The number of calls that must not exceed it; the cast turns NaN into 0.
        let rank = ((q.clamp(0.0, 1.0) * len as f64).ceil() as u64).clamp(1, len);
        let mut seen = 0;
        let reached = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        reached.map(upper_bound)
    }

    /// The number of recorded latencies.
    #[must_use]
    pub fn len(&self, now: Time) -> u64 {
        let windows = self.recent(now);
        windows.map(|w| u64::from(w.len.load(Relaxed))).sum()
    }

    /// Whether no latency is recorded.
    #[must_use]
    pub fn is_empty(&self, now: Time) -> bool {
        self.len(now) == 0
    }

    fn recent(&self, now: Time) -> impl Iterator<Item = &TimeWindow> {
        let epoch = self.epoch(now);
        let is_recent = move |window: &&TimeWindow| {
            let window_epoch = window.epoch.load(Relaxed);
            window_epoch != 0 && window_epoch + WINDOWS as u64 > epoch
        };
        self.windows.iter().filter(is_recent)
    }

    fn epoch(&self, now: Time) -> u64 {
        now.as_nanos() / self.window_ns + 1
    }
}

impl Default for LatencyQuantiles {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LatencyQuantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyQuantiles")
            .field("window", &Duration::from_nanos(self.window_ns))
            .finish_non_exhaustive()
    }
}

impl TimeWindow {
    const fn new() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            len: AtomicU32::new(0),
            counts: [const { AtomicU32::new(0) }; BUCKETS],
        }
    }

    fn clear(&self) {
        self.len.store(0, Relaxed);
        for count in &self.counts {
            count.store(0, Relaxed);
        }
    }
}

/// Values up to 31 units have a bucket each. From there each doubling has sixteen.
fn bucket_of(latency: Duration) -> usize {
    let units = (Time::from(latency).as_nanos() >> UNIT_BITS).min(UNITS_MAX);
    // How often the value is halved until it is below 32.
    let halvings = (u64::BITS - units.leading_zeros()).saturating_sub(SUB_BUCKET_BITS + 1);
    (u64::from(halvings << SUB_BUCKET_BITS) + (units >> halvings)) as usize
}

/// The smallest latency above the bucket.
fn upper_bound(bucket: usize) -> Duration {
    let halvings = ((bucket >> SUB_BUCKET_BITS) as u32).saturating_sub(1);
    let units = (bucket as u64 - u64::from(halvings << SUB_BUCKET_BITS) + 1) << halvings;
    Duration::from_nanos(units << UNIT_BITS)
}

/// The current window and two before.
const WINDOWS: usize = 3;

/// Latencies are counted in units of 2^10 ns.
const UNIT_BITS: u32 = 10;

/// Each doubling has 2^4 buckets.
const SUB_BUCKET_BITS: u32 = 4;

const UNITS_MAX: u64 = (1 << 32) - 1;

/// The last bucket is that of `UNITS_MAX`.
const BUCKETS: usize = (32 - SUB_BUCKET_BITS as usize + 1) << SUB_BUCKET_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn buckets_have_no_gap_and_no_overlap() {
        for index in 0..BUCKETS - 1 {
            let end = upper_bound(index);
            assert_eq!(bucket_of(end - Duration::from_nanos(1)), index);
            assert_eq!(bucket_of(end), index + 1);
        }
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        assert_eq!(upper_bound(BUCKETS - 1).as_secs() / 60, 73);
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        let latencies = LatencyQuantiles::new();
        assert_eq!(latencies.quantile(at(0), 0.95), None);
        assert!(latencies.is_empty(at(1_000_000)));
    }

    #[test]
    fn old_windows_are_dropped() {
        let latencies = LatencyQuantiles::new().with_window(Duration::from_millis(10));
        let second = Duration::from_secs(1);
        latencies.record(at(1), second);
        let slow = latencies.quantile(at(1), 0.5);
        assert!(slow >= Some(second));
        assert_eq!(latencies.quantile(at(29), 0.5), slow);
        assert_eq!(latencies.quantile(at(30), 0.5), None);
        // Other latencies take its place.
        latencies.record(at(31), second / 1_000);
        assert!(latencies.quantile(at(31), 1.0) < Some(second / 100));
        // A late record does not bring it back.
        latencies.record(at(1), second);
        assert_eq!(latencies.len(at(31)), 1);
    }

    #[test]
    fn quantiles_outside_zero_to_one_are_clamped() {
        let latencies = LatencyQuantiles::new();
        latencies.record(at(1), Duration::from_millis(3));
        let only = latencies.quantile(at(1), 0.5);
        for q in [f64::NAN, -1.0, 0.0, 1.0, 2.0, f64::INFINITY] {
            assert_eq!(latencies.quantile(at(1), q), only, "{q}");
        }
    }

    #[test]
    fn concurrent_records_within_a_window_are_all_counted() {
        let latencies = LatencyQuantiles::new();
        latencies.record(at(0), Duration::ZERO);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for us in 0..1_000 {
                        latencies.record(at(1), Duration::from_micros(us));
                    }
                });
            }
        });
        assert_eq!(latencies.len(at(1)), 4_001);
    }
}
