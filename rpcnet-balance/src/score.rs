//! Score of an endpoint: backoff, latency, silence and load, compared between a few random choices.

use std::time::Duration;

use crate::{
    Endpoint, Outcome, PickContext, SuccessBatch, Time, View,
    latency::{Decay, LATENCY_DECAY, LatencyReading, NOISE_FACTOR, NOISE_NANOS},
    rng::Rng,
    sample,
};

/// Scorer of endpoints: how they are compared, and what is recorded of outcomes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scorer {
    pub(crate) decay: Decay,
    /// The backoff after the first failure.
    pub(crate) failure_backoff: Duration,
    /// Whether the latency is compared, or the number of calls in flight alone.
    pub(crate) by_latency: bool,
    /// The number of endpoints that are drawn and compared, at least 2.
    pub(crate) choices: u32,
}

/// Score of an endpoint at the time of a pick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score {
    /// Whether the endpoint is in backoff.
    pub(crate) in_backoff: bool,
    /// The recorded latency.
    latency: LatencyReading,
    /// Nanoseconds without any reply to the calls in flight, scaled to a typical call.
    silence: f32,
    /// Calls in flight including the next one, multiplied for endpoints that are slow or busy.
    load: f32,
    pub(crate) weight: f32,
}

impl Scorer {
    pub(crate) fn by_load() -> Self {
        Self {
            by_latency: false,
            choices: 2,
            ..Self::by_latency()
        }
    }

    pub(crate) fn by_latency() -> Self {
        Self {
            decay: Decay::over(LATENCY_DECAY),
            failure_backoff: FAILURE_BACKOFF,
            by_latency: true,
            choices: CHOICES,
        }
    }

    #[inline]
    pub(crate) fn score(&self, endpoint: &Endpoint, now: Option<Time>) -> Score {
        let in_flight = endpoint.in_flight();
        let mut load = in_flight as f32 + 1.0;
        if endpoint.is_slow() {
            load *= SLOW_FACTOR;
        }
        if endpoint.is_busy(now) {
            load *= BUSY_FACTOR;
        }
        let (latency, silence) = if self.by_latency {
            (
                endpoint.latency_reading(now, self.decay),
                endpoint.silence_nanos(now, in_flight) as i64 as f32,
            )
        } else {
            (LatencyReading::NONE, 0.0)
        };
        Score {
            in_backoff: endpoint.in_backoff(now),
            latency,
            silence,
            load,
            weight: endpoint.weight(),
        }
    }

    /// The best of a few endpoints that are drawn at random.
    #[inline]
    pub(crate) fn best_of_choices(
        &self,
        view: &View,
        cx: &PickContext<'_>,
        rng: &mut Rng,
    ) -> Option<usize> {
        let (mut first, second) = sample::pair(view, cx, rng)?;
        if first == second {
            return Some(first);
        }
        let (mut a, b) = (
            self.score(&view[first], cx.now()),
            self.score(&view[second], cx.now()),
        );
        for _ in 3..self.choices {
            if let Some(more) = sample::another(view, cx, rng) {
                let c = self.score(&view[more], cx.now());
                (first, a) = if c.beats(&a) { (more, c) } else { (first, a) };
            }
        }
        let second_wins = b.beats(&a);
        // Both sides are computed: a branch predictor could not guess which one wins.
        let mut picked = if second_wins { second } else { first };
        let mut is_degraded_pick =
            (second_wins & b.is_degraded()) | (!second_wins & a.is_degraded());
        let mut third_wins = false;
        let mut c = a;
        if self.choices > 2 {
            let third = sample::another(view, cx, rng).unwrap_or(first);
            c = self.score(&view[third], cx.now());
            third_wins = (second_wins & c.beats(&b)) | (!second_wins & c.beats(&a));
            picked = if third_wins { third } else { picked };
            is_degraded_pick = (third_wins & c.is_degraded()) | (!third_wins & is_degraded_pick);
        }
        if is_degraded_pick {
            let two = if second_wins { b } else { a };
            let best = (picked, if third_wins { c } else { two });
            return Some(self.redraw(view, cx, rng, best));
        }
        Some(picked)
    }

    /// Draws more endpoints, because all that were drawn are degraded.
    #[cold]
    pub(crate) fn redraw(
        &self,
        view: &View,
        cx: &PickContext<'_>,
        rng: &mut Rng,
        (mut picked, mut best): (usize, Score),
    ) -> usize {
        for _ in 0..REDRAWS_MAX {
            let Some(other) = sample::another(view, cx, rng) else {
                continue;
            };
            let score = self.score(&view[other], cx.now());
            if score.beats(&best) {
                (picked, best) = (other, score);
            }
            if !best.is_degraded() {
                break;
            }
        }
        picked
    }

    pub(crate) fn on_outcome(&self, endpoint: &Endpoint, outcome: &Outcome) {
        endpoint.on_outcome(outcome, self.decay, self.failure_backoff);
    }

    pub(crate) fn on_successes(&self, endpoint: &Endpoint, batch: &SuccessBatch) {
        endpoint.on_successes(batch, self.decay);
    }
}

impl Score {
    /// Whether this endpoint is better than `other`.
    ///
    /// An unknown latency is assumed to be that of the other endpoint, so that a new endpoint is
    /// compared by its calls in flight alone: it neither starves nor is flooded. For the same
    /// reason a latency that decays because nothing new is known decays no further than to the
    /// other one's, and a latency known from a single reply is at most the other one's.
    ///
    /// Latencies within [`NOISE_FACTOR`] of each other are equal: calls to one and the same server
    /// differ as much. If two endpoints are equal in everything, neither is better: the first one
    /// drawn is picked, which is random.
    #[inline]
    pub(crate) fn beats(&self, other: &Self) -> bool {
        let (mine, its) = (
            self.comparable_latency(other),
            other.comparable_latency(self),
        );
        let equal =
            (mine <= its * NOISE_FACTOR + NOISE_NANOS) & (its <= mine * NOISE_FACTOR + NOISE_NANOS);
        let mine = if equal { its } else { mine };
        let cheaper = mine * self.load * other.weight < its * other.load * self.weight;
        (!self.in_backoff & other.in_backoff) | ((self.in_backoff == other.in_backoff) & cheaper)
    }

    /// Latency in nanoseconds that is compared with that of `other`.
    #[inline]
    fn comparable_latency(&self, other: &Self) -> f32 {
        let (own, its) = (&self.latency, other.latency.decayed);
        let decayed_latency = own.decayed.max(own.recorded.min(its));
        let unknown = own.recorded == 0.0;
        let at_most_its = own.is_provisional & (other.latency.recorded > 0.0);
        let latency = if unknown | (at_most_its & (its < decayed_latency)) {
            its
        } else {
            decayed_latency
        };
        latency.max(self.silence).max(LATENCY_NANOS_MIN)
    }

    #[inline]
    pub(crate) fn is_degraded(&self) -> bool {
        let usual = self.latency.decayed.max(DEGRADED_LATENCY_NANOS_MIN);
        self.in_backoff | (self.silence > DEGRADED_SILENCE_FACTOR * usual)
    }
}

/// Default number of endpoints that are drawn: with one more than two, it is much rarer that all
/// are slow, cold or busy.
const CHOICES: u32 = 3;

/// Backoff after the first failure: short, as one failure among many replies proves little.
pub(crate) const FAILURE_BACKOFF: Duration = Duration::from_millis(100);

/// An endpoint that is slow or busy is compared as if it had this many times the calls.
const SLOW_FACTOR: f32 = 2.0;
const BUSY_FACTOR: f32 = 4.0;

/// A silence of this many times the latency, and of at least a millisecond, makes an endpoint
/// degraded.
const DEGRADED_SILENCE_FACTOR: f32 = 8.0;
const DEGRADED_LATENCY_NANOS_MIN: f32 = 1e6;

/// Lower bound of a latency: the calls in flight decide where no latency is known.
const LATENCY_NANOS_MIN: f32 = 1.0;

const REDRAWS_MAX: usize = 6;
