//! Strategies of rpcnet as subjects, and the selection of the registry.

mod registry;

use std::{
    collections::HashMap,
    hint::black_box,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use rpcnet_balance::{
    Balancer, Endpoint, InFlight, LeastConnections, Maglev, Outcome, OutcomeKind, PeakEwma,
    PickContext, PowerOfTwo, Prequal, Random, Rendezvous, ReportedLoad, RoundRobin, SlowStart,
    Sticky, Subset, TagLookup, Tiered, Time, View, Weighted, WeightedByLoad,
};

use self::registry::RegistrySubject;
use crate::{Padding, Subject, Work, key, scatter::KEYS, shuffle};

/// Something of ours that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Strategy {
    /// Its name.
    pub name: &'static str,
    /// Makes it, among so many workers.
    make: fn(usize) -> Box<dyn Subject>,
}

/// Kind of the work of a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrategyKind {
    /// No worker is chosen.
    Baseline,
    /// A strategy chooses.
    ConstantTime,
    /// A strategy chooses that looks at every worker, as its rule says.
    Scan,
    /// Whole selection of a client, more than a strategy.
    Selection,
}

impl Strategy {
    const fn new(name: &'static str, make: fn(usize) -> Box<dyn Subject>) -> Self {
        Self { name, make }
    }

    /// Kind of its work.
    pub fn kind(&self) -> StrategyKind {
        match self.name {
            BASELINE => StrategyKind::Baseline,
            "least-connections" => StrategyKind::Scan,
            REGISTRY => StrategyKind::Selection,
            _ => StrategyKind::ConstantTime,
        }
    }
}

/// Strategies of rpcnet, with the baseline first and [`REGISTRY`] last.
pub const STRATEGIES: [Strategy; 16] = [
    Strategy::new(BASELINE, |_| Box::new(BaselineSubject)),
    Strategy::new("round-robin", |n| among(n, RoundRobin::seeded(SEED))),
    Strategy::new("random", |n| among(n, Random::seeded(SEED))),
    Strategy::new("least-connections", |n| {
        among(n, LeastConnections::seeded(SEED))
    }),
    Strategy::new("weighted", |n| among(n, Weighted::seeded(SEED))),
    Strategy::new("weighted-by-load", |n| {
        among(n, WeightedByLoad::seeded(SEED))
    }),
    Strategy::new("power-of-two", |n| among(n, PowerOfTwo::seeded(SEED))),
    Strategy::new("peak-ewma", |n| among(n, PeakEwma::seeded(SEED))),
    Strategy::new("prequal", |n| among(n, Prequal::seeded(SEED))),
    Strategy::new("rendezvous", |n| among(n, Rendezvous::seeded(SEED))),
    Strategy::new("maglev", |n| among(n, Maglev::seeded(SEED))),
    Strategy::new("tiered", |n| {
        among(n, Tiered::new(inner()).prefer("zone", "a"))
    }),
    Strategy::new("subset", |n| among(n, Subset::new(inner(), SUBSET, SEED))),
    Strategy::new("sticky", |n| among(n, Sticky::new(inner()))),
    Strategy::new("slow-start", |n| {
        among(n, SlowStart::new(inner(), SLOW_START))
    }),
    Strategy::new(REGISTRY, |n| Box::new(RegistrySubject::new(n))),
];

/// No strategy: what the measuring itself takes, and what two threads do here that share nothing.
const BASELINE: &str = "nothing";

/// A registry of workers that selects by a tag and peak EWMA and counts the call; of a call it is
/// told the outcome too.
pub const REGISTRY: &str = "registry-select";

/// The strategy of this name among so many workers.
pub fn subject(name: &str, workers: usize) -> Result<Box<dyn Subject>, String> {
    let strategy = STRATEGIES.iter().find(|it| it.name == name);
    let strategy = strategy.ok_or_else(|| format!("there is no strategy {name:?}"))?;
    Ok((strategy.make)(workers))
}

/// The strategy inside of those that wrap one.
fn inner() -> Arc<dyn Balancer> {
    Arc::new(PeakEwma::seeded(SEED))
}

/// A strategy among so many workers.
fn among(workers: usize, balancer: impl Balancer + 'static) -> Box<dyn Subject> {
    let balancer: Arc<dyn Balancer> = Arc::new(balancer);
    let mut padding = Padding::default();
    let mut endpoints: Vec<_> = (0..workers as u64)
        .map(|id| {
            padding.add(id);
            // One part in three has twice or three times the weight.
            Arc::new(Endpoint::new(id).with_weight((1 + id % 3) as f32))
        })
        .collect();
    shuffle(&mut endpoints);
    let zones = (0..workers).map(|at| {
        let zone = ["a", "b", "c"][at % 3].to_owned();
        Arc::new(HashMap::from([("zone".to_owned(), zone)])) as Arc<dyn TagLookup>
    });
    let view = View::new(endpoints, 1).with_tags(zones);
    let balancer = balancer.rebuild(&view).unwrap_or(balancer);
    // Up to three calls with each, all the time, so that who is less busy is not always the same.
    let in_flight = view.endpoints().iter().flat_map(|endpoint| {
        let calls = key(endpoint.id()) % 4;
        (0..calls).map(|_| endpoint.begin())
    });
    let mut ours = BalancerSubject {
        _in_flight: in_flight.collect(),
        balancer,
        view,
        begin: Instant::now(),
        warmed_up: Time::ZERO,
        _padding: padding,
    };
    ours.warm_up();
    Box::new(ours)
}

/// A strategy as a client has it: behind a pointer, with workers that have served before.
struct BalancerSubject {
    balancer: Arc<dyn Balancer>,
    view: View,
    begin: Instant,
    /// The time of the last answers before picks are measured.
    warmed_up: Time,
    _in_flight: Vec<InFlight>,
    _padding: Padding,
}

impl BalancerSubject {
    /// Warms up: every worker has answered, each in a time of its own, and every key has been used.
    fn warm_up(&mut self) {
        let now = self.now();
        self.warmed_up = now;
        for at in 0..self.view.len() {
            let latency = Duration::from_micros(500 + key(at as u64) % 500);
            self.view[at].set_reported_load(report(at));
            self.balancer
                .on_outcome(&self.view, at, &outcome(at, latency, now));
        }
        for call in 0..KEYS {
            black_box(self.balancer.pick(&self.view, &context(call, now)));
        }
    }

    fn now(&self) -> Time {
        Time::from(self.begin.elapsed())
    }

    /// A clock would cost as much as the pick: time goes on by itself. It goes on from the last
    /// answers, as picks alone bring none: workers with calls in flight would look silent soon.
    fn pick(&self, calls: Range<u64>) {
        for call in calls {
            let now = self.warmed_up + Duration::from_nanos(call % 1024 * 64);
            let context = context(call, now);
            black_box(self.balancer.pick(black_box(&self.view), &context));
        }
    }

    fn call(&self, call: u64) {
        let begun = self.now();
        let context = context(call, begun);
        let Some(at) = self.balancer.pick(black_box(&self.view), &context) else {
            return;
        };
        let counted = self.view[at].begin_at(begun);
        let ended = self.now();
        self.view[at].set_reported_load(report(at));
        let outcome = outcome(at, ended.since(begun), ended);
        self.balancer.on_outcome(&self.view, at, &outcome);
        drop(counted);
    }
}

impl Subject for BalancerSubject {
    fn batch(&self, work: Work, calls: Range<u64>, _alone: bool) -> Result<(), String> {
        match work {
            Work::Pick => self.pick(calls),
            Work::Call => calls.for_each(|call| self.call(call)),
        }
        Ok(())
    }
}

struct BaselineSubject;

impl Subject for BaselineSubject {
    fn batch(&self, work: Work, calls: Range<u64>, _alone: bool) -> Result<(), String> {
        let clocks = match work {
            Work::Pick => 0,
            Work::Call => 2,
        };
        for call in calls {
            black_box(context(call, Time::from_nanos(call)));
            for _ in 0..clocks {
                black_box(Instant::now());
            }
        }
        Ok(())
    }
}

fn context(call: u64, now: Time) -> PickContext<'static> {
    PickContext::new().with_key(key(call)).with_now(now)
}

fn report(at: usize) -> ReportedLoad {
    ReportedLoad::new().with_in_flight(at as u32 % 7)
}

fn outcome(at: usize, latency: Duration, now: Time) -> Outcome {
    Outcome::new(OutcomeKind::Success, latency)
        .with_now(now)
        .with_reported_load(Some(report(at)))
}

const SEED: u64 = 42;
/// Size of the subset of a client among thousands.
const SUBSET: usize = 20;
const SLOW_START: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_does_both() {
        for strategy in STRATEGIES {
            for workers in [3, 30] {
                let subject = subject(strategy.name, workers).unwrap();
                for work in [Work::Pick, Work::Call] {
                    subject.batch(work, 0..100, true).unwrap();
                }
            }
        }
        assert!(subject("worst", 3).is_err());
    }
}
