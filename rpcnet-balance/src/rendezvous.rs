//! Rendezvous hashing with bounded loads.

use std::sync::Arc;

use crate::{
    Balancer, Endpoint, Outcome, PickContext, SuccessBatch, View,
    gauge::{self, SampledGauge},
    rendezvous_table::{self, RendezvousTable},
    rng::{GOLDEN, Rng, SharedRng, mix},
    score::{self, Scorer},
};

/// Rendezvous hashing with bounded loads (as in Mirrokni, Thorup, Zadimoghaddam, SODA 2018): the
/// endpoint that a key prefers, unless it has more than its share of calls in flight.
///
/// For servers that keep state for a key, such as a cache, and keys of which some are hot. An
/// endpoint that is added takes over its share of the keys and no others move; those of an endpoint
/// that is removed, fails or is flagged spread over the rest. All clients with the same endpoints
/// agree, whatever their seed. Keys are shared by weight.
///
/// An endpoint is full when it has 1.25 times the mean of calls in flight for its weight, rounded
/// up, and two more: then the key goes to the next of its preferences. Full and failed endpoints
/// are passed over for up to 16 preferences; then, and for calls without a key, it is
/// [`PowerOfTwo`](crate::PowerOfTwo).
///
/// Two things are approximate: keys are hashed into 65,536 buckets that move as one, and the mean
/// is at most 32 picks of a thread old, taken from 32 endpoints if there are more.
///
/// A pick takes constant time after the first key of its bucket, for which all endpoints are looked
/// at; the table takes 512 KiB. Needs [`PickContext::with_key`] and `rebuild`; without `rebuild`,
/// and with more than 65,534 endpoints, every pick looks at all.
#[derive(Debug)]
pub struct Rendezvous {
    /// `None` until it is rebuilt for a view.
    table: Option<RendezvousTable>,
    load_bound: f32,
    /// Mean of calls in flight for a weight of 1.
    mean_load: SampledGauge,
    rng: SharedRng,
    scorer: Scorer,
}

impl Rendezvous {
    /// A balancer; keys depend on the ids of the endpoints alone, `seed` is for calls without a
    /// key.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            table: None,
            load_bound: LOAD_BOUND,
            mean_load: SampledGauge::new(),
            rng: SharedRng::seeded(seed),
            scorer: Scorer::new(),
        }
    }

    /// Sets how many times the mean of calls in flight an endpoint may have before keys go to the
    /// next; at least 1. Default 1.25; infinity for no bound.
    #[must_use]
    pub const fn with_load_bound(mut self, bound: f32) -> Self {
        self.load_bound = bound.max(1.0);
        self
    }

    fn preferred(
        &self,
        view: &View,
        cx: &PickContext<'_>,
        key: u64,
        rng: &mut Rng,
    ) -> Option<usize> {
        let mean = self
            .mean_load
            .read(gauge::refresh_period(view), || mean_load(view, rng));
        // For an idle view without a bound this is 0 times infinity, which is NaN: then no endpoint
        // is full.
        let is_full = |endpoint: &Endpoint| {
            let share = mean * endpoint.weight();
            endpoint.in_flight() as f32 >= (self.load_bound * share).ceil() + SLACK
        };
        let has_room = |endpoint: &Endpoint| {
            cx.allows(endpoint) && !is_full(endpoint) && !endpoint.in_backoff(cx.now())
        };
        let Some(table) = self.table.as_ref().filter(|table| table.is_for(view)) else {
            return rendezvous_table::scan_preferred(view, key, has_room);
        };
        let mut key = key;
        for _ in 0..REHASHES_MAX {
            if let Some(index) = table.preferred(key).find(|&index| has_room(&view[index])) {
                return Some(index);
            }
            key = mix(key.wrapping_add(GOLDEN));
        }
        None
    }
}

impl Balancer for Rendezvous {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let mut rng = self.rng.fork();
        let preferred = match cx.key() {
            Some(key) if !view.is_empty() => self.preferred(view, cx, key, &mut rng),
            _ => None,
        };
        preferred.or_else(|| score::less_loaded(view, cx, &mut rng))
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.scorer.on_outcome(&view[index], outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        self.scorer.on_successes(&view[index], batch);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            table: Some(RendezvousTable::new(view)),
            load_bound: self.load_bound,
            scorer: self.scorer,
            ..Self::seeded(self.rng.next())
        }))
    }
}

fn mean_load(view: &View, rng: &mut Rng) -> f32 {
    let picked = gauge::sample(view, rng).filter(|one| one.flags().is_empty());
    let (calls, weight) = picked.fold((0.0, 0.0), |(calls, weight), one| {
        (calls + one.in_flight() as f32, weight + one.weight())
    });
    // If all endpoints are flagged there is no mean, and no bound.
    calls / weight
}

const LOAD_BOUND: f32 = 1.25;
/// Slack beyond the bound, so that a few calls at the same time do not move a key.
const SLACK: f32 = 2.0;
const REHASHES_MAX: usize = 4;
