//! The quickest of a few.

use std::time::Duration;

use crate::{Balancer, Outcome, PickContext, View, latency::Decay, rng::SharedRng, score::Scorer};

/// The one that will probably answer sooner, of [three](Self::with_choices) drawn at random: the lower latency times the
/// calls in flight with this one, for its weight.
///
/// For calls that ask and wait for one answer. Adapts to endpoints that are slow, far away or overloaded.
///
/// - The latency is an average that a slower answer raises at once and faster ones lower over time (the rule of Finagle's
///   `PeakEwma`). It lives in the [`Endpoint`](crate::Endpoint), so it survives the change of a view.
/// - The first answer is provisional, as it often carries the connection set-up and cold caches: until the second one, which
///   replaces it, it counts for no more than the latency of another endpoint.
/// - One answer counts as at most 60 s, so it matters for some 110 s at most where 1 ms is usual and the decay is 10 s.
/// - Latencies are equal as long as the greater is at most 1.5 times the lower one and half a millisecond: equal servers
///   differ as much by chance. Then the calls in flight decide, and of equals any is picked.
/// - It fades while nothing new is known, so that an endpoint that was slow is tried again; but no further than to the
///   latency of another one, lest one that nobody called be flooded.
/// - One that is not known yet is taken to be that of another, so a new endpoint gets its share: neither nothing nor all.
/// - The latency is the [normalised](crate::Outcome::normalized_latency) one: where calls of
///   different kinds take very different times, each is compared with its kind.
/// - Silence counts before there is an answer. While nothing is heard of the calls in flight, the
///   latency is at least the time since; for that begin calls with
///   [`Endpoint::begin_at`](crate::Endpoint::begin_at). Calls that [usually take
///   longer](crate::InFlight::set_scale) are not missed so soon.
/// - A failure counts as slower than any answer, for 100 ms. If the first call after that fails too, for four times as long,
///   and so on up to 30 s; answers make it forgotten. Also when it took no time: an endpoint that fails at once gets
///   almost no calls. An answer with a wish to be left alone holds calls back for that time.
/// - A refusal for want of capacity holds calls back for 10 ms, longer only if refusals follow each other, and never for
///   longer than was asked for: to leave everybody alone until its queue is empty would leave it idle.
/// - What endpoints say counts while it is new: one that [is busy](crate::Endpoint::is_busy) is taken to have four times
///   the calls, one that [is slow](crate::Endpoint::is_slow) twice.
/// - If all that were drawn have failed or gone silent, up to six more are drawn.
///
/// A pick takes constant time and reads one cache line of each of the three. Needs [outcomes](Balancer::on_outcome) with their
/// time and picks with [`PickContext::with_now`]; without them it goes by calls in flight alone. No `rebuild`.
#[derive(Debug)]
pub struct PeakEwma {
    rng: SharedRng,
    scorer: Scorer,
}

impl PeakEwma {
    /// Draws from a random sequence that depends on `seed` alone, as long as one thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
            scorer: Scorer::by_latency(),
        }
    }

    /// In what time a latency that was measured fades to 1/e. Default 10 s.
    #[must_use]
    pub fn with_decay(mut self, decay: Duration) -> Self {
        self.scorer.decay = Decay::over(decay);
        self
    }

    /// How many are drawn for a pick, at least 2. Default 3: a little slower than 2, and so much more seldom are all of them
    /// slow, new and cold, or busy. More of it gains less and less.
    #[must_use]
    pub const fn with_choices(mut self, choices: u32) -> Self {
        self.scorer.choices = choices;
        self
    }

    /// For how long a failure keeps calls away at first. Default 100 ms.
    #[must_use]
    pub const fn with_failure_backoff(mut self, first: Duration) -> Self {
        self.scorer.failure_backoff = first;
        self
    }
}

impl Balancer for PeakEwma {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        self.scorer.best_of_choices(view, cx, &mut self.rng.fork())
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.scorer.on_outcome(&view[index], outcome);
    }
}
