//! What is remembered of one endpoint.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::Time;

/// What is remembered of one endpoint. Kept in it.
#[derive(Debug)]
pub(crate) struct Record {
    /// Attempts since the last sweep: those that succeeded in the upper half, those that failed in the lower.
    tally: AtomicU64,
    /// Failures since the last success.
    in_a_row: AtomicU32,
    /// How often it could not be reached in a row.
    unreachable: AtomicU32,
    /// How often it was ejected of late.
    ejections: AtomicU32,
    /// When a probe may go to it, in ns; the lowest bit says that one is under way, and that this is when it is given up.
    probe_at: AtomicU64,
}

/// The attempts of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) successes: u32,
    pub(super) failures: u32,
}

impl Tally {
    pub(super) const fn requests(self) -> u32 {
        self.successes.saturating_add(self.failures)
    }
}

impl Record {
    pub(crate) const fn new() -> Self {
        Self {
            tally: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            unreachable: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            probe_at: AtomicU64::new(0),
        }
    }

    pub(super) fn succeeded(&self) {
        self.tally.fetch_add(1 << 32, Relaxed);
        // Written only if that is news: nearly always it is not.
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
        }
    }

    /// Says how many there were in a row with this one.
    pub(super) fn failed(&self) -> u32 {
        self.tally.fetch_add(1, Relaxed);
        self.in_a_row.fetch_add(1, Relaxed).saturating_add(1)
    }

    pub(super) fn forget_row(&self) {
        self.in_a_row.store(0, Relaxed);
    }

    /// The attempts since the last time.
    pub(super) fn take_tally(&self) -> Tally {
        let tally = self.tally.swap(0, Relaxed);
        Tally {
            successes: (tally >> 32) as u32,
            failures: tally as u32,
        }
    }

    /// One more failure to reach it; says how many there were before, in a row.
    pub(super) fn missed(&self) -> u32 {
        more(&self.unreachable)
    }

    pub(super) fn reached(&self) {
        self.unreachable.store(0, Relaxed);
    }

    /// One more ejection; says how many there were before.
    pub(super) fn ejected(&self) -> u32 {
        more(&self.ejections)
    }

    /// An interval without ejection.
    pub(super) fn behaved(&self) {
        let _ = self
            .ejections
            .fetch_update(Relaxed, Relaxed, |times| times.checked_sub(1));
    }

    /// When a probe may go to it, or the one under way is given up.
    pub(super) fn probe_at(&self) -> Time {
        Time::from_nanos(self.probe_at.load(Relaxed) & !UNDER_WAY)
    }

    /// No probe before this time; none is under way.
    pub(super) fn set_probe_at(&self, at: Time) {
        self.probe_at.store(at.as_nanos() & !UNDER_WAY, Relaxed);
    }

    /// No probe before this time, nor before the one that was set.
    pub(super) fn defer_probe(&self, at: Time) {
        let at = at.as_nanos() & !UNDER_WAY;
        let _ = self.probe_at.fetch_update(Relaxed, Relaxed, |before| {
            (before & !UNDER_WAY < at).then_some(at)
        });
    }

    /// Begins a probe if one may go to it now; it is given up after `lease`. Returns what tells it from others.
    pub(super) fn claim_probe(&self, now: Time, lease: Duration) -> Option<u64> {
        let before = self.probe_at.load(Relaxed);
        if now.as_nanos() < before & !UNDER_WAY {
            return None;
        }
        let claim = (now + lease).as_nanos() | UNDER_WAY;
        let claimed = self
            .probe_at
            .compare_exchange(before, claim, Relaxed, Relaxed);
        claimed.is_ok().then_some(claim)
    }

    /// The probe ended without saying anything: another may go from `at` on.
    pub(super) fn release_probe(&self, claim: u64, at: Time) -> bool {
        let at = at.as_nanos() & !UNDER_WAY;
        self.probe_at
            .compare_exchange(claim, at, Relaxed, Relaxed)
            .is_ok()
    }
}

/// Says how many there were.
fn more(count: &AtomicU32) -> u32 {
    let more = count.fetch_update(Relaxed, Relaxed, |count| Some(count.saturating_add(1)));
    more.unwrap_or_else(|count| count)
}

const UNDER_WAY: u64 = 1;
