//! What is measured only now and then.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Endpoint, View, rng::Rng, stripes::Stripes};

/// A number about a view, measured anew by every so many picks of a thread, from a sample of the endpoints.
#[derive(Debug)]
pub(crate) struct SampledGauge(Stripes<AtomicU64>);

impl SampledGauge {
    pub(crate) fn new() -> Self {
        // For how many picks it still holds in the upper half, the bits of a float in the lower.
        Self(Stripes::new(|| AtomicU64::new(0)))
    }

    /// The number, at most so many picks old.
    #[inline]
    pub(crate) fn read(&self, period: usize, measure: impl FnOnce() -> f32) -> f32 {
        let mine = self.0.local();
        let word = mine.load(Ordering::Relaxed);
        let (left, mut value) = (word >> 32, f32::from_bits(word as u32));
        let left = if left == 0 {
            value = measure();
            period as u64
        } else {
            left
        };
        mine.store(
            (left - 1) << 32 | u64::from(value.to_bits()),
            Ordering::Relaxed,
        );
        value
    }
}

/// Every so many picks a view is worth a look at all of it, or at as many: one endpoint more for each pick.
pub(crate) fn refresh_period(view: &View) -> usize {
    view.len().clamp(1, SAMPLE_MAX)
}

/// All endpoints of a small view, some of a large one.
pub(crate) fn sample<'a>(
    view: &'a View,
    rng: &mut Rng,
) -> impl Iterator<Item = &'a Endpoint> + Clone + use<'a> {
    let len = view.len();
    let first = if len > SAMPLE_MAX { rng.below(len) } else { 0 };
    // The golden section spreads them over the view.
    let step = if len > SAMPLE_MAX {
        (len as f64 * 0.618) as usize
    } else {
        1
    };
    (0..len.min(SAMPLE_MAX)).map(move |index| &*view[(first + index * step) % len])
}

/// The most that are looked at.
pub(crate) const SAMPLE_MAX: usize = 32;
