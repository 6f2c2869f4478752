//! The quicker of two.

use std::time::Duration;

use crate::{
    Balancer, Outcome, PickContext, View, appraisal::Rules, latency::Decay, rng::SharedRng,
};

/// The one that will probably answer sooner, of two different ones drawn at random.
#[derive(Debug)]
pub struct PeakEwma {
    rng: SharedRng,
    rules: Rules,
}

impl PeakEwma {
    /// Draws from a random sequence that depends on `seed` alone, as long as one thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
            rules: Rules::by_latency(),
        }
    }

    /// In what time a latency that was measured fades to 1/e. Default 10 s.
    #[must_use]
    pub fn with_decay(mut self, decay: Duration) -> Self {
        self.rules.decay = Decay::over(decay);
        self
    }

    /// For how long a failure keeps calls away at first. Default 100 ms.
    #[must_use]
    pub const fn with_penalty(mut self, first: Duration) -> Self {
        self.rules.hold = first;
        self
    }
}

impl Balancer for PeakEwma {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        self.rules.better_of_two(view, cx, &mut self.rng.fork())
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.rules.note(&view[index], outcome);
    }
}
