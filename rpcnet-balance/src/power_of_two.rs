//! The less busy of two.

use std::time::Duration;

use crate::{Balancer, Outcome, PickContext, View, appraisal::Rules, rng::SharedRng};

/// The one with fewer calls in flight for its weight, of two different ones drawn at random (Mitzenmacher, 2001).
///
/// Nearly as even as looking at all of them, at a constant price, and many clients do not run after the same endpoint.
#[derive(Debug)]
pub struct PowerOfTwo {
    rng: SharedRng,
    rules: Rules,
}

impl PowerOfTwo {
    /// Draws from a random sequence that depends on `seed` alone, as long as one thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
            rules: Rules::by_load(),
        }
    }

    /// For how long a failure keeps calls away at first. Default 100 ms.
    #[must_use]
    pub const fn with_penalty(mut self, first: Duration) -> Self {
        self.rules.hold = first;
        self
    }
}

impl Balancer for PowerOfTwo {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        self.rules.better_of_two(view, cx, &mut self.rng.fork())
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.rules.note(&view[index], outcome);
    }
}
