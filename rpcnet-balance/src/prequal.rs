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
        let now = cx.now();
        let measure = |rng: &mut Rng| boundary(view, now, self.quantile, rng);
        let boundary = self
            .boundary
            .read(gauge::period(view), || measure(&mut rng));
        let judge = |index: usize| (index, Judged::new(&view[index], &self.rules, now, boundary));
        let (mut picked, mut best) = judge(first);
        let more = (second != first).then_some(second).into_iter();
        let more = more.chain((2..CHOICES).filter_map(|_| sample::another(view, cx, &mut rng)));
        for (index, judged) in more.map(judge) {
            if judged.beats(&best) {
                (picked, best) = (index, judged);
            }
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
    /// The calls of one that is hot, for its weight.
    hot: Option<f32>,
}

impl Judged {
    #[inline]
    fn new(endpoint: &Endpoint, rules: &Rules, now: Time, boundary: f32) -> Self {
        let hot = calls(endpoint, now).filter(|&calls| calls > boundary);
        Self {
            appraisal: rules.appraise(endpoint, now),
            hot,
        }
    }

    #[inline]
    fn beats(&self, other: &Self) -> bool {
        if self.appraisal.held != other.appraisal.held {
            return other.appraisal.held;
        }
        match (self.hot, other.hot) {
            (None, None) => self.appraisal.beats(&other.appraisal),
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(mine), Some(its)) => mine < its,
        }
    }
}

/// The calls that it says it serves, or those of this process if they are more by now, for its weight. `None` if it has
/// not said so lately.
#[inline]
fn calls(endpoint: &Endpoint, now: Time) -> Option<f32> {
    let load = endpoint.recent_load(now)?;
    Some(load.in_flight.max(endpoint.in_flight()) as f32 / endpoint.weight())
}

/// The quantile of the calls over a sample of the endpoints; without reports nobody is hot.
fn boundary(view: &View, now: Time, quantile: f32, rng: &mut Rng) -> f32 {
    let (mut sorted, mut len) = ([0.0; SAMPLE], 0);
    for calls in gauge::sample(view, rng).filter_map(|one| calls(one, now)) {
        sorted[len] = calls;
        len += 1;
    }
    let sorted = &mut sorted[..len];
    sorted.sort_unstable_by(f32::total_cmp);
    let rank = (quantile * len as f32) as usize;
    sorted.get(rank).copied().unwrap_or(f32::INFINITY)
}

const QUANTILE: f32 = 0.84;
const CHOICES: usize = 3;
