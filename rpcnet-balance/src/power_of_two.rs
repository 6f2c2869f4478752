//! The less busy of two.

use std::time::Duration;

use crate::{Balancer, Outcome, PickContext, View, rng::SharedRng, score::Scorer};

/// The one with fewer calls in flight for its weight, of two different ones drawn at random (Mitzenmacher, 2001).
///
/// Nearly as even as looking at all of them, at a constant price, and many clients do not run after the same endpoint. For
/// calls that last, such as streams, and calls of very different cost, where the time that one took says little about
/// the next.
///
/// What else counts: an endpoint that [is busy](crate::Endpoint::is_busy) is taken to have four times the calls, one that
/// [is slow](crate::Endpoint::is_slow) twice. One that failed is passed over for a while, as by
/// [`PeakEwma`](crate::PeakEwma): what fails at once has few calls in flight, and would look like the best choice.
///
/// A pick takes constant time and reads one cache line of each of the two. Needs outcomes and times only to pass over
/// what fails or is busy; no `rebuild`.
#[derive(Debug)]
pub struct PowerOfTwo {
    rng: SharedRng,
    scorer: Scorer,
}

impl PowerOfTwo {
    /// Draws from a random sequence that depends on `seed` alone, as long as one thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
            scorer: Scorer::by_load(),
        }
    }

    /// For how long a failure keeps calls away at first. Default 100 ms.
    #[must_use]
    pub const fn with_failure_backoff(mut self, first: Duration) -> Self {
        self.scorer.failure_backoff = first;
        self
    }
}

impl Balancer for PowerOfTwo {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        self.scorer.best_of_choices(view, cx, &mut self.rng.fork())
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.scorer.on_outcome(&view[index], outcome);
    }
}
