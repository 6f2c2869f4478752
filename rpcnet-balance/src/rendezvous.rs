//! The same key, the same endpoint, within bounds.

use std::sync::Arc;

use crate::{
    Balancer, Endpoint, Outcome, PickContext, View,
    appraisal::Rules,
    gauge::{self, Gauge},
    homes::{self, Homes},
    rng::{GOLDEN, Rng, SharedRng, mix},
};

/// The endpoint that a key prefers, unless it has more than its share of calls in flight (rendezvous hashing, with bounds as
/// in Mirrokni, Thorup, Zadimoghaddam, SODA 2018).
///
/// For servers that keep something about a key, such as a cache, and keys of which some are far more wanted than others. An
/// endpoint that comes takes over its share of the keys and no others move; those of one that goes, fails or is marked
/// spread over the rest. All clients with the same endpoints agree, whatever their seed. Keys are shared by weight.
///
/// An endpoint is full when it has 1.25 times the mean of calls in flight for its weight, rounded up, and two more: then the
/// key goes to the next of its preferences. Full and failed ones are passed over for up to 16 preferences; then, and for calls
/// without a key, it is [`PowerOfTwo`](crate::PowerOfTwo).
///
/// What is approximate: keys are sorted into 65,536 parts that move as one, and the mean is at most 32 picks of a thread
/// old, taken from 32 endpoints if there are more.
///
/// A pick takes constant time once the first key of its part has come, which looks at all endpoints; the table takes 512 KiB.
/// Needs [`PickContext::with_key`] and `rebuild`; without `rebuild`, and with more than 65,534 endpoints, every pick looks at
/// all.
#[derive(Debug)]
pub struct Rendezvous {
    /// `None` until it is rebuilt for a view.
    homes: Option<Homes>,
    bound: f32,
    /// Calls in flight for a weight of 1.
    mean: Gauge,
    rng: SharedRng,
    rules: Rules,
}

impl Rendezvous {
    /// Homes depend on the keys and the ids alone; `seed` is for calls without a key.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            homes: None,
            bound: BOUND,
            mean: Gauge::new(),
            rng: SharedRng::seeded(seed),
            rules: Rules::by_load(),
        }
    }

    /// How many times the mean of calls in flight an endpoint may have before keys go to the next; at least 1. Default
    /// 1.25; infinity for no bound.
    #[must_use]
    pub const fn with_bound(mut self, bound: f32) -> Self {
        self.bound = bound.max(1.0);
        self
    }

    fn home(&self, view: &View, cx: &PickContext<'_>, key: u64, rng: &mut Rng) -> Option<usize> {
        let mean = self.mean.read(gauge::period(view), || mean(view, rng));
        // Of an idle view, without a bound, it is 0 times infinity, which is no number: it keeps nobody out.
        let is_full = |endpoint: &Endpoint| {
            let share = mean * endpoint.weight();
            endpoint.in_flight() as f32 >= (self.bound * share).ceil() + SLACK
        };
        let has_room = |endpoint: &Endpoint| {
            cx.allows(endpoint) && !is_full(endpoint) && !endpoint.is_held(cx.now())
        };
        let Some(homes) = self.homes.as_ref().filter(|homes| homes.fits(view)) else {
            return homes::scan(view, key, has_room);
        };
        let mut key = key;
        for _ in 0..HOMES {
            if let Some(index) = homes.of(key).find(|&index| has_room(&view[index])) {
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
        let home = match cx.key() {
            Some(key) if !view.is_empty() => self.home(view, cx, key, &mut rng),
            _ => None,
        };
        home.or_else(|| self.rules.best_of_few(view, cx, &mut rng))
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.rules.note(&view[index], outcome);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            homes: Some(Homes::new(view)),
            bound: self.bound,
            rules: self.rules,
            ..Self::seeded(self.rng.next())
        }))
    }
}

fn mean(view: &View, rng: &mut Rng) -> f32 {
    let picked = gauge::sample(view, rng).filter(|one| one.marks().is_empty());
    let (calls, weight) = picked.fold((0.0, 0.0), |(calls, weight), one| {
        (calls + one.in_flight() as f32, weight + one.weight())
    });
    // Where all are marked there is none, and no bound.
    calls / weight
}

const BOUND: f32 = 1.25;
/// Beyond the bound, so that a few calls at the same time do not drive a key from its home.
const SLACK: f32 = 2.0;
const HOMES: usize = 4;
