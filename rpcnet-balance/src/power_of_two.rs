//! Power of two choices: the less loaded of two random endpoints.

use std::time::Duration;

use crate::{
    Balancer, Outcome, PickContext, SuccessBatch, View,
    rng::SharedRng,
    score::{self, Scorer},
};

/// Power of two choices (Mitzenmacher, 2001): of two different endpoints drawn at random the one
/// with fewer calls in flight for its weight.
///
/// Nearly as even as looking at all of them, at a constant price, and many clients do not herd to
/// the same endpoint. For calls that last, such as streams, and calls of very different cost, where
/// the time that one took says little about the next.
///
/// An endpoint that [is busy](crate::Endpoint::is_busy) is compared as if it had four times the
/// calls, one that [is slow](crate::Endpoint::is_slow) twice. An endpoint that failed is in
/// backoff, as with [`PeakEwma`](crate::PeakEwma): an endpoint that fails at once has few calls in
/// flight, and would look like the best choice.
///
/// A pick takes constant time and reads one cache line of each of the two. Needs outcomes and times
/// only to avoid endpoints that fail or are busy; no `rebuild`.
#[derive(Debug)]
pub struct PowerOfTwo {
    rng: SharedRng,
    scorer: Scorer,
}

impl PowerOfTwo {
    /// A balancer that draws from a random sequence of `seed`, which can be repeated as long as one
    /// thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
            scorer: Scorer::new(),
        }
    }

    /// Sets the backoff after the first failure. Default 100 ms.
    #[must_use]
    pub const fn with_failure_backoff(mut self, first: Duration) -> Self {
        self.scorer.failure_backoff = first;
        self
    }
}

impl Balancer for PowerOfTwo {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        score::less_loaded(view, cx, &mut self.rng.fork())
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.scorer.on_outcome(&view[index], outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        self.scorer.on_successes(&view[index], batch);
    }
}
