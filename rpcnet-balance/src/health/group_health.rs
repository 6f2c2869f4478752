//! What picks from a group have to know.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::{HealthChange, NOT_COUNTED, OutlierDetector};
use crate::{ExclusionFlags, Time, View};

/// What picks from one group of endpoints have to know: whether ejections are heeded in it, and whether a probe is due.
///
/// [`check`](Self::check) costs a few atomic reads. It counts the group anew only when a mark has changed since.
#[derive(Debug)]
pub struct GroupHealth {
    /// What the rest was computed from.
    version: AtomicU64,
    /// Somebody computes it.
    is_counting: AtomicBool,
    is_panicking: AtomicBool,
    /// In ns.
    probe_at: AtomicU64,
}

/// What the next pick does.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct GroupCheck {
    /// The marks to heed, for [`PickContext::with_respected_flags`](crate::PickContext::with_respected_flags).
    pub respected_flags: ExclusionFlags,
    /// A marked endpoint may be probed: ask [`OutlierDetector::probe`].
    pub is_probe_due: bool,
    /// The panic has begun or ended, as this check alone says.
    pub change: Option<HealthChange>,
}

impl Default for GroupHealth {
    fn default() -> Self {
        Self::new()
    }
}

impl GroupHealth {
    /// Of a group that was not looked at yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            version: AtomicU64::new(u64::MAX),
            is_counting: AtomicBool::new(false),
            is_panicking: AtomicBool::new(false),
            probe_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Of a group that takes the place of that of `before`: a panic goes on, or ends with the first check.
    #[must_use]
    pub fn following(before: &Self) -> Self {
        Self {
            is_panicking: AtomicBool::new(before.is_panicking()),
            ..Self::new()
        }
    }

    /// What the next pick from `view` does. Always of the same endpoints for one gate; a new view
    /// has a [new gate](Self::following).
    #[must_use]
    pub fn check(&self, outliers: &OutlierDetector, view: &View, now: Time) -> GroupCheck {
        let version = outliers.version();
        let is_old = self.version.load(Acquire) != version;
        // Who finds somebody else at it goes by what was.
        let action = if is_old && !self.is_counting.swap(true, Acquire) {
            let action = self.count(outliers, view);
            self.version.store(version, Release);
            self.is_counting.store(false, Release);
            action
        } else {
            None
        };
        let heeded = if self.is_panicking.load(Relaxed) {
            ExclusionFlags::ALL.without(ExclusionFlags::EJECTED)
        } else {
            ExclusionFlags::ALL
        };
        GroupCheck {
            respected_flags: heeded,
            is_probe_due: self.probe_at.load(Relaxed) <= now.as_nanos(),
            change: action,
        }
    }

    /// Whether ejections are not heeded, as of the last check.
    #[must_use]
    pub fn is_panicking(&self) -> bool {
        self.is_panicking.load(Relaxed)
    }

    fn count(&self, outliers: &OutlierDetector, view: &View) -> Option<HealthChange> {
        let unwell = ExclusionFlags::UNREACHABLE | ExclusionFlags::EJECTED;
        let (mut of, mut healthy, mut probe_at) = (0, 0, u64::MAX);
        for endpoint in view.endpoints() {
            let marks = endpoint.flags();
            if !marks.and(NOT_COUNTED).is_empty() {
                continue;
            }
            of += 1;
            if marks.and(unwell).is_empty() {
                healthy += 1;
            } else {
                probe_at = probe_at.min(endpoint.health_record().probe_at().as_nanos());
            }
        }
        self.probe_at.store(probe_at, Relaxed);
        let percent = outliers.config.panic_threshold_percent as usize;
        let panics = healthy * 100 < percent * of;
        let before = self.is_panicking.swap(panics, Relaxed);
        if panics == before {
            return None;
        }
        Some(if panics {
            outliers.counters.panics.add_one();
            HealthChange::PanicBegan { healthy, total: of }
        } else {
            HealthChange::PanicEnded { healthy, total: of }
        })
    }
}
