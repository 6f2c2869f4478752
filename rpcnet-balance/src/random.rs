//! Uniform random choice.

use crate::{Balancer, PickContext, View, rng::SharedRng, sample};

/// Uniform random choice. Ignores weights.
///
/// It needs no state and no coordination, and is the baseline to compare others with: some endpoint
/// will now and then have several times the calls of another. A pick takes constant time.
#[derive(Debug)]
pub struct Random {
    rng: SharedRng,
}

impl Random {
    /// A balancer that draws from a random sequence of `seed`, which can be repeated as long as one
    /// thread picks.
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
