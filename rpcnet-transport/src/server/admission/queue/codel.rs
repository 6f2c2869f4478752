//! CoDel (RFC 8289): detection of a standing queue by its delay. Pure: time is an argument.

use std::time::Duration;

/// Bounds of the queue in length and time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::server::admission) struct QueueBounds {
    pub(in crate::server::admission) len_max: usize,
    pub(in crate::server::admission) target: Duration,
    pub(in crate::server::admission) interval: Duration,
}

/// Delay of one queue, and whether it is a standing queue (Nichols and Jacobson, "Controlling queue
/// delay", 2012).
#[derive(Debug)]
pub(super) struct CoDel {
    /// When the queue was last empty, or a call last got its permit within the target.
    last_good_at: Duration,
    /// When the last call got its permit, if the queue was not empty since.
    popped_at: Option<Duration>,
    /// Smoothed time between two permits that calls of the queue get.
    departure_gap: Option<Duration>,
    is_standing: bool,
}

impl CoDel {
    /// An empty queue; `gap` is the departure gap that is expected of it.
    pub(super) fn new(now: Duration, gap: Option<Duration>) -> Self {
        Self {
            last_good_at: now,
            popped_at: None,
            departure_gap: gap,
            is_standing: false,
        }
    }

    /// Records a call that got its permit after it had waited for so long.
    pub(super) fn record_pop(&mut self, now: Duration, waited: Duration, bounds: &QueueBounds) {
        if let Some(before) = self.popped_at.replace(now) {
            let sample = now.saturating_sub(before);
            self.departure_gap = Some(
                self.departure_gap
                    .map_or(sample, |gap| (gap * 7 + sample) / 8),
            );
        }
        if waited <= bounds.target && !self.is_standing {
            self.last_good_at = now;
        }
    }

    /// Whether for an interval no call has got its permit within the target.
    pub(super) fn is_late(&self, now: Duration, bounds: &QueueBounds) -> bool {
        now.saturating_sub(self.last_good_at) > bounds.interval
    }

    /// Makes it a standing queue, until it is empty.
    pub(super) fn set_standing(&mut self) {
        self.is_standing = true;
    }

    /// Ends the standing queue.
    pub(super) fn end_standing(&mut self, now: Duration) {
        self.last_good_at = now;
        self.is_standing = false;
    }

    /// Records that the queue is empty.
    pub(super) fn record_empty(&mut self, now: Duration) {
        *self = Self::new(now, self.departure_gap);
    }

    /// Whether it is a standing queue.
    pub(super) fn is_standing(&self) -> bool {
        self.is_standing
    }

    pub(super) fn departure_gap(&self) -> Option<Duration> {
        self.departure_gap
    }

    /// How long calls of a standing queue may wait: the target, or the time of two departures.
    pub(super) fn wait_max(&self, bounds: &QueueBounds) -> Duration {
        self.departure_gap
            .map_or(bounds.target, |gap| gap.saturating_mul(2))
            .clamp(bounds.target.min(bounds.interval), bounds.interval)
    }
}
