//! Gauge that is measured again after a number of picks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Endpoint, View, rng::Rng, stripes::Stripes};

/// A number about a view, measured again after a number of picks of a thread, from a sample of the
/// endpoints.
#[derive(Debug)]
pub(crate) struct SampledGauge(Stripes<AtomicU64>);

impl SampledGauge {
    pub(crate) fn new() -> Self {
        // The upper half is the number of picks for which the value is valid, the lower half the
        // bits of an `f32`.
        Self(Stripes::new(|| AtomicU64::new(0)))
    }

    /// The number, at most `period` picks old.
    #[inline]
    pub(crate) fn read(&self, period: usize, measure: impl FnOnce() -> f32) -> f32 {
        let cell = self.0.local();
        let word = cell.load(Ordering::Relaxed);
        let (remaining, mut value) = (word >> 32, f32::from_bits(word as u32));
        let remaining = if remaining == 0 {
            value = measure();
            period as u64
        } else {
            remaining
        };
        cell.store(
            (remaining - 1) << 32 | u64::from(value.to_bits()),
            Ordering::Relaxed,
        );
        value
    }
}

/// The number of picks after which a gauge of this view is measured again: as many as endpoints are
/// looked at, so that each pick pays for one.
pub(crate) fn refresh_period(view: &View) -> usize {
    view.len().clamp(1, SAMPLE_MAX)
}

/// All endpoints of a small view, some of a large one.
pub(crate) fn sample<'a>(
    view: &'a View,
    rng: &mut Rng,
) -> impl Iterator<Item = &'a Endpoint> + Clone + use<'a> {
    let len = view.len();
    // Steps of the golden ratio spread the sample over the view.
    let (mut next, step) = if len > SAMPLE_MAX {
        (rng.below(len), (len as f64 * 0.618) as usize)
    } else {
        (0, 1)
    };
    (0..len.min(SAMPLE_MAX)).map(move |_| {
        let index = next;
        next += step;
        if next >= len {
            next -= len;
        }
        &*view[index]
    })
}

/// The most endpoints that are looked at.
pub(crate) const SAMPLE_MAX: usize = 32;
