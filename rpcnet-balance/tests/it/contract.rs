//! Tests that the balancers of this crate keep the contract, and that the contract catches
//! violations.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpcnet_balance::{
    Balancer, InFlight, LeastConnections, Maglev, Outcome, PeakEwma, PickContext, PowerOfTwo,
    Prequal, Random, Rendezvous, RoundRobin, SlowStart, Sticky, Subset, Tiered, View, Weighted,
    WeightedByLoad,
    contract::{self, Contract, ContractRule},
    from_fn,
};

#[test]
fn round_robin_keeps_the_contract() {
    contract::check(|seed| Arc::new(RoundRobin::seeded(seed)));
}

#[test]
fn random_keeps_the_contract() {
    contract::check(|seed| Arc::new(Random::seeded(seed)));
}

#[test]
fn least_connections_keeps_the_contract() {
    contract::check(|seed| Arc::new(LeastConnections::seeded(seed)));
}

#[test]
fn weighted_choice_keeps_the_contract() {
    contract::check(|seed| Arc::new(Weighted::seeded(seed)));
    contract::check(|seed| Arc::new(WeightedByLoad::seeded(seed)));
}

#[test]
fn power_of_two_keeps_the_contract() {
    contract::check(|seed| Arc::new(PowerOfTwo::seeded(seed)));
    contract::check(|seed| Arc::new(PeakEwma::seeded(seed)));
    contract::check(|seed| Arc::new(Prequal::seeded(seed)));
}

#[test]
fn choice_by_key_keeps_the_contract() {
    // Without a key the shares are even.
    contract::check(|seed| Arc::new(Rendezvous::seeded(seed)));
    contract::check(|seed| Arc::new(Maglev::seeded(seed)));
}

const WINDOW: Duration = Duration::from_secs(10);

#[test]
fn wrappers_keep_the_contract() {
    contract::check(|seed| Arc::new(Sticky::new(Arc::new(PeakEwma::seeded(seed)))));
    contract::check(|seed| Arc::new(SlowStart::new(Arc::new(RoundRobin::seeded(seed)), WINDOW)));
    contract::check(|seed| Arc::new(Subset::new(Arc::new(Prequal::seeded(seed)), 100, seed)));
    contract::check(|seed| {
        Arc::new(Tiered::new(Arc::new(Weighted::seeded(seed))).prefer("a", "b"))
    });
    starving(|seed| Arc::new(Subset::new(Arc::new(Prequal::seeded(seed)), 5, seed)));
}

#[test]
fn wrappers_in_wrappers_keep_the_contract() {
    contract::check(|seed| {
        let slow = SlowStart::new(Arc::new(LeastConnections::seeded(seed)), WINDOW);
        let near = Tiered::new(Arc::new(slow))
            .prefer("zone", "a")
            .with_load_ratio(2.0);
        Arc::new(Sticky::new(Arc::new(near)))
    });
    starving(|seed| {
        let near = Tiered::new(Arc::new(WeightedByLoad::seeded(seed))).prefer("zone", "a");
        let part = Subset::new(Arc::new(Sticky::new(Arc::new(near))), 7, seed);
        Arc::new(SlowStart::new(Arc::new(part), WINDOW))
    });
    starving(|seed| {
        let part = Subset::new(Arc::new(Maglev::seeded(seed)), 3, seed);
        Arc::new(Tiered::new(Arc::new(part)).prefer("zone", "a"))
    });
}

/// For balancers that use some of the endpoints only.
fn starving(build: impl Fn(u64) -> Arc<dyn Balancer>) {
    Contract::new(build).allow_starvation().verify().unwrap();
}

#[test]
fn a_balancer_behind_another_arc_keeps_the_contract() {
    contract::check(|seed| Arc::new(Arc::new(RoundRobin::seeded(seed))));
}

/// The rule that the balancer of `build` violates.
fn caught(build: impl Fn() -> Arc<dyn Balancer>) -> ContractRule {
    Contract::new(|_| build())
        .verify()
        .expect_err("a planted bug")
        .rule
}

fn first_allowed(view: &View, cx: &PickContext<'_>) -> Option<usize> {
    view.endpoints()
        .iter()
        .position(|endpoint| cx.allows(endpoint))
}

#[test]
fn an_index_past_the_end_is_caught() {
    let rule = caught(|| {
        Arc::new(from_fn(|view, cx| {
            first_allowed(view, cx).map(|_| view.len())
        }))
    });
    assert_eq!(rule, ContractRule::InRange);
}

#[test]
fn remembering_the_size_of_an_older_view_is_caught() {
    let rule = caught(|| {
        let (turn, len) = (AtomicUsize::new(0), OnceLock::new());
        Arc::new(from_fn(move |view: &View, cx: &PickContext<'_>| {
            first_allowed(view, cx)?;
            let len = *len.get_or_init(|| view.len());
            let first = turn.fetch_add(1, Ordering::Relaxed) % len;
            (0..len).map(|step| (first + step) % len).find(|&index| {
                view.endpoints()
                    .get(index)
                    .is_none_or(|endpoint| cx.allows(endpoint))
            })
        }))
    });
    assert_eq!(rule, ContractRule::InRange);
}

#[test]
fn ignoring_exclusions_is_caught() {
    let rule = caught(|| Arc::new(from_fn(|view, cx| first_allowed(view, cx).map(|_| 0))));
    assert_eq!(rule, ContractRule::Exclusion);
}

#[test]
fn falling_back_to_an_excluded_endpoint_is_caught() {
    let rule = caught(|| {
        Arc::new(from_fn(|view, cx| {
            first_allowed(view, cx).or_else(|| (!view.is_empty()).then_some(0))
        }))
    });
    assert_eq!(rule, ContractRule::NothingToPick);
}

#[test]
fn giving_up_under_load_is_caught() {
    let rule = caught(|| {
        Arc::new(from_fn(|view, cx| {
            view.endpoints()
                .iter()
                .position(|endpoint| cx.allows(endpoint) && endpoint.in_flight() < 10)
        }))
    });
    assert_eq!(rule, ContractRule::AlwaysPicks);
}

#[test]
fn giving_up_because_of_reported_load_is_caught() {
    let rule = caught(|| {
        Arc::new(from_fn(|view, cx| {
            view.endpoints().iter().position(|endpoint| {
                let load = endpoint.reported_load();
                cx.allows(endpoint) && !load.is_some_and(|load| load.busy)
            })
        }))
    });
    assert_eq!(rule, ContractRule::AlwaysPicks);
}

#[test]
fn picking_from_an_empty_view_is_caught() {
    let rule = caught(|| Arc::new(from_fn(|_, cx| cx.excluded().is_empty().then_some(0))));
    assert_eq!(rule, ContractRule::InRange);
}

#[test]
fn always_picking_the_same_is_caught_unless_allowed() {
    let build = || Arc::new(from_fn(first_allowed));
    assert_eq!(caught(|| build()), ContractRule::NoStarvation);
    Contract::new(|_| build() as Arc<dyn Balancer>)
        .allow_starvation()
        .verify()
        .unwrap();
}

/// Picks the endpoint with the shortest latency of all; those without a reply come first.
#[derive(Debug)]
struct Quickest;

impl Balancer for Quickest {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let latency = |index: &usize| view[*index].latency(cx.now(), Duration::from_secs(10));
        let busy = |index: &usize| view[*index].in_flight();
        let allowed = (0..view.len()).filter(|&index| cx.allows(&view[index]));
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        allowed.min_by_key(|index| (latency(index), busy(index), (index + turn) % view.len()))
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        PeakEwma::seeded(0).on_outcome(view, index, outcome);
    }
}

static TURN: AtomicUsize = AtomicUsize::new(0);

#[test]
fn always_picking_the_fastest_is_caught_unless_allowed() {
    assert_eq!(caught(|| Arc::new(Quickest)), ContractRule::EvenShares);
    Contract::new(|_| Arc::new(Quickest) as Arc<dyn Balancer>)
        .allow_uneven_shares()
        .verify()
        .unwrap();
}

/// Begins a call of its own with every first outcome, and keeps it.
#[derive(Debug, Default)]
struct Hoarder {
    hoarding: AtomicBool,
    hoard: OnceLock<InFlight>,
}

impl Balancer for Hoarder {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        first_allowed(view, cx)
    }

    fn on_outcome(&self, view: &View, index: usize, _outcome: &Outcome) {
        if !self.hoarding.swap(true, Ordering::Relaxed) {
            self.hoard.set(view[index].begin()).expect("only once");
        }
    }
}

#[test]
fn changing_the_count_of_calls_is_caught() {
    let kept = OnceLock::new();
    let rule = caught(|| kept.get_or_init(|| Arc::new(Hoarder::default())).clone());
    assert_eq!(rule, ContractRule::InFlight);
}

#[test]
fn a_violation_says_what_happened() {
    let violation = Contract::new(|_| Arc::new(from_fn(|_, _| None)) as Arc<dyn Balancer>)
        .verify()
        .unwrap_err();
    let text = violation.to_string();
    assert!(
        text.contains("AlwaysPicks") && text.contains("picked none of 1"),
        "{text}"
    );
}
