//! Least connections: the endpoint with the fewest calls in flight.

use crate::{
    Balancer, PickContext, View,
    rng::{SharedRng, below},
};

/// Least connections: the endpoint with the fewest calls in flight for its weight, a random one in
/// a tie.
///
/// It adapts to slow servers and costly calls by itself, because both keep calls in flight. It
/// looks at every endpoint, so a pick costs time in proportion to their number; and it sees only
/// the calls of this process, so many clients with few calls each are better served by
/// [`PowerOfTwo`](crate::PowerOfTwo), which costs the same for any number of endpoints. An endpoint
/// that fails at once has few calls in flight: combine it with [outlier detection](crate::health).
#[derive(Debug)]
pub struct LeastConnections {
    tie_rng: SharedRng,
}

impl LeastConnections {
    /// A balancer that breaks ties by a random sequence of `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            tie_rng: SharedRng::seeded(seed),
        }
    }
}

impl Balancer for LeastConnections {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let mut ties = self.tie_rng.fork();
        let (mut least, mut tied, mut picked) = (f32::INFINITY, 0, None);
        for (index, endpoint) in view.endpoints().iter().enumerate() {
            let load = endpoint.load();
            if load > least || !cx.allows(endpoint) {
                continue;
            }
            // One pass, because counts change meanwhile: each of k equals is kept with probability
            // 1 / k.
            tied = if load < least { 1 } else { tied + 1 };
            if tied == 1 || below(ties.next(), tied) == 0 {
                picked = Some(index);
            }
            least = load;
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Endpoint;

    #[test]
    fn the_fewest_calls_for_its_weight_is_picked() {
        let endpoints: Vec<_> = [(0, 1.0), (1, 2.0), (2, 1.0)]
            .map(|(id, weight)| Arc::new(Endpoint::new(id).with_weight(weight)))
            .into();
        let view = View::new(endpoints, 1);
        let balancer = LeastConnections::seeded(0);
        let pick = || balancer.pick(&view, &PickContext::new());

        assert_eq!(pick(), Some(1));
        let _twice = [view[1].begin(), view[1].begin()];
        let _once = view[0].begin();
        assert_eq!(pick(), Some(2));
        let excluded = [2];
        let cx = PickContext::new().with_excluded(&excluded);
        assert_eq!(balancer.pick(&view, &cx), Some(1));
    }
}
