//! Prequal: hot and cold endpoints by reported load.

use std::{sync::Arc, time::Duration};

use crate::{
    Balancer, Endpoint, Outcome, PickContext, SuccessBatch, Time, View,
    choices::{self, Criterion},
    endpoint_state::Traits,
    gauge::{self, SAMPLE_MAX, SampledGauge},
    latency::Decay,
    rng::{Rng, SharedRng},
    score::{ByLatency, Score, Scorer},
};

/// Prequal (the rule of Wydrowski et al., NSDI 2024): the fastest of some endpoints that are not
/// hot, by the load that they report.
///
/// For many clients with few calls each, and servers whose speed changes with their neighbours: a
/// client sees only its own calls, the reports include those of all clients.
///
/// Three endpoints are drawn. An endpoint is hot if it serves more calls, for its weight, than 84
/// in 100 endpoints do. Of the cold ones it picks the one that [`PeakEwma`](crate::PeakEwma) would
/// prefer; if all are hot, the one with the fewest calls. An endpoint without a report within the
/// last second counts as cold; if no endpoint reports, this is `PeakEwma`.
///
/// It differs from the paper in that no probes are sent: the pool is the last report of every
/// endpoint, which comes with replies, and the latency is what this client measured. Instead of
/// charging a probe for its use, the calls of this process count if they are more than reported.
///
/// A pick takes constant time and reads one cache line of each of the three; every 128th pick of a
/// thread looks at 32 more to find the threshold. Needs what `PeakEwma` needs, and reports with
/// their time: [`Endpoint::set_reported_load_at`].
#[derive(Debug)]
pub struct Prequal {
    rng: SharedRng,
    scorer: Scorer,
    /// The number of calls above which an endpoint is hot.
    hot_threshold: SampledGauge,
    hot_quantile: f32,
}

impl Prequal {
    /// A balancer that draws from a random sequence of `seed`, which can be repeated as long as one
    /// thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: SharedRng::seeded(seed),
            scorer: Scorer::new(),
            hot_threshold: SampledGauge::new(),
            hot_quantile: HOT_QUANTILE,
        }
    }

    /// Sets the quantile of the number of calls above which an endpoint is hot, from 0 to 1; NaN
    /// counts as the default, 0.84.
    #[must_use]
    pub const fn with_hot_quantile(mut self, quantile: f32) -> Self {
        self.hot_quantile = if quantile.is_nan() {
            HOT_QUANTILE
        } else {
            quantile.clamp(0.0, 1.0)
        };
        self
    }

    /// Sets the time in which a measured latency decays to 1/e. Default 10 s.
    #[must_use]
    pub fn with_decay(mut self, decay: Duration) -> Self {
        self.scorer.decay = Decay::over(decay);
        self
    }

    /// Sets the backoff after the first failure. Default 100 ms.
    #[must_use]
    pub const fn with_failure_backoff(mut self, first: Duration) -> Self {
        self.scorer.failure_backoff = first;
        self
    }
}

impl Balancer for Prequal {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let (mut rng, now) = (self.rng.fork(), cx.now());
        let hot_threshold = self.hot_threshold.read(REFRESH_PERIOD, || {
            hot_threshold(view, now, self.hot_quantile, &mut rng)
        });
        let by_latency = self.scorer.at(now);
        if hot_threshold == f32::INFINITY {
            // No endpoint is hot.
            return choices::best_of::<3, _>(view, cx, &mut rng, 0, &by_latency);
        }
        let criterion = ByReports {
            by_latency,
            hot_threshold,
            now,
        };
        choices::best_of::<3, _>(view, cx, &mut rng, 0, &criterion)
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.scorer.on_outcome(&view[index], outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        self.scorer.on_successes(&view[index], batch);
    }

    fn rebuild(&self, _view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            scorer: self.scorer,
            hot_quantile: self.hot_quantile,
            ..Self::seeded(self.rng.next())
        }))
    }
}

/// Criterion of reported loads, latency and load.
struct ByReports {
    by_latency: ByLatency,
    /// The number of calls above which an endpoint is hot.
    hot_threshold: f32,
    now: Option<Time>,
}

impl ByReports {
    /// The score, compared by reported calls alone if the endpoint is hot.
    #[inline(always)]
    fn with_reported<const KNOWN: bool>(
        &self,
        endpoint: &Endpoint,
        score: Score<KNOWN>,
    ) -> Score<KNOWN> {
        // An endpoint without a recent report counts as cold, so that it is called and reports
        // again.
        let calls = endpoint.recent_calls(self.now).unwrap_or(0);
        let is_hot = calls as f32 > self.hot_threshold * endpoint.weight();
        score.worst_if(is_hot, calls)
    }
}

impl Criterion for ByReports {
    type Any = Score<false>;
    type Ordinary = Score<true>;

    const RARE: Traits = ByLatency::RARE;

    #[inline(always)]
    fn ordinary(&self, endpoint: &Endpoint) -> Score<true> {
        self.with_reported(endpoint, self.by_latency.ordinary(endpoint))
    }

    #[inline]
    fn any(&self, endpoint: &Endpoint) -> Score<false> {
        self.with_reported(endpoint, self.by_latency.any(endpoint))
    }
}

/// The quantile of the number of calls over a sample of the endpoints; without reports no endpoint
/// is hot.
#[cold]
#[inline(never)]
fn hot_threshold(view: &View, now: Option<Time>, quantile: f32, rng: &mut Rng) -> f32 {
    // The bits of numbers that are not negative have their order, and are faster to sort.
    let (mut sorted, mut len) = ([0; SAMPLE_MAX], 0);
    for endpoint in gauge::sample(view, rng) {
        if let Some(calls) = endpoint.recent_calls(now) {
            sorted[len] = (calls as f32 / endpoint.weight()).to_bits();
            len += 1;
        }
    }
    let rank = (quantile * len as f32) as usize;
    if rank >= len {
        return f32::INFINITY;
    }
    f32::from_bits(*sorted[..len].select_nth_unstable(rank).1)
}

const HOT_QUANTILE: f32 = 0.84;
/// The threshold moves slowly: it is measured again after this many picks.
const REFRESH_PERIOD: usize = 128;
