//! Any one.

use crate::{Balancer, PickContext, View, rng::SharedRng, sample};

/// Any endpoint, all equally likely. Ignores weights.
///
/// Needs no knowledge and no coordination, and is the baseline to compare others with: some endpoint will now and then
/// have several times the calls of another. A pick takes constant time.
#[derive(Debug)]
pub struct Random {
    rng: SharedRng,
}

impl Random {
    /// A sequence of picks that depends on `seed` alone, as long as one thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
        }
    }
}

impl Balancer for Random {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        sample::one(view, cx, &mut self.rng.fork())
    }
}
