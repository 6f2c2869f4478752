//! Load balancing strategies by name.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    str::FromStr,
    sync::Arc,
};

use rpcnet_balance::{
    Balancer, LeastConnections, Maglev, PeakEwma, PowerOfTwo, Prequal, Random, Rendezvous,
    RoundRobin, Weighted, WeightedByLoad,
};

/// Strategy that picks a worker among those that match. For a custom balancer, or one of these in a
/// wrapper, see [`WorkerRegistry::with_balancer`](super::WorkerRegistry::with_balancer).
///
/// It has a name for texts such as configurations: `"peak-ewma".parse()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LoadBalancingStrategy {
    /// Round robin from a random start: `round-robin`.
    RoundRobin,
    /// Uniform random choice: `random`.
    Random,
    /// The fewest calls in flight, a random one in a tie: `least-connections`.
    LeastConnections,
    /// Weighted choice in proportion to weights, as evenly as round robin: `weighted`.
    Weighted,
    /// Weighted choice in proportion to weights and reported load: `weighted-by-load`.
    WeightedByLoad,
    /// The less loaded of two random ones: `power-of-two`.
    PowerOfTwo,
    /// The lowest latency times load of three random ones; failures back off: `peak-ewma`. The
    /// default, as the best over all scenarios of `cargo xtask sim balance`.
    #[default]
    PeakEwma,
    /// The fastest of some that are not hot by their reported load: `prequal`.
    Prequal,
    /// The same worker for the same key, with bounded loads: `rendezvous`.
    Rendezvous,
    /// The same worker for the same key, by a table: `maglev`.
    Maglev,
}

impl LoadBalancingStrategy {
    /// All strategies.
    pub const ALL: &'static [Self] = &[
        Self::RoundRobin,
        Self::Random,
        Self::LeastConnections,
        Self::Weighted,
        Self::WeightedByLoad,
        Self::PowerOfTwo,
        Self::PeakEwma,
        Self::Prequal,
        Self::Rendezvous,
        Self::Maglev,
    ];

    /// A balancer of this strategy with a random seed.
    #[must_use]
    pub fn balancer(self) -> Arc<dyn Balancer> {
        // The standard library's keys for hashing come from the system's random numbers.
        self.seeded_balancer(RandomState::new().hash_one(0_u64))
    }

    /// A balancer of this strategy with this seed, for a run that can be repeated.
    #[must_use]
    pub fn seeded_balancer(self, seed: u64) -> Arc<dyn Balancer> {
        match self {
            Self::RoundRobin => Arc::new(RoundRobin::seeded(seed)),
            Self::Random => Arc::new(Random::seeded(seed)),
            Self::LeastConnections => Arc::new(LeastConnections::seeded(seed)),
            Self::Weighted => Arc::new(Weighted::seeded(seed)),
            Self::WeightedByLoad => Arc::new(WeightedByLoad::seeded(seed)),
            Self::PowerOfTwo => Arc::new(PowerOfTwo::seeded(seed)),
            Self::PeakEwma => Arc::new(PeakEwma::seeded(seed)),
            Self::Prequal => Arc::new(Prequal::seeded(seed)),
            Self::Rendezvous => Arc::new(Rendezvous::seeded(seed)),
            Self::Maglev => Arc::new(Maglev::seeded(seed)),
        }
    }

    /// The name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::LeastConnections => "least-connections",
            Self::Weighted => "weighted",
            Self::WeightedByLoad => "weighted-by-load",
            Self::PowerOfTwo => "power-of-two",
            Self::PeakEwma => "peak-ewma",
            Self::Prequal => "prequal",
            Self::Rendezvous => "rendezvous",
            Self::Maglev => "maglev",
        }
    }
}

impl fmt::Display for LoadBalancingStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for LoadBalancingStrategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.iter().find(|one| one.name() == text);
        named.copied().ok_or_else(|| UnknownStrategy(text.into()))
    }
}

/// Parse error of a strategy name. The caller's fault; the same text will never be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownStrategy(Box<str>);

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no balancing strategy is named {:?}, but", self.0)?;
        for (index, known) in LoadBalancingStrategy::ALL.iter().enumerate() {
            write!(f, "{} {known}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownStrategy {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_as_displayed() {
        for &strategy in LoadBalancingStrategy::ALL {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        let error = "Peak-EWMA".parse::<LoadBalancingStrategy>().unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(
            r#"no balancing strategy is named "Peak-EWMA", but round-robin, random,"#
        ));
    }
}
