//! Queue delay, judged as CoDel does. Pure: time is an argument.

use std::time::Duration;

use super::Bounds;

/// The delay of one queue, and whether it is a standing queue (Nichols and Jacobson, "Controlling
/// queue delay", 2012).
#[derive(Debug)]
pub(super) struct CoDel {
    /// When the queue was last empty, or a call got its place within the target.
    good_at: Duration,
    /// When the last call got its place, if the queue was not empty since.
    popped_at: Option<Duration>,
    /// Time between two places that calls of the queue get, smoothed.
    gap: Option<Duration>,
    stands: bool,
}

impl CoDel {
    /// Of a queue that is empty; `gap` is what is expected of it.
    pub(super) fn new(now: Duration, gap: Option<Duration>) -> Self {
        Self {
            good_at: now,
            popped_at: None,
            gap,
            stands: false,
        }
    }

    /// A call got its place after it had waited for so long.
    pub(super) fn note_pop(&mut self, now: Duration, waited: Duration, bounds: &Bounds) {
        if let Some(before) = self.popped_at.replace(now) {
            let sample = now.saturating_sub(before);
            self.gap = Some(self.gap.map_or(sample, |gap| (gap * 7 + sample) / 8));
        }
        if waited <= bounds.target && !self.stands {
            self.good_at = now;
        }
    }

    /// Whether for an interval no call has got its place within the target.
    pub(super) fn is_late(&self, now: Duration, bounds: &Bounds) -> bool {
        now.saturating_sub(self.good_at) > bounds.interval
    }

    /// It is a standing queue from now on, until it is empty.
    pub(super) fn set_standing(&mut self) {
        self.stands = true;
    }

    /// It is no standing queue any more.
    pub(super) fn end_standing(&mut self, now: Duration) {
        self.good_at = now;
        self.stands = false;
    }

    /// The queue is empty.
    pub(super) fn note_empty(&mut self, now: Duration) {
        *self = Self::new(now, self.gap);
    }

    /// Whether it is a standing queue.
    pub(super) fn stands(&self) -> bool {
        self.stands
    }

    pub(super) fn gap(&self) -> Option<Duration> {
        self.gap
    }

    /// How long calls of a standing queue may wait: the target, or while two of them get places.
    pub(super) fn wait_max(&self, bounds: &Bounds) -> Duration {
        self.gap
            .map_or(bounds.target, |gap| gap.saturating_mul(2))
            .clamp(bounds.target.min(bounds.interval), bounds.interval)
    }
}
