//! Peak EWMA: the lowest latency times load of a few random choices.

use std::time::Duration;

use crate::{
    Balancer, Outcome, PickContext, SuccessBatch, View, choices, latency::Decay, rng::SharedRng,
    score::Scorer,
};

/// Peak EWMA: of [three](Self::with_choices) endpoints drawn at random the one that will probably
/// reply first, by the latency times the calls in flight including this one, for its weight.
///
/// For calls that send one request and wait for one reply. Adapts to endpoints that are slow, far
/// away or overloaded.
///
/// - The latency is an average that a slower reply raises at once and faster ones lower over time
///   (the rule of Finagle's `PeakEwma`). It lives in the [`Endpoint`](crate::Endpoint), so it
///   survives the change of a view.
/// - The first reply is provisional, as it often includes the connection set-up and cold caches:
///   until the second one, which replaces it, it counts for no more than the latency of another
///   endpoint.
/// - One reply counts as at most 60 s, so it matters for some 110 s at most where 1 ms is usual and
///   the decay is 10 s.
/// - Latencies are equal as long as the greater is at most 1.5 times the lower one and half a
///   millisecond: equal servers differ as much by chance. Then the calls in flight decide, and of
///   equal endpoints a random one is picked.
/// - The latency decays while nothing new is known, so that an endpoint that was slow is tried
///   again; but no further than to the latency of another endpoint, so that an endpoint without
///   calls is not flooded.
/// - An unknown latency is assumed to be that of another endpoint, so a new endpoint gets its
///   share: neither no calls nor all.
/// - The latency is the [normalised](crate::Outcome::normalized_latency) one: where calls of
///   different kinds take very different times, each is compared with its kind.
/// - Silence counts before there is a reply. While there is no reply to the calls in flight, the
///   latency is at least the time since the last one; for that, begin calls with
///   [`Endpoint::begin_at`](crate::Endpoint::begin_at). For calls that [usually take
///   longer](crate::InFlight::set_scale) the silence is scaled.
/// - A failure counts as slower than any reply, for 100 ms. If the first call after that fails too,
///   for four times as long, and so on up to 30 s; replies shorten it again. This also holds for a
///   failure that took no time: an endpoint that fails at once gets almost no calls. A reply with a
///   retry-after time backs off for that time.
/// - A rejection for lack of capacity backs off for 10 ms, longer only after consecutive
///   rejections, and never for longer than the endpoint asked for: to avoid each endpoint until its
///   queue is empty would leave it idle.
/// - Reported load counts while it is new: an endpoint that [is busy](crate::Endpoint::is_busy) is
///   compared as if it had four times the calls, one that [is slow](crate::Endpoint::is_slow)
///   twice.
/// - If all endpoints that were drawn are in backoff or silent, up to six more are drawn.
///
/// A pick takes constant time and reads one cache line of each of the three. Needs
/// [outcomes](Balancer::on_outcome) with their time and picks with [`PickContext::with_now`];
/// without them it goes by calls in flight alone. No `rebuild`.
#[derive(Debug)]
pub struct PeakEwma {
    rng: SharedRng,
    scorer: Scorer,
    /// The number of endpoints that are drawn, at least 2.
    choices: u32,
}

impl PeakEwma {
    /// A balancer that draws from a random sequence of `seed`, which can be repeated as long as one
    /// thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
            scorer: Scorer::new(),
            choices: CHOICES,
        }
    }

    /// Sets the time in which a measured latency decays to 1/e. Default 10 s.
    #[must_use]
    pub fn with_decay(mut self, decay: Duration) -> Self {
        self.scorer.decay = Decay::over(decay);
        self
    }

    /// Sets how many endpoints are drawn for a pick. Default 3: a little slower than 2, and it is
    /// much rarer that all of them are slow, new and cold, or busy. More choices gain less and
    /// less, and each makes every pick slower. Less than 2 counts as 2, more than 64 as 64.
    #[must_use]
    pub fn with_choices(mut self, choices: u32) -> Self {
        self.choices = choices.clamp(2, CHOICES_MAX);
        self
    }

    /// Sets the backoff after the first failure. Default 100 ms.
    #[must_use]
    pub const fn with_failure_backoff(mut self, first: Duration) -> Self {
        self.scorer.failure_backoff = first;
        self
    }
}

impl Balancer for PeakEwma {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let (mut rng, by_latency) = (self.rng.fork(), self.scorer.at(cx.now()));
        match self.choices.checked_sub(CHOICES) {
            Some(further) => choices::best_of::<{ CHOICES as usize }, _>(
                view,
                cx,
                &mut rng,
                further,
                &by_latency,
            ),
            None => choices::best_of::<2, _>(view, cx, &mut rng, 0, &by_latency),
        }
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.scorer.on_outcome(&view[index], outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        self.scorer.on_successes(&view[index], batch);
    }
}

/// Default number of endpoints that are drawn: with one more than two, it is much rarer that all
/// are slow, cold or busy.
const CHOICES: u32 = 3;

/// Most endpoints that are drawn for a pick.
const CHOICES_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_choices_is_bounded() {
        for (set, used) in [(0, 2), (2, 2), (64, 64), (u32::MAX, 64)] {
            let balancer = PeakEwma::seeded(7).with_choices(set);
            assert_eq!(balancer.choices, used);
        }
    }
}
