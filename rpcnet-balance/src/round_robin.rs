//! Round robin: one endpoint after the other.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    Balancer, PickContext, View,
    rng::{SharedRng, below},
    stripes::Stripes,
};

/// Round robin: one endpoint after the other, from a random start; an excluded endpoint passes its
/// turn to the next.
///
/// Even in numbers, blind to load: good when all calls cost the same and all servers are alike. The
/// random start keeps many clients that start together from calling the same servers in step. Every
/// group of endpoints has an order of its own, so calls to one group do not skip turns of another;
/// and so has every thread. Ignores weights, unlike [`Weighted`](crate::Weighted).
///
/// A pick takes constant time, plus a step for each endpoint that it skips.
#[derive(Debug)]
pub struct RoundRobin {
    /// The turn of each thread; [`UNSET`] until its first pick.
    turns: Stripes<AtomicUsize>,
    start_rng: SharedRng,
}

impl RoundRobin {
    /// A balancer that starts at an endpoint drawn from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            turns: Stripes::new(|| AtomicUsize::new(UNSET)),
            start_rng: SharedRng::seeded(seed),
        }
    }

    /// Halved, so that the counter is far from wrapping around, which would break the order once.
    #[cold]
    fn start(&self) -> usize {
        below(self.start_rng.next(), usize::MAX / 2)
    }
}

impl Balancer for RoundRobin {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let len = view.len();
        if len == 0 {
            return None;
        }
        let turn = self.turns.local();
        if turn.load(Ordering::Relaxed) == UNSET {
            turn.store(self.start(), Ordering::Relaxed);
        }
        let first = turn.fetch_add(1, Ordering::Relaxed) % len;
        (first..len)
            .chain(0..first)
            .find(|&index| cx.allows(&view[index]))
    }

    fn rebuild(&self, _view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self::seeded(self.start_rng.next())))
    }
}

const UNSET: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    fn view(len: u64) -> View {
        View::new((0..len).map(|id| Arc::new(Endpoint::new(id))), 1)
    }

    #[test]
    fn endpoints_are_picked_in_order() {
        let (balancer, view) = (RoundRobin::seeded(3), view(5));
        let first = balancer.pick(&view, &PickContext::new()).unwrap();
        for step in 1..20 {
            assert_eq!(
                balancer.pick(&view, &PickContext::new()),
                Some((first + step) % 5)
            );
        }
    }

    #[test]
    fn the_start_depends_on_the_seed() {
        let view = view(1000);
        let start = |seed| RoundRobin::seeded(seed).pick(&view, &PickContext::new());
        assert_eq!(start(1), start(1));
        assert!((2..10).any(|seed| start(seed) != start(1)));
    }

    #[test]
    fn each_group_has_an_order_of_its_own() {
        let (root, view) = (RoundRobin::seeded(3), view(4));
        let (a, b) = (root.rebuild(&view).unwrap(), root.rebuild(&view).unwrap());
        let mut picked = [0; 4];
        for _ in 0..8 {
            picked[a.pick(&view, &PickContext::new()).unwrap()] += 1;
            b.pick(&view, &PickContext::new()).unwrap();
        }
        assert_eq!(picked, [2; 4]);
    }
}
