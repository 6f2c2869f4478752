//! Locality tiers with spill-over.

use std::sync::Arc;

use crate::{
    Balancer, Endpoint, Outcome, PickContext, SuccessBatch, Time, View,
    balancer::rebuild_or_keep,
    gauge::{self, SampledGauge},
    rng::{SharedRng, unit_f32},
};

/// Locality tiers: prefers endpoints with a tag over others, and spills the calls that a tier
/// cannot take to the next one. Within a tier another balancer picks.
///
/// For servers in several zones or regions: near ones reply sooner and cost less.
///
/// ```
/// use std::sync::Arc;
/// use rpcnet_balance::{PeakEwma, Tiered};
///
/// // Same zone, then same region, then any.
/// let near = Tiered::new(Arc::new(PeakEwma::seeded(42)))
///     .prefer("zone", "eu-1")
///     .prefer("region", "eu");
/// # #[cfg(feature = "contract")]
/// # rpcnet_balance::contract::check(move |seed| {
/// #     Arc::new(Tiered::new(Arc::new(PeakEwma::seeded(seed))).prefer("zone", "eu-1"))
/// # });
/// ```
///
/// An endpoint is healthy if it is not [flagged](crate::Endpoint::flags),
/// [busy](crate::Endpoint::is_busy) or [in backoff](crate::Endpoint::in_backoff). A tier of which
/// less than half is healthy keeps a part of its calls, all at a half and none at zero, and spills
/// the rest; but only as long as a later tier is healthier. If no endpoint in a tier may be picked,
/// the next tier is used.
///
/// Adds a few reads to a pick; the health of a tier is measured again after as many picks of a
/// thread as it has endpoints, up to 32, and over 32 of them at most. Needs [`View::with_tags`] and
/// `rebuild`; without `rebuild` there is one tier.
#[derive(Debug)]
pub struct Tiered {
    inner: Arc<dyn Balancer>,
    preferred: Vec<Tag>,
    health_threshold: f32,
    /// Infinite unless it was set.
    load_ratio: f32,
    rng: SharedRng,
    /// `None` until it is rebuilt for a view.
    tiers: Option<Tiers>,
}

#[derive(Debug, Clone)]
struct Tag {
    key: String,
    value: String,
}

#[derive(Debug)]
struct Tiers {
    /// The best tier first, without empty ones.
    tiers: Box<[Tier]>,
    /// The tier and the index within it of each endpoint of the whole view.
    positions: Box<[(usize, usize)]>,
    generation: u64,
}

/// Tier of equally good endpoints.
#[derive(Debug)]
struct Tier {
    /// The number of preferences before this one.
    rank: usize,
    view: View,
    /// Indices of its endpoints in the whole view, in order.
    indices: Box<[usize]>,
    balancer: Arc<dyn Balancer>,
    health: SampledGauge,
    load: SampledGauge,
}

impl Tiered {
    /// A balancer with a single tier, within which `inner` picks.
    #[must_use]
    pub fn new(inner: Arc<dyn Balancer>) -> Self {
        Self {
            inner,
            preferred: Vec::new(),
            health_threshold: HEALTH_THRESHOLD,
            load_ratio: f32::INFINITY,
            rng: SharedRng::seeded(0),
            tiers: None,
        }
    }

    /// Adds a tier: prefers endpoints with this tag to those in none of the tiers so far.
    #[must_use]
    pub fn prefer(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.preferred.push(Tag {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// Sets the healthy fraction of a tier below which it spills, from 0 to 1. Default 0.5.
    #[must_use]
    pub const fn with_health_threshold(mut self, part: f32) -> Self {
        self.health_threshold = part.clamp(0.0, 1.0);
        self
    }

    /// Spills also when an endpoint of the tier has on average this many times the calls of one of
    /// the next tier; at least 1. Default off.
    #[must_use]
    pub const fn with_load_ratio(mut self, ratio: f32) -> Self {
        self.load_ratio = ratio.max(1.0);
        self
    }

    /// Whether a call skips `tier`, though the tier could take it.
    fn spills(&self, tier: &Tier, rest: &[Tier], now: Option<Time>) -> bool {
        let mut kept = 1.0_f32;
        let health = tier.health(now, &self.rng);
        if health < self.health_threshold {
            let elsewhere = rest.iter().map(|other| other.health(now, &self.rng));
            if elsewhere.fold(0.0, f32::max) > health {
                kept = health / self.health_threshold;
            }
        }
        if self.load_ratio.is_finite()
            && let Some(next) = rest.first()
        {
            kept = kept.min(self.load_ratio * next.load(&self.rng) / tier.load(&self.rng));
        }
        kept < 1.0 && unit_f32(self.rng.next()) >= kept
    }

    fn tiers(&self, view: &View) -> Option<&Tiers> {
        let fits = |tiers: &&Tiers| {
            tiers.positions.len() == view.len() && tiers.generation == view.generation()
        };
        self.tiers.as_ref().filter(fits)
    }

    /// The balancer that picks endpoint `index` of `view`, and its place there.
    fn responsible<'a>(
        &'a self,
        view: &'a View,
        index: usize,
    ) -> (&'a dyn Balancer, &'a View, usize) {
        let Some(tiers) = self.tiers(view) else {
            return (&*self.inner, view, index);
        };
        let (number, position) = tiers.positions[index];
        let tier = &tiers.tiers[number];
        (&*tier.balancer, &tier.view, position)
    }

    fn build_tiers(&self, view: &View) -> Tiers {
        let mut members = vec![Vec::new(); self.preferred.len() + 1];
        for index in 0..view.len() {
            let has = |tag: &Tag| view.tag(index, &tag.key) == Some(tag.value.as_str());
            let rank = self.preferred.iter().position(has);
            members[rank.unwrap_or(self.preferred.len())].push(index);
        }
        let before = |rank: usize| {
            let tiers = self.tiers.iter().flat_map(|tiers| &tiers.tiers);
            let mut same = tiers.filter(|tier| tier.rank == rank);
            same.next().map_or(&self.inner, |tier| &tier.balancer)
        };
        let filled = members
            .into_iter()
            .enumerate()
            .filter(|(_, indices)| !indices.is_empty());
        let tiers: Box<[Tier]> = filled
            .map(|(rank, indices)| {
                let part = view.subset(&indices);
                Tier {
                    rank,
                    balancer: rebuild_or_keep(before(rank), &part),
                    view: part,
                    indices: indices.into(),
                    health: SampledGauge::new(),
                    load: SampledGauge::new(),
                }
            })
            .collect();
        let mut positions = vec![(0, 0); view.len()];
        for (number, tier) in tiers.iter().enumerate() {
            for (position, &index) in tier.indices.iter().enumerate() {
                positions[index] = (number, position);
            }
        }
        Tiers {
            tiers,
            positions: positions.into(),
            generation: view.generation(),
        }
    }
}

impl Tier {
    fn pick(&self, cx: &PickContext<'_>) -> Option<usize> {
        let picked = self.balancer.pick(&self.view, cx)?;
        self.indices.get(picked).copied()
    }

    /// The fraction of endpoints that take calls and are not busy.
    fn health(&self, now: Option<Time>, rng: &SharedRng) -> f32 {
        self.health.read(gauge::refresh_period(&self.view), || {
            let sample = gauge::sample(&self.view, &mut rng.fork());
            let all = sample.clone().count() as f32;
            let is_well = |one: &&Endpoint| {
                one.flags().is_empty() && !one.is_busy(now) && !one.in_backoff(now)
            };
            sample.filter(is_well).count() as f32 / all
        })
    }

    /// The mean load of an endpoint of weight 1 including one more call.
    fn load(&self, rng: &SharedRng) -> f32 {
        self.load.read(gauge::refresh_period(&self.view), || {
            let sample = gauge::sample(&self.view, &mut rng.fork());
            let (calls, weight) = sample.fold((0.0, 0.0), |(calls, weight), one| {
                (calls + one.in_flight() as f32 + 1.0, weight + one.weight())
            });
            calls / weight
        })
    }
}

impl Balancer for Tiered {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let Some(Tiers { tiers, .. }) = self.tiers(view) else {
            return self.inner.pick(view, cx);
        };
        for (number, tier) in tiers.iter().enumerate() {
            let rest = &tiers[number + 1..];
            if !rest.is_empty() && self.spills(tier, rest, cx.now()) {
                continue;
            }
            if let Some(index) = tier.pick(cx) {
                return Some(index);
            }
        }
        // The tiers that were skipped are better than none.
        tiers.iter().find_map(|tier| tier.pick(cx))
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        let (balancer, view, index) = self.responsible(view, index);
        balancer.on_outcome(view, index, outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        let (balancer, view, index) = self.responsible(view, index);
        balancer.on_successes(view, index, batch);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            inner: rebuild_or_keep(&self.inner, view),
            preferred: self.preferred.clone(),
            health_threshold: self.health_threshold,
            load_ratio: self.load_ratio,
            rng: SharedRng::seeded(self.rng.next()),
            tiers: Some(self.build_tiers(view)),
        }))
    }
}

const HEALTH_THRESHOLD: f32 = 0.5;
