//! Load reports of endpoints.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{Time, atomic_time::AtomicTime};

/// Load that an endpoint reports, for example with every reply.
///
/// A client cannot see the calls of other clients by itself. The report is advice, and as old as
/// the last reply: an endpoint without calls reports nothing new, so a balancer that avoids an
/// endpoint because of its report has to call it again now and then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportedLoad {
    /// Calls that the endpoint serves, those of all its clients together. Default 0.
    pub in_flight: u32,
    /// Time that requests wait at the endpoint before they are served, smoothed. Default 0.
    pub queue_delay: Duration,
    /// Whether the endpoint is close to its limit of concurrent calls. Default `false`.
    pub busy: bool,
    /// Whether the endpoint drains: it takes no new calls. Default `false`.
    pub draining: bool,
}

impl ReportedLoad {
    /// The load of an idle endpoint.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            in_flight: 0,
            queue_delay: Duration::ZERO,
            busy: false,
            draining: false,
        }
    }

    /// Sets the number of calls that the endpoint serves.
    #[must_use]
    pub const fn with_in_flight(mut self, calls: u32) -> Self {
        self.in_flight = calls;
        self
    }

    /// Sets the time that requests wait before they are served.
    #[must_use]
    pub const fn with_queue_delay(mut self, delay: Duration) -> Self {
        self.queue_delay = delay;
        self
    }

    /// Sets whether the endpoint is close to its limit of concurrent calls.
    #[must_use]
    pub const fn with_busy(mut self, busy: bool) -> Self {
        self.busy = busy;
        self
    }

    /// Sets whether the endpoint drains.
    #[must_use]
    pub const fn with_draining(mut self, draining: bool) -> Self {
        self.draining = draining;
        self
    }

    /// The report as one word, so that it is read and written whole without a lock. Never zero.
    #[inline]
    fn pack(self) -> u64 {
        let delay_us = u32::try_from(self.queue_delay.as_micros()).unwrap_or(u32::MAX);
        let in_flight = self.in_flight.min(IN_FLIGHT_MAX);
        PRESENT
            | if self.busy { BUSY } else { 0 }
            | if self.draining { DRAINING } else { 0 }
            | u64::from(in_flight) << 32
            | u64::from(delay_us)
    }

    fn unpack(word: u64) -> Option<Self> {
        (word & PRESENT != 0).then(|| Self {
            in_flight: (word >> 32) as u32 & IN_FLIGHT_MAX,
            queue_delay: Duration::from_micros(word & u64::from(u32::MAX)),
            busy: word & BUSY != 0,
            draining: word & DRAINING != 0,
        })
    }
}

/// The latest report of an endpoint, if there is one, and its time.
#[derive(Debug)]
pub(crate) struct LastReport {
    word: AtomicU64,
    at: AtomicTime,
}

impl LastReport {
    pub(crate) const fn none() -> Self {
        Self {
            word: AtomicU64::new(0),
            at: AtomicTime::none(),
        }
    }

    /// Sets the report. Without a time it never expires.
    pub(crate) fn set(&self, load: ReportedLoad, now: Option<Time>) {
        // This is a word of its own: for a moment a report may look newer than it is.
        self.at.set(now);
        self.word.store(load.pack(), Ordering::Relaxed);
    }

    /// Whether the report is this one, as it is stored.
    #[inline]
    pub(crate) fn is(&self, load: ReportedLoad) -> bool {
        self.word.load(Ordering::Relaxed) == load.pack()
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<ReportedLoad> {
        ReportedLoad::unpack(self.word.load(Ordering::Relaxed))
    }

    /// The report, unless it is out of date.
    pub(crate) fn recent(&self, now: Time) -> Option<ReportedLoad> {
        self.recent_calls(now)?;
        self.get()
    }

    /// The calls of the report, unless it is out of date.
    #[inline]
    pub(crate) fn recent_calls(&self, now: Time) -> Option<u32> {
        let word = self.word.load(Ordering::Relaxed);
        let is_recent = (word & PRESENT != 0) & (self.at.age_nanos(now) <= AGE_MAX_NANOS);
        is_recent.then_some((word >> 32) as u32 & IN_FLIGHT_MAX)
    }

    /// Whether the report says that the endpoint is busy or draining, and is not out of date.
    #[inline]
    pub(crate) fn is_busy(&self, now: Time) -> bool {
        let flags = self.word.load(Ordering::Relaxed) & (BUSY | DRAINING);
        flags != 0 && self.at.age_nanos(now) <= AGE_MAX_NANOS
    }
}

const PRESENT: u64 = 1 << 63;
const BUSY: u64 = 1 << 62;
const DRAINING: u64 = 1 << 61;

/// The age at which a report expires (that at which Prequal drops a probe).
const AGE_MAX_NANOS: u64 = 1_000_000_000;

/// The largest count that fits beside the flags.
const IN_FLIGHT_MAX: u32 = (1 << 29) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_stored_unchanged() {
        let last = LastReport::none();
        assert_eq!(last.get(), None);
        let delay = Duration::from_micros(u64::from(u32::MAX));
        for load in [
            ReportedLoad::new(),
            ReportedLoad::new().with_in_flight(IN_FLIGHT_MAX),
            ReportedLoad::new().with_queue_delay(delay),
            ReportedLoad::new().with_busy(true),
            ReportedLoad::new().with_draining(true),
            ReportedLoad::new()
                .with_in_flight(12)
                .with_queue_delay(Duration::from_micros(345))
                .with_busy(true)
                .with_draining(true),
        ] {
            assert!(!last.is(load));
            last.set(load, None);
            assert!(last.get() == Some(load) && last.is(load));
        }
    }

    #[test]
    fn values_that_do_not_fit_are_clamped() {
        let last = LastReport::none();
        last.set(
            ReportedLoad::new()
                .with_in_flight(u32::MAX)
                .with_queue_delay(Duration::MAX),
            None,
        );
        let stored = last.get().expect("a report");
        assert_eq!(stored.in_flight, IN_FLIGHT_MAX);
        assert_eq!(
            stored.queue_delay,
            Duration::from_micros(u64::from(u32::MAX))
        );
        assert!(!stored.busy && !stored.draining);
    }

    #[test]
    fn a_report_expires() {
        let (last, busy) = (LastReport::none(), ReportedLoad::new().with_busy(true));
        let at = |ms| Time::from(Duration::from_millis(ms));
        last.set(busy, Some(at(500)));
        for (ms, recent) in [(0, true), (500, true), (1500, true), (1501, false)] {
            assert_eq!(last.recent(at(ms)), recent.then_some(busy), "at {ms} ms");
            assert_eq!(last.is_busy(at(ms)), recent, "at {ms} ms");
        }
        assert_eq!(last.get(), Some(busy));
        last.set(ReportedLoad::new(), Some(at(500)));
        assert!(!last.is_busy(at(500)));
        // Without a time it is never out of date.
        last.set(busy, None);
        assert!(last.is_busy(at(99_999)) && last.recent(at(99_999)).is_some());
    }
}
