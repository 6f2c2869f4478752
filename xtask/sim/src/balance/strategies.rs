//! Strategies that are compared.

use std::{sync::Arc, time::Duration};

use rpcnet_balance::{
    Balancer, LeastConnections, PeakEwma, PowerOfTwo, Prequal, Random, RoundRobin, SlowStart,
    Weighted, WeightedByLoad,
};

use crate::options::Extent;

/// A strategy as it comes, without settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strategy {
    pub(super) name: &'static str,
    pub(super) make: fn(u64) -> Arc<dyn Balancer>,
}

impl Strategy {
    const fn new(name: &'static str, make: fn(u64) -> Arc<dyn Balancer>) -> Self {
        Self { name, make }
    }
}

/// Default strategy of calls.
pub(super) const DEFAULT: &str = "peak-ewma";

static ALL: [Strategy; 9] = [
    Strategy::new("round-robin", |seed| Arc::new(RoundRobin::seeded(seed))),
    Strategy::new("random", |seed| Arc::new(Random::seeded(seed))),
    Strategy::new("least-connections", |seed| {
        Arc::new(LeastConnections::seeded(seed))
    }),
    Strategy::new("power-of-two", |seed| Arc::new(PowerOfTwo::seeded(seed))),
    Strategy::new("peak-ewma", |seed| Arc::new(PeakEwma::seeded(seed))),
    Strategy::new("slow-start", |seed| {
        let inner = Arc::new(PeakEwma::seeded(seed));
        Arc::new(SlowStart::new(inner, Duration::from_secs(10)))
    }),
    Strategy::new("prequal", |seed| Arc::new(Prequal::seeded(seed))),
    Strategy::new("weighted", |seed| Arc::new(Weighted::seeded(seed))),
    Strategy::new("weighted-by-load", |seed| {
        Arc::new(WeightedByLoad::seeded(seed))
    }),
];

/// Strategies of a quick run.
const QUICK_STRATEGIES: [&str; 3] = ["round-robin", "power-of-two", DEFAULT];

/// Strategies that were named, else all, or few in a quick run.
pub(super) fn select(extent: Extent, names: &[String]) -> Result<Vec<Strategy>, String> {
    if names.is_empty() {
        let wanted = |it: &&Strategy| extent == Extent::Full || QUICK_STRATEGIES.contains(&it.name);
        return Ok(ALL.iter().filter(wanted).copied().collect());
    }
    let named = |name: &String| {
        let found = ALL.iter().find(|it| it.name == name).copied();
        found.ok_or_else(|| {
            let all: Vec<_> = ALL.iter().map(|it| it.name).collect();
            format!(
                "no strategy is called {name:?}; there are: {}",
                all.join(", ")
            )
        })
    };
    names.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use rpcnet_registry::LoadBalancingStrategy;

    use super::*;

    #[test]
    fn the_default_is_that_of_the_registry() {
        assert_eq!(LoadBalancingStrategy::default().name(), DEFAULT);
    }

    #[test]
    fn all_are_compared_that_need_no_key() {
        for strategy in LoadBalancingStrategy::ALL {
            let keyed = ["rendezvous", "maglev"].contains(&strategy.name());
            let compared = ALL.iter().any(|it| it.name == strategy.name());
            assert!(keyed != compared, "{strategy}");
        }
    }

    #[test]
    fn the_default_is_among_them_always() {
        for extent in [Extent::Quick, Extent::Full] {
            let all = select(extent, &[]).unwrap();
            assert!(all.iter().any(|it| it.name == DEFAULT));
        }
        let some = select(Extent::Quick, &["random".to_owned()]).unwrap();
        assert_eq!(some[0].name, "random");
        let error = select(Extent::Full, &["best".to_owned()]).unwrap_err();
        assert!(error.contains("round-robin, random"), "{error}");
    }
}
