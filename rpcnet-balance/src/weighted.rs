//! In proportion to weights.

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

/// Calls in proportion to [`Endpoint::weight`](crate::Endpoint::weight), spread as evenly as turns.
///
/// For servers of different size whose calls cost about the same, when nothing is to be measured. Blind to load, as
/// [`RoundRobin`](crate::RoundRobin), which it becomes when all weights are equal. A weight that changes counts from the
/// next [`rebuild`](Balancer::rebuild) on.
///
/// A pick takes constant time: one look into a table that `rebuild` makes. Without `rebuild` it looks at all endpoints.
#[derive(Debug)]
pub struct Weighted {
    /// `None` until it is rebuilt for a view.
    table: Option<AliasTable>,
    /// The golden section walks over all numbers with hardly a cluster or a gap, so each weight gets its share of any few
    /// picks (Weyl's sequence). Zero until a thread picks.
    points: Stripes<AtomicU64>,
    rng: SharedRng,
}

impl Weighted {
    /// Starts at a place drawn from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            table: None,
            points: Stripes::new(|| AtomicU64::new(0)),
            rng: SharedRng::seeded(seed),
        }
    }

    fn next_point(&self) -> u64 {
        let mine = self.points.local();
        let mut turn = mine.load(Ordering::Relaxed);
        if turn == 0 {
            turn = self.rng.next();
        }
        mine.store(turn.wrapping_add(GOLDEN), Ordering::Relaxed);
        turn
    }
}

impl Balancer for Weighted {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        if view.is_empty() {
            return None;
        }
        if let Some(draws) = self.table.as_ref().filter(|draws| draws.is_for(view)) {
            let first = draws.endpoint_at(self.next_point());
            if cx.allows(&view[first]) {
                return Some(first);
            }
            // Further draws by chance, lest the next in the walk inherits all the turns.
            let mut rng = self.rng.fork();
            for _ in 0..DRAWS_MAX {
                let index = draws.endpoint_at(rng.next());
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
