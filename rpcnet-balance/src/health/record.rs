//! Health record of one endpoint.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::Time;

/// Health record of one endpoint. Kept in the endpoint.
#[derive(Debug)]
pub(crate) struct HealthRecord {
    /// Attempts since the last sweep: successes in the upper half, failures in the lower.
    interval_counts: AtomicU64,
    /// Failures since the last success.
    consecutive_failures: AtomicU32,
    /// Consecutive failures to reach the endpoint.
    consecutive_unreachable: AtomicU32,
    /// The last connection was lost, and no attempt to connect has failed since.
    is_disconnected: AtomicBool,
    /// Recent ejections.
    ejections: AtomicU32,
    /// Time of the next probe in nanoseconds, [`NO_PROBE`] while none is planned; the lowest bit
    /// says that a probe is in progress, and that this is the end of its lease.
    probe_at: AtomicU64,
}

/// Attempts of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttemptCounts {
    pub(super) successes: u32,
    pub(super) failures: u32,
}

impl AttemptCounts {
    pub(super) const fn requests(self) -> u32 {
        self.successes.saturating_add(self.failures)
    }
}

impl HealthRecord {
    pub(crate) const fn new() -> Self {
        Self {
            interval_counts: AtomicU64::new(0),
            consecutive_failures: AtomicU32::new(0),
            consecutive_unreachable: AtomicU32::new(0),
            is_disconnected: AtomicBool::new(false),
            ejections: AtomicU32::new(0),
            probe_at: AtomicU64::new(NO_PROBE),
        }
    }

    pub(super) fn on_successes(&self, count: u32) {
        let successes = u64::from(count) << 32;
        self.interval_counts.fetch_add(successes, Relaxed);
        // Written only if it changes: nearly always it does not.
        if self.consecutive_failures.load(Relaxed) != 0 {
            self.consecutive_failures.store(0, Relaxed);
        }
    }

    /// Records a failure, and returns the number of consecutive failures including this one.
    pub(super) fn on_failure(&self) -> u32 {
        self.interval_counts.fetch_add(1, Relaxed);
        self.consecutive_failures
            .fetch_add(1, Relaxed)
            .saturating_add(1)
    }

    pub(super) fn reset_consecutive_failures(&self) {
        self.consecutive_failures.store(0, Relaxed);
    }

    /// The attempts since the last time.
    pub(super) fn take_interval_counts(&self) -> AttemptCounts {
        let tally = self.interval_counts.swap(0, Relaxed);
        AttemptCounts {
            successes: (tally >> 32) as u32,
            failures: tally as u32,
        }
    }

    /// Records a failure to reach the endpoint, and returns the number of consecutive ones before.
    pub(super) fn on_unreachable(&self) -> u32 {
        increment_saturating(&self.consecutive_unreachable)
    }

    pub(crate) fn is_disconnected(&self) -> bool {
        self.is_disconnected.load(Relaxed)
    }

    pub(super) fn set_disconnected(&self, disconnected: bool) {
        self.is_disconnected.store(disconnected, Relaxed);
    }

    pub(super) fn on_reachable(&self) {
        self.consecutive_unreachable.store(0, Relaxed);
        self.set_disconnected(false);
    }

    /// Records an ejection, and returns the number of recent ones before.
    pub(super) fn on_ejected(&self) -> u32 {
        increment_saturating(&self.ejections)
    }

    /// Records an interval without ejection.
    pub(super) fn on_quiet_interval(&self) {
        let _ = self
            .ejections
            .fetch_update(Relaxed, Relaxed, |times| times.checked_sub(1));
    }

    /// The time of the next probe, or the end of the lease of the one in progress.
    pub(super) fn probe_at(&self) -> Time {
        Time::from_nanos(self.probe_at.load(Relaxed) & !PROBE_IN_PROGRESS)
    }

    /// Sets the time of the next probe; none is in progress.
    pub(super) fn set_probe_at(&self, at: Time) {
        self.probe_at
            .store(at.as_nanos() & !PROBE_IN_PROGRESS, Relaxed);
    }

    /// Ends the plan of a probe: the endpoint is not flagged any more.
    pub(super) fn cancel_probe(&self) {
        self.probe_at.store(NO_PROBE, Relaxed);
    }

    /// Sets the time of the next probe unless a later one is set.
    pub(super) fn defer_probe(&self, at: Time) {
        let at = at.as_nanos() & !PROBE_IN_PROGRESS;
        let _ = self.probe_at.fetch_update(Relaxed, Relaxed, |before| {
            (before & !PROBE_IN_PROGRESS < at).then_some(at)
        });
    }

    /// Begins a probe if its time has come; it ends after `lease` at the latest. Returns a number
    /// that identifies it.
    pub(super) fn claim_probe(&self, now: Time, lease: Duration) -> Option<u64> {
        let before = self.probe_at.load(Relaxed);
        if now.as_nanos() < before & !PROBE_IN_PROGRESS {
            return None;
        }
        let claim = (now + lease).as_nanos() | PROBE_IN_PROGRESS;
        let claimed = self
            .probe_at
            .compare_exchange(before, claim, Relaxed, Relaxed);
        claimed.is_ok().then_some(claim)
    }

    /// Ends the probe without an outcome: another may be made from `at` on.
    pub(super) fn release_probe(&self, claim: u64, at: Time) -> bool {
        let at = at.as_nanos() & !PROBE_IN_PROGRESS;
        self.probe_at
            .compare_exchange(claim, at, Relaxed, Relaxed)
            .is_ok()
    }
}

/// Adds one, and returns the value from before.
fn increment_saturating(count: &AtomicU32) -> u32 {
    let more = count.fetch_update(Relaxed, Relaxed, |count| Some(count.saturating_add(1)));
    more.unwrap_or_else(|count| count)
}

const PROBE_IN_PROGRESS: u64 = 1;

/// Earlier than any planned probe, so that each is deferred from here. A flagged endpoint without a
/// plan may be probed at once.
const NO_PROBE: u64 = 0;
