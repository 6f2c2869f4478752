//! Any one.

use crate::{
    Balancer, PickContext, View,
    rng::{SharedRng, below},
};

/// Any endpoint, all equally likely. Ignores weights.
///
/// Needs no knowledge and no coordination, and is the baseline to compare others with: some endpoint will now and then
/// have several times the calls of another.
#[derive(Debug)]
pub struct Random {
    rng: SharedRng,
}

impl Random {
    /// A sequence of picks that depends on `seed` alone, as long as one thread picks.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
        }
    }
}

impl Balancer for Random {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        if view.is_empty() {
            return None;
        }
        // Mostly everybody is allowed, and then one draw is enough.
        let any = below(self.rng.next(), view.len());
        if cx.allows(&view[any]) {
            return Some(any);
        }
        let allowed = || (0..view.len()).filter(|&index| cx.allows(&view[index]));
        let count = allowed().count();
        if count == 0 {
            return None;
        }
        allowed().nth(below(self.rng.next(), count))
    }
}
