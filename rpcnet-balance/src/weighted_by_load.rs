//! In proportion to weights and to what the endpoints say.

use std::sync::Arc;

use crate::{
    Balancer, Endpoint, Outcome, PickContext, Time, View,
    appraisal::Rules,
    draws::{self, Draws},
    gauge::{self, Gauge},
    rng::{Rng, SharedRng, unit},
};

/// Calls in proportion to [`Endpoint::weight`] over the calls that the endpoint says it serves.
#[derive(Debug)]
pub struct WeightedByLoad {
    /// `None` until it is rebuilt for a view.
    draws: Option<Draws>,
    /// What the least loaded have.
    least: Gauge,
    rng: SharedRng,
    rules: Rules,
}

impl WeightedByLoad {
    /// Draws from a random sequence that depends on `seed` alone, as long as one thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            draws: None,
            least: Gauge::new(),
            rng: SharedRng::seeded(seed),
            rules: Rules::by_load(),
        }
    }

    fn draw(
        &self,
        view: &View,
        cx: &PickContext<'_>,
        draws: &Draws,
        rng: &mut Rng,
    ) -> Option<usize> {
        let now = cx.now();
        let least = self
            .least
            .read(gauge::period(view), || least(view, now, rng));
        let mut last = None;
        for _ in 0..TRIES {
            let index = draws.at(rng.next());
            let endpoint = &view[index];
            if !cx.allows(endpoint) {
                continue;
            }
            last = Some(index);
            let load = reported(endpoint, now).unwrap_or(least);
            let mut accepted = least / load;
            if endpoint.is_busy(now) {
                accepted *= BUSY;
            }
            if endpoint.is_held(now) {
                accepted *= HELD;
            }
            if unit(rng.next()) < accepted {
                break;
            }
        }
        last
    }
}

impl Balancer for WeightedByLoad {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let mut rng = self.rng.fork();
        if !view.is_empty()
            && let Some(draws) = self.draws.as_ref().filter(|draws| draws.fits(view))
            && let Some(index) = self.draw(view, cx, draws, &mut rng)
        {
            return Some(index);
        }
        draws::scan(view.len(), &mut rng, |index| {
            let endpoint = &view[index];
            let weight = || endpoint.weight() / reported(endpoint, cx.now()).unwrap_or(1.0);
            cx.allows(endpoint).then(weight)
        })
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.rules.note(&view[index], outcome);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            draws: Some(Draws::new(view)),
            rules: self.rules,
            ..Self::seeded(self.rng.next())
        }))
    }
}

/// Calls that it serves for its weight, with one to come; `None` if it has not said so lately.
#[inline]
fn reported(endpoint: &Endpoint, now: Time) -> Option<f32> {
    let load = endpoint.recent_load(now)?;
    Some((load.in_flight as f32 + 1.0) / endpoint.weight())
}

/// The least that is reported, 1 if nothing is.
fn least(view: &View, now: Time, rng: &mut Rng) -> f32 {
    let reported = gauge::sample(view, rng).filter_map(|one| reported(one, now));
    let least = reported.fold(f32::INFINITY, f32::min);
    if least.is_finite() { least } else { 1.0 }
}

const BUSY: f32 = 0.25;
const HELD: f32 = 0.02;
const TRIES: usize = 8;
