//! Health of a group of endpoints: panic mode and the time of the next probe.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::{HealthChange, NOT_COUNTED, OutlierDetector};
use crate::{ExclusionFlags, Time, View, atomic_time::AtomicTime};

/// Health of a group of endpoints that calls pick from: whether it is in panic mode, and whether a
/// probe is due.
///
/// [`check`](Self::check) costs a few atomic reads. It counts the group again only after a flag has
/// changed.
#[derive(Debug)]
pub struct GroupHealth {
    /// The version of the flags that the rest was computed from.
    version: AtomicU64,
    /// Whether a thread computes it.
    is_counting: AtomicBool,
    is_panicking: AtomicBool,
    /// Time of the next probe; none while no endpoint is flagged.
    probe_at: AtomicTime,
}

/// Result of a check: how the next pick goes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct GroupCheck {
    /// The flags to respect, for
    /// [`PickContext::with_respected_flags`](crate::PickContext::with_respected_flags).
    pub respected_flags: ExclusionFlags,
    /// Whether a flagged endpoint may be probed: call [`OutlierDetector::probe`].
    pub is_probe_due: bool,
    /// The beginning or end of panic mode, returned by one check only.
    pub change: Option<HealthChange>,
}

impl Default for GroupHealth {
    fn default() -> Self {
        Self::new()
    }
}

impl GroupHealth {
    /// The health of a group that was not checked yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            version: AtomicU64::new(u64::MAX),
            is_counting: AtomicBool::new(false),
            is_panicking: AtomicBool::new(false),
            probe_at: AtomicTime::none(),
        }
    }

    /// The health of a group that replaces that of `before`: panic mode goes on, or ends with the
    /// first check.
    #[must_use]
    pub fn following(before: &Self) -> Self {
        Self {
            is_panicking: AtomicBool::new(before.is_panicking()),
            ..Self::new()
        }
    }

    /// Whether a [check](Self::check) would change nothing: no flag has changed since the last one,
    /// which found no flagged endpoint, so that all flags are respected and no probe is due. Three
    /// atomic reads.
    #[inline]
    #[must_use]
    pub fn is_settled(&self, detector: &OutlierDetector) -> bool {
        self.version.load(Acquire) == detector.version()
            && !self.is_panicking.load(Relaxed)
            && self.probe_at.get().is_none()
    }

    /// Checks how the next pick from `view` goes. One value serves one set of endpoints; a new view
    /// has a [new value](Self::following). Without a time no probe is due.
    #[must_use]
    pub fn check(
        &self,
        detector: &OutlierDetector,
        view: &View,
        now: impl Into<Option<Time>>,
    ) -> GroupCheck {
        let now = now.into();
        let version = detector.version();
        let is_old = self.version.load(Acquire) != version;
        // A thread that finds another one counting uses the previous state.
        let change = if is_old && !self.is_counting.swap(true, Acquire) {
            let change = self.count(detector, view);
            self.version.store(version, Release);
            self.is_counting.store(false, Release);
            change
        } else {
            None
        };
        let respected = if self.is_panicking.load(Relaxed) {
            ExclusionFlags::ALL.without(ExclusionFlags::EJECTED)
        } else {
            ExclusionFlags::ALL
        };
        GroupCheck {
            respected_flags: respected,
            is_probe_due: self.probe_at.get().is_some_and(|at| Some(at) <= now),
            change,
        }
    }

    /// Whether the group was in panic mode at the last check.
    #[must_use]
    pub fn is_panicking(&self) -> bool {
        self.is_panicking.load(Relaxed)
    }

    fn count(&self, detector: &OutlierDetector, view: &View) -> Option<HealthChange> {
        let unhealthy = ExclusionFlags::UNREACHABLE | ExclusionFlags::EJECTED;
        let (mut total, mut healthy, mut probe_at) = (0, 0, None::<Time>);
        for endpoint in view.endpoints() {
            let flags = endpoint.flags();
            if !flags.and(NOT_COUNTED).is_empty() {
                continue;
            }
            total += 1;
            if flags.and(unhealthy).is_empty() {
                healthy += 1;
            } else {
                let at = endpoint.health_record().probe_at();
                probe_at = Some(probe_at.map_or(at, |first| first.min(at)));
            }
        }
        self.probe_at.set(probe_at);
        let percent = detector.config.panic_threshold_percent as usize;
        let panics = healthy * 100 < percent * total;
        let before = self.is_panicking.swap(panics, Relaxed);
        if panics == before {
            return None;
        }
        Some(if panics {
            detector.counters.panics.add_one();
            HealthChange::PanicBegan { healthy, total }
        } else {
            HealthChange::PanicEnded { healthy, total }
        })
    }
}
