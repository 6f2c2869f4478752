//! In proportion to weights.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    Balancer, PickContext, View,
    draws::{self, Draws},
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
    draws: Option<Draws>,
    /// The golden section walks over all numbers with hardly a cluster or a gap, so each weight gets its share of any few
    /// picks (Weyl's sequence). Zero until a thread picks.
    turns: Stripes<AtomicU64>,
    rng: SharedRng,
}

impl Weighted {
    /// Starts at a place drawn from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            draws: None,
            turns: Stripes::new(|| AtomicU64::new(0)),
            rng: SharedRng::seeded(seed),
        }
    }

    fn turn(&self) -> u64 {
        let mine = self.turns.mine();
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
        if let Some(draws) = self.draws.as_ref().filter(|draws| draws.fits(view)) {
            let first = draws.at(self.turn());
            if cx.allows(&view[first]) {
                return Some(first);
            }
            // Further draws by chance, lest the next in the walk inherits all the turns.
            let mut rng = self.rng.fork();
            for _ in 0..TRIES {
                let index = draws.at(rng.next());
                if cx.allows(&view[index]) {
                    return Some(index);
                }
            }
        }
        by_weight(view, cx, &mut self.rng.fork())
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            draws: Some(Draws::new(view)),
            ..Self::seeded(self.rng.next())
        }))
    }
}

fn by_weight(view: &View, cx: &PickContext<'_>, rng: &mut Rng) -> Option<usize> {
    draws::scan(view.len(), rng, |index| {
        cx.allows(&view[index]).then(|| view[index].weight())
    })
}

const TRIES: usize = 8;
