//! Weighted choice: calls in proportion to weights.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    Balancer, PickContext, View,
    alias_table::{self, AliasTable},
    rng::{GOLDEN, Rng, SharedRng},
    stripes::Stripes,
};

/// Weighted choice: calls in proportion to [`Endpoint::weight`](crate::Endpoint::weight), spread as
/// evenly as in round robin.
///
/// For servers of different size whose calls cost about the same, when nothing is measured. Blind
/// to load, as [`RoundRobin`](crate::RoundRobin), which it becomes when all weights are equal. A
/// changed weight counts from the next [`rebuild`](Balancer::rebuild) on.
///
/// A pick takes constant time: one look-up in a table that `rebuild` makes. Without `rebuild` it
/// looks at all endpoints.
#[derive(Debug)]
pub struct Weighted {
    /// `None` until it is rebuilt for a view.
    table: Option<AliasTable>,
    /// Steps of the golden ratio cover all numbers with hardly a cluster or a gap, so each weight
    /// gets its share of any few picks (Weyl's sequence). Zero until a thread picks.
    points: Stripes<AtomicU64>,
    rng: SharedRng,
}

impl Weighted {
    /// A balancer that starts at a point drawn from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            table: None,
            points: Stripes::new(|| AtomicU64::new(0)),
            rng: SharedRng::seeded(seed),
        }
    }

    fn next_point(&self) -> u64 {
        let cell = self.points.local();
        let mut point = cell.load(Ordering::Relaxed);
        if point == 0 {
            point = self.rng.next();
        }
        cell.store(point.wrapping_add(GOLDEN), Ordering::Relaxed);
        point
    }
}

impl Balancer for Weighted {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        if view.is_empty() {
            return None;
        }
        if let Some(table) = self.table.as_ref().filter(|table| table.is_for(view)) {
            let first = table.endpoint_at(self.next_point());
            if cx.allows(&view[first]) {
                return Some(first);
            }
            // Further draws are random, so that the next endpoint in the sequence does not inherit
            // all the turns.
            let mut rng = self.rng.fork();
            for _ in 0..DRAWS_MAX {
                let index = table.endpoint_at(rng.next());
                if cx.allows(&view[index]) {
                    return Some(index);
                }
            }
        }
        by_weight(view, cx, &mut self.rng.fork())
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            table: Some(AliasTable::new(view)),
            ..Self::seeded(self.rng.next())
        }))
    }
}

fn by_weight(view: &View, cx: &PickContext<'_>, rng: &mut Rng) -> Option<usize> {
    alias_table::scan_by_weight(view.len(), rng, |index| {
        cx.allows(&view[index]).then(|| view[index].weight())
    })
}

const DRAWS_MAX: usize = 8;
