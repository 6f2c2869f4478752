//! The balancers at hand, by name.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use rpcnet_balance::{Balancer, LeastConnections, Random, RoundRobin};

/// How a worker is picked among those that match. For one of your own see
/// [`WorkerRegistry::with_balancer`](super::WorkerRegistry::with_balancer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LoadBalancingStrategy {
    /// One after the other, from a random start.
    RoundRobin,
    /// Any one.
    Random,
    /// The one with the fewest calls in flight, any of them in a tie. The default: it adapts to slow workers and costly
    /// calls by itself.
    #[default]
    LeastConnections,
}

impl LoadBalancingStrategy {
    /// A balancer of this kind, seeded at random. For a run that can be repeated, seed one yourself.
    #[must_use]
    pub fn balancer(self) -> Arc<dyn Balancer> {
        // The standard library's keys for hashing come from the system's random numbers.
        let seed = RandomState::new().hash_one(0_u64);
        match self {
            Self::RoundRobin => Arc::new(RoundRobin::seeded(seed)),
            Self::Random => Arc::new(Random::seeded(seed)),
            Self::LeastConnections => Arc::new(LeastConnections::seeded(seed)),
        }
    }
}
