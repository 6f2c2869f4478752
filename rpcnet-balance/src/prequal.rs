//! Hot and cold.

use std::{sync::Arc, time::Duration};

use crate::{
    Balancer, Endpoint, Outcome, PickContext, Time, View,
    appraisal::{Appraisal, Rules},
    gauge::{self, Gauge, SAMPLE},
    latency::Decay,
    rng::{Rng, SharedRng},
    sample,
};

/// The quickest of some that are not hot, by what the endpoints themselves say (the rule of Prequal: Wydrowski et al., NSDI
/// 2024).
///
/// For many clients with few calls each, and servers whose speed changes with their neighbours: a client sees its own calls
/// alone, the reports show those of all.
///
/// Three are drawn. Hot are those that serve more calls, for their weight, than 84 in 100 endpoints do. Of the cold ones the
/// one is picked that [`PeakEwma`](crate::PeakEwma) would prefer; if all are hot, the one with the fewest calls. One that said
/// nothing within the last second counts as cold; if none did, this is `PeakEwma` with one choice more.
///
/// It differs from the paper in that no probes are sent: the pool is the last report of every endpoint, which comes with
/// replies, and the latency is what this client saw. Instead of charging a probe for its use, the calls of this process
/// count if they are more than reported.
///
/// A pick takes constant time and reads one cache line of each of the three; of each thread, every 128th looks at 32 more
/// to find the boundary. Needs what `PeakEwma` needs, and reports with their time:
/// [`Endpoint::note_reported_load_at`].
#[derive(Debug)]
pub struct Prequal {
    rng: SharedRng,
    rules: Rules,
    /// The calls at the boundary between cold and hot.
    boundary: Gauge,
    quantile: f32,
}

impl Prequal {
    /// Draws from a random sequence that depends on `seed` alone, as long as one thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
            rules: Rules::by_latency(),
            boundary: Gauge::new(),
            quantile: QUANTILE,
        }
    }

    /// The part of the endpoints that counts as cold, from 0 to 1. Default 0.84.
    #[must_use]
    pub const fn with_cold_part(mut self, part: f32) -> Self {
        self.quantile = part.clamp(0.0, 1.0);
        self
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

impl Balancer for Prequal {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let mut rng = self.rng.fork();
        let (first, second) = sample::pair(view, cx, &mut rng)?;
        let third = sample::another(view, cx, &mut rng).unwrap_or(first);
        let now = cx.now();
        let boundary = self
            .boundary
            .read(RENEWAL, || boundary(view, now, self.quantile, &mut rng));
        let judged = [first, second, third]
            .map(|index| Judged::new(&view[index], &self.rules, now, boundary));
        let best = usize::from(judged[1].beats(&judged[0]));
        let best = if judged[2].beats(&judged[best]) {
            2
        } else {
            best
        };
        let (picked, best) = ([first, second, third][best], &judged[best].appraisal);
        if best.is_doubtful() {
            return Some(self.rules.beyond_doubt(view, cx, &mut rng, (picked, *best)));
        }
        Some(picked)
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.rules.note(&view[index], outcome);
    }

    fn rebuild(&self, _view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            rules: self.rules,
            quantile: self.quantile,
            ..Self::seeded(self.rng.next())
        }))
    }
}

struct Judged {
    appraisal: Appraisal,
    hot: bool,
    /// The calls that it has altogether.
    calls: f32,
}

impl Judged {
    #[inline]
    fn new(endpoint: &Endpoint, rules: &Rules, now: Time, boundary: f32) -> Self {
        let appraisal = rules.appraise(endpoint, now);
        // One that has not said anything lately counts as cold, so that it is asked again.
        let calls = endpoint.recent_calls(now).unwrap_or(0.0);
        Self {
            hot: calls > boundary * appraisal.weight,
            appraisal,
            calls,
        }
    }

    #[inline]
    fn beats(&self, other: &Self) -> bool {
        let (mine, its) = (&self.appraisal, &other.appraisal);
        let rank = |held: bool, hot: bool| u8::from(held) << 1 | u8::from(hot);
        let (rank, other_rank) = (rank(mine.held, self.hot), rank(its.held, other.hot));
        let fewer = self.calls * its.weight < other.calls * mine.weight;
        let better = (self.hot & fewer) | (!self.hot & mine.beats(its));
        (rank < other_rank) | ((rank == other_rank) & better)
    }
}

/// The quantile of the calls over a sample of the endpoints; without reports nobody is hot.
fn boundary(view: &View, now: Time, quantile: f32, rng: &mut Rng) -> f32 {
    let (mut sorted, mut len) = ([0.0; SAMPLE], 0);
    for endpoint in gauge::sample(view, rng) {
        if let Some(calls) = endpoint.recent_calls(now) {
            sorted[len] = calls / endpoint.weight();
            len += 1;
        }
    }
    let rank = (quantile * len as f32) as usize;
    if rank >= len {
        return f32::INFINITY;
    }
    *sorted[..len].select_nth_unstable_by(rank, f32::total_cmp).1
}

const QUANTILE: f32 = 0.84;
/// The boundary moves slowly: a look at some endpoints for every so many picks.
const RENEWAL: usize = 128;
