//! Empty loop that only reads the clock: the time that the machine takes from a thread that never
//! waits.
//!
//! Two readings in a row are some 20 ns apart. A gap is time in which the thread did not run:
//! interrupts, other threads on the core, and a hypervisor that gave the core to another machine.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use xtask_report::Latencies;

use crate::Report;

/// Gaps that an empty loop saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockGaps {
    /// Share of the time in gaps of more than 50 µs.
    pub share: f64,
    /// Length of the longest gap in µs.
    pub longest_us: f64,
}

impl ClockGaps {
    /// Figures of each kind, the worse of both.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            share: self.share.max(other.share),
            longest_us: self.longest_us.max(other.longest_us),
        }
    }
}

/// Reads the clock for so long, and does nothing else.
pub fn clock_gaps(time: Duration) -> ClockGaps {
    let begin = Instant::now();
    let mut meter = GapMeter::default();
    while meter.last < time {
        meter.read(black_box(begin.elapsed()));
    }
    meter.gaps()
}

/// Sums up gaps between readings.
#[derive(Debug, Default)]
struct GapMeter {
    last: Duration,
    in_gaps: Duration,
    longest: Duration,
}

impl GapMeter {
    fn read(&mut self, now: Duration) {
        let gap = now - self.last;
        self.last = now;
        if gap > GAP_MIN {
            self.in_gaps += gap;
        }
        self.longest = self.longest.max(gap);
    }

    fn gaps(&self) -> ClockGaps {
        let time = self.last.as_secs_f64();
        ClockGaps {
            share: self.in_gaps.as_secs_f64() / time.max(f64::MIN_POSITIVE),
            longest_us: self.longest.as_secs_f64() * 1e6,
        }
    }
}

/// Report of calls at a fixed rate that do nothing: each ends at the first reading of the clock
/// after its intended start.
pub(crate) fn empty_calls(time: Duration, calls_per_s: f64) -> Report {
    let begin = Instant::now();
    let mut calls = EmptyCalls::new(calls_per_s);
    let mut now = Duration::ZERO;
    while now < time {
        now = black_box(begin.elapsed());
        calls.read(now);
    }
    Report {
        count: calls.latencies.calls(),
        seconds: now.as_secs_f64(),
        latency: calls.latencies.quantiles(),
        ..Report::default()
    }
}

/// Calls that end when the clock is read.
#[derive(Debug)]
struct EmptyCalls {
    interval: Duration,
    next: Duration,
    latencies: Latencies,
}

impl EmptyCalls {
    fn new(calls_per_s: f64) -> Self {
        let interval = Duration::from_secs_f64(1.0 / calls_per_s).max(Duration::from_nanos(1));
        Self {
            interval,
            next: interval,
            latencies: Latencies::default(),
        }
    }

    fn read(&mut self, now: Duration) {
        while self.next <= now {
            self.latencies.record(now - self.next);
            self.next += self.interval;
        }
    }
}

/// Longest time between two readings that counts as undisturbed: an interrupt takes less.
const GAP_MIN: Duration = Duration::from_micros(50);

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_gap_counts_from_fifty_microseconds_on() {
        let mut meter = GapMeter::default();
        for now in [50, 100, 150, 201, 1_000] {
            meter.read(micros(now));
        }
        let gaps = meter.gaps();
        assert_eq!((gaps.share, gaps.longest_us), (0.85, 799.0));
        let other = ClockGaps {
            share: 0.9,
            longest_us: 1.0,
        };
        let worse = gaps.worse(other);
        assert_eq!((worse.share, worse.longest_us), (0.9, 799.0));
    }

    #[test]
    fn calls_that_fall_into_a_gap_end_after_it() {
        let mut calls = EmptyCalls::new(100_000.0);
        // Due at 10, 20, ..., 100 µs; the clock is not read between 10 and 100 µs.
        calls.read(micros(10));
        calls.read(micros(100));
        assert_eq!(calls.latencies.calls(), 10);
        assert_eq!(calls.latencies.max_us(), 80);
        assert!(calls.latencies.p50_us() >= 30);
    }

    #[test]
    fn the_loop_ends_in_time_and_sees_its_calls() {
        assert!(clock_gaps(micros(500)).share <= 1.0);
        let report = empty_calls(micros(500), 1e6);
        assert!(report.count >= 499 && report.seconds >= 500e-6);
    }
}
