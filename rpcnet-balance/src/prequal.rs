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

/// The quickest of those that are not hot, by what the endpoints themselves say.
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
        let judge = |index: usize| Judged::new(index, &view[index], &self.rules, now, boundary);
        let best = judge(second).or(judge(first)).or(judge(third));
        Some(best.index)
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

#[derive(Clone, Copy)]
struct Judged {
    index: usize,
    appraisal: Appraisal,
    hot: bool,
    /// The calls that it has altogether.
    calls: f32,
}

impl Judged {
    #[inline]
    fn new(index: usize, endpoint: &Endpoint, rules: &Rules, now: Time, boundary: f32) -> Self {
        let appraisal = rules.appraise(endpoint, now);
        let reported = calls(endpoint, now);
        let calls = reported.unwrap_or(0.0);
        Self {
            index,
            hot: calls > boundary * appraisal.weight,
            appraisal,
            calls,
        }
    }

    /// The better one.
    #[inline]
    fn or(self, other: Self) -> Self {
        let (a, b) = (&self.appraisal, &other.appraisal);
        let (mine, its) = (
            u8::from(a.held) << 1 | u8::from(self.hot),
            u8::from(b.held) << 1 | u8::from(other.hot),
        );
        let fewer = other.calls * a.weight < self.calls * b.weight;
        let other_wins = (its < mine) | ((its == mine) & if self.hot { fewer } else { b.beats(a) });
        if other_wins { other } else { self }
    }
}

/// The calls that it says it serves, or those of this process if they are more by now. `None` if it has not said so lately.
#[inline]
fn calls(endpoint: &Endpoint, now: Time) -> Option<f32> {
    let load = endpoint.recent_load(now)?;
    Some(load.in_flight.max(endpoint.in_flight()) as f32)
}

/// The quantile of the calls over a sample of the endpoints; without reports nobody is hot.
fn boundary(view: &View, now: Time, quantile: f32, rng: &mut Rng) -> f32 {
    let (mut sorted, mut len) = ([0.0; SAMPLE], 0);
    for endpoint in gauge::sample(view, rng) {
        if let Some(calls) = calls(endpoint, now) {
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
