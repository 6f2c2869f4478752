//! Weighted choice by weight and reported load.

use std::sync::Arc;

use crate::{
    Balancer, Endpoint, Outcome, PickContext, SuccessBatch, Time, View,
    alias_table::{self, AliasTable},
    rng::{Rng, SharedRng, unit_f32},
    score::Scorer,
};

/// Weighted choice by load: two endpoints drawn in proportion to [`Endpoint::weight`], and one of
/// them at random, in inverse proportion to the calls that they report for their weight.
///
/// For when it is enough that busier endpoints get fewer calls: shares change smoothly with the
/// reports, so clients do not herd to the one that has just reported to be idle, and no endpoint
/// gets more than twice the share of its weight, whatever it reports.
///
/// A report counts for a second; an endpoint without one is assumed to be as loaded as the other.
/// An endpoint that [is busy](Endpoint::is_busy) counts as four times as loaded, one in backoff
/// gets hardly any calls.
///
/// A pick takes constant time, with a table that `rebuild` makes of the weights; without `rebuild`
/// it looks at all endpoints. Needs reports with their time: [`Endpoint::set_reported_load_at`].
#[derive(Debug)]
pub struct WeightedByLoad {
    /// `None` until it is rebuilt for a view.
    table: Option<AliasTable>,
    rng: SharedRng,
    scorer: Scorer,
}

impl WeightedByLoad {
    /// A balancer that draws from a random sequence of `seed`, which can be repeated as long as one
    /// thread picks.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            table: None,
            rng: SharedRng::seeded(seed),
            scorer: Scorer::new(),
        }
    }
}

impl Balancer for WeightedByLoad {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let mut rng = self.rng.fork();
        let now = cx.now();
        if let Some(table) = self.table.as_ref().filter(|table| table.is_for(view))
            && let Some((first, second)) = draw_pair(view, cx, table, &mut rng)
        {
            let (a, b) = (load(&view[first], now), load(&view[second], now));
            // An endpoint without a report is assumed to be as loaded as the other.
            let (mine, its) = (a.or(b).unwrap_or(1.0), b.or(a).unwrap_or(1.0));
            let (mine, its) = (
                mine * load_factor(&view[first], now),
                its * load_factor(&view[second], now),
            );
            let is_second = unit_f32(rng.next()) * (mine + its) < mine;
            return Some(if is_second { second } else { first });
        }
        alias_table::scan_by_weight(view.len(), &mut rng, |index| {
            let endpoint = &view[index];
            let weight = endpoint.weight()
                / (load(endpoint, now).unwrap_or(1.0) * load_factor(endpoint, now));
            cx.allows(endpoint).then_some(weight)
        })
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.scorer.on_outcome(&view[index], outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        self.scorer.on_successes(&view[index], batch);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            table: Some(AliasTable::new(view)),
            scorer: self.scorer,
            ..Self::seeded(self.rng.next())
        }))
    }
}

/// Two endpoints drawn by weight, maybe twice the same; `None` if the draws find none that is
/// allowed.
#[inline]
fn draw_pair(
    view: &View,
    cx: &PickContext<'_>,
    table: &AliasTable,
    rng: &mut Rng,
) -> Option<(usize, usize)> {
    if view.is_empty() {
        return None;
    }
    let (first, second) = (table.endpoint_at(rng.next()), table.endpoint_at(rng.next()));
    match (cx.allows(&view[first]), cx.allows(&view[second])) {
        (true, true) => Some((first, second)),
        (true, false) => Some((first, first)),
        (false, true) => Some((second, second)),
        (false, false) => {
            let mut more = (0..DRAWS_MAX).map(|_| table.endpoint_at(rng.next()));
            more.find(|&index| cx.allows(&view[index]))
                .map(|index| (index, index))
        }
    }
}

/// Calls for its weight, including the next one; `None` without a recent report.
#[inline]
fn load(endpoint: &Endpoint, now: Option<Time>) -> Option<f32> {
    Some((endpoint.recent_calls(now)? as f32 + 1.0) / endpoint.weight())
}

/// Factor of the load for an endpoint that is busy or in backoff.
#[inline]
fn load_factor(endpoint: &Endpoint, now: Option<Time>) -> f32 {
    let busy = if endpoint.is_busy(now) {
        BUSY_FACTOR
    } else {
        1.0
    };
    let backoff = if endpoint.in_backoff(now) {
        BACKOFF_FACTOR
    } else {
        1.0
    };
    busy * backoff
}

const BUSY_FACTOR: f32 = 4.0;
const BACKOFF_FACTOR: f32 = 1000.0;
const DRAWS_MAX: usize = 8;
