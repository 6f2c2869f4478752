//! Scores of an endpoint: backoff, load, latency and silence, to compare a few random choices by.

use std::{hint::select_unpredictable, time::Duration};

use crate::{
    Endpoint, Outcome, PickContext, SuccessBatch, Time, View,
    choices::{self, Contender, Criterion},
    endpoint_state::Traits,
    latency::{Decay, LATENCY_DECAY, NOISE_FACTOR, NOISE_NANOS},
    latency_estimate::LatencyEstimate,
    rng::Rng,
    time,
};

/// Scorer of endpoints: how they are compared, and what is recorded of outcomes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scorer {
    pub(crate) decay: Decay,
    /// The backoff after the first failure.
    pub(crate) failure_backoff: Duration,
}

impl Scorer {
    pub(crate) fn new() -> Self {
        Self {
            decay: Decay::over(LATENCY_DECAY),
            failure_backoff: FAILURE_BACKOFF,
        }
    }

    /// The criterion of latency and load at the time of a pick.
    #[inline]
    pub(crate) const fn at(&self, now: Option<Time>) -> ByLatency {
        let decay = self.decay;
        ByLatency { decay, now }
    }

    pub(crate) fn on_outcome(&self, endpoint: &Endpoint, outcome: &Outcome) {
        endpoint.on_outcome(outcome, self.decay, self.failure_backoff);
    }

    pub(crate) fn on_successes(&self, endpoint: &Endpoint, batch: &SuccessBatch) {
        endpoint.on_successes(batch, self.decay);
    }
}

/// Criterion of latency and load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByLatency {
    decay: Decay,
    now: Option<Time>,
}

impl Criterion for ByLatency {
    type Any = Score<false>;
    type Ordinary = Score<true>;

    const RARE: Traits = Traits::ALL;

    #[inline(always)]
    fn ordinary(&self, endpoint: &Endpoint) -> Score<true> {
        let (in_flight, now) = (endpoint.in_flight(), time::age_reference(self.now));
        let silence = endpoint.typical_silence_nanos(now, in_flight);
        let latency = endpoint.latency_estimate(now, self.decay);
        let load = LoadScore::ordinary(endpoint, in_flight);
        Score::new(load, latency, silence)
    }

    #[inline]
    fn any(&self, endpoint: &Endpoint) -> Score<false> {
        let (in_flight, now) = (endpoint.in_flight(), time::age_reference(self.now));
        let silence = endpoint.silence_nanos(self.now, in_flight);
        let latency = endpoint.latency_estimate(now, self.decay).or_unknown();
        let load = LoadScore::any(endpoint, in_flight, self.now);
        Score::new(load, latency, silence)
    }
}

/// Criterion of the calls in flight alone.
#[derive(Debug, Clone, Copy)]
struct ByLoad {
    now: Option<Time>,
}

impl Criterion for ByLoad {
    type Any = LoadScore;
    type Ordinary = LoadScore;

    const RARE: Traits = Traits::OF_LOAD;

    #[inline(always)]
    fn ordinary(&self, endpoint: &Endpoint) -> LoadScore {
        LoadScore::ordinary(endpoint, endpoint.in_flight())
    }

    #[inline]
    fn any(&self, endpoint: &Endpoint) -> LoadScore {
        LoadScore::any(endpoint, endpoint.in_flight(), self.now)
    }
}

/// Score by the calls in flight alone, at the time of a pick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadScore {
    /// Whether the endpoint is in backoff.
    in_backoff: bool,
    /// The calls in flight including the next one, multiplied for endpoints that are slow or busy.
    calls: u64,
    /// The bits of the weight, an `f32`. To choose integers takes fewer instructions.
    weight: u32,
}

/// Score by latency and load, at the time of a pick. `KNOWN`: both endpoints had a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score<const KNOWN: bool> {
    load: LoadScore,
    /// The recorded latency, and at least the silence.
    latency: LatencyEstimate,
    /// Nanoseconds without any reply to the calls in flight, scaled to a typical call.
    silence: u64,
}

impl<const KNOWN: bool> Score<KNOWN> {
    #[inline(always)]
    fn new(load: LoadScore, latency: LatencyEstimate, silence: u64) -> Self {
        Self {
            load,
            // Signed numbers become floats in one instruction.
            latency: latency.at_least(silence as i64 as f32),
            silence,
        }
    }

    /// The score; if `condition` holds, that of an endpoint that is worse than any for which it
    /// does not, and is compared with others by these calls.
    #[inline(always)]
    pub(crate) fn worst_if(mut self, condition: bool, calls: u32) -> Self {
        self.latency = self.latency.worst_if(condition);
        self.load.calls = select_unpredictable(condition, calls.into(), self.load.calls);
        self
    }

    /// The bits of the nanoseconds to compare with those of `other`.
    #[inline(always)]
    fn latency_next_to(&self, other: &Self) -> u32 {
        if KNOWN {
            self.latency.next_to_known(&other.latency)
        } else {
            self.latency.next_to(&other.latency)
        }
    }
}

impl LoadScore {
    /// The score of an endpoint that is not slow, not busy and not in backoff.
    #[inline(always)]
    fn ordinary(endpoint: &Endpoint, in_flight: u32) -> Self {
        Self {
            in_backoff: false,
            calls: u64::from(in_flight) + 1,
            weight: endpoint.weight().to_bits(),
        }
    }

    /// The score of an endpoint with this number of calls in flight.
    #[inline]
    fn any(endpoint: &Endpoint, in_flight: u32, now: Option<Time>) -> Self {
        let score = Self::ordinary(endpoint, in_flight);
        if !endpoint.state().has_any(Traits::OF_LOAD) {
            return score;
        }
        Self {
            in_backoff: endpoint.in_backoff(now),
            calls: score.calls * load_factor(endpoint, now),
            ..score
        }
    }

    #[inline(always)]
    const fn weight(&self) -> f32 {
        f32::from_bits(self.weight)
    }

    /// The calls, with a factor that makes them comparable with those of `other`, for their
    /// weights.
    #[inline(always)]
    fn weighted(&self, other: &Self) -> f32 {
        // Signed numbers become floats in one instruction.
        self.calls as i64 as f32 * other.weight()
    }
}

impl Contender for LoadScore {
    #[inline(always)]
    fn beats(&self, other: &Self) -> bool {
        if self.in_backoff != other.in_backoff {
            return other.in_backoff;
        }
        self.weighted(other) < other.weighted(self)
    }

    #[inline(always)]
    fn is_degraded(&self) -> bool {
        self.in_backoff
    }

    #[inline(always)]
    fn select(condition: bool, yes: Self, no: Self) -> Self {
        Self {
            in_backoff: select_unpredictable(condition, yes.in_backoff, no.in_backoff),
            calls: select_unpredictable(condition, yes.calls, no.calls),
            weight: select_unpredictable(condition, yes.weight, no.weight),
        }
    }
}

impl<const KNOWN: bool> Contender for Score<KNOWN> {
    /// Whether this endpoint is better than `other`.
    ///
    /// An unknown latency is assumed to be that of the other endpoint, so that a new endpoint is
    /// compared by its calls in flight alone: it neither starves nor is flooded. For the same
    /// reason a latency that decays because nothing new is known decays no further than to the
    /// other one's, and a latency known from a single reply is at most the other one's.
    ///
    /// Latencies within [`NOISE_FACTOR`] of each other are equal: calls to one and the same server
    /// differ as much.
    #[inline(always)]
    fn beats(&self, other: &Self) -> bool {
        if self.load.in_backoff != other.load.in_backoff {
            return other.load.in_backoff;
        }
        let mine = self.latency_next_to(other);
        let its = other.latency_next_to(self);
        let (low, high) = (mine.min(its), mine.max(its));
        let are_equal = f32::from_bits(high) <= f32::from_bits(low) * NOISE_FACTOR + NOISE_NANOS;
        let mine = select_unpredictable(are_equal, its, mine);
        f32::from_bits(mine) * self.load.weighted(&other.load)
            < f32::from_bits(its) * other.load.weighted(&self.load)
    }

    #[inline(always)]
    fn is_degraded(&self) -> bool {
        let usual = || DEGRADED_SILENCE_FACTOR * self.latency.decayed_nanos();
        self.load.in_backoff
            || (self.silence > DEGRADED_SILENCE_NANOS_MIN && self.silence as f32 > usual())
    }

    #[inline(always)]
    fn select(condition: bool, yes: Self, no: Self) -> Self {
        Self {
            load: LoadScore::select(condition, yes.load, no.load),
            latency: LatencyEstimate::select(condition, yes.latency, no.latency),
            silence: select_unpredictable(condition, yes.silence, no.silence),
        }
    }
}

/// The less loaded of two random endpoints.
#[inline]
pub(crate) fn less_loaded(view: &View, cx: &PickContext<'_>, rng: &mut Rng) -> Option<usize> {
    choices::best_of::<2, _>(view, cx, rng, 0, &ByLoad { now: cx.now() })
}

/// By how much an endpoint that is slow or busy is loaded more than its calls say.
#[cold]
fn load_factor(endpoint: &Endpoint, now: Option<Time>) -> u64 {
    let slow = if endpoint.is_slow() { SLOW_FACTOR } else { 1 };
    let busy = if endpoint.is_busy(now) {
        BUSY_FACTOR
    } else {
        1
    };
    slow * busy
}

/// Backoff after the first failure: short, as one failure among many replies proves little.
pub(crate) const FAILURE_BACKOFF: Duration = Duration::from_millis(100);

/// An endpoint that is slow or busy is compared as if it had this many times the calls.
const SLOW_FACTOR: u64 = 2;
const BUSY_FACTOR: u64 = 4;

/// A silence of this many times the latency, and of at least as many milliseconds, makes an
/// endpoint degraded.
const DEGRADED_SILENCE_FACTOR: f32 = 8.0;
const DEGRADED_SILENCE_NANOS_MIN: u64 = DEGRADED_SILENCE_FACTOR as u64 * 1_000_000;

#[cfg(test)]
mod tests;
