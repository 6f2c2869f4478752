//! Tests that picks and outcomes allocate nothing.

use std::{hint::black_box, sync::Arc, time::Duration};

use rpcnet_balance::{
    Balancer, Endpoint, LatencyNormalizer, LeastConnections, Maglev, Outcome, OutcomeKind,
    PeakEwma, PickContext, PowerOfTwo, Prequal, Random, Rendezvous, ReportedLoad, RoundRobin,
    SlowStart, Sticky, Subset, Tiered, Time, View, Weighted, WeightedByLoad, from_fn,
};
use rpcnet_testing::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn balancers() -> Vec<Arc<dyn Balancer>> {
    let quicker = || Arc::new(PeakEwma::seeded(1));
    let window = Duration::from_secs(10);
    vec![
        Arc::new(RoundRobin::seeded(1)),
        Arc::new(Random::seeded(1)),
        Arc::new(LeastConnections::seeded(1)),
        Arc::new(Weighted::seeded(1)),
        Arc::new(WeightedByLoad::seeded(1)),
        Arc::new(PowerOfTwo::seeded(1)),
        Arc::new(PeakEwma::seeded(1)),
        Arc::new(Prequal::seeded(1)),
        Arc::new(Rendezvous::seeded(1)),
        Arc::new(Maglev::new()),
        Arc::new(Sticky::new(quicker())),
        Arc::new(Subset::new(quicker(), 9, 1)),
        Arc::new(SlowStart::new(quicker(), window)),
        Arc::new(Tiered::new(quicker()).prefer("zone", "a")),
        Arc::new(from_fn(|view, cx| {
            (0..view.len())
                .filter(|&index| cx.allows(&view[index]))
                .min_by_key(|&index| view[index].reported_load().map(|load| load.in_flight))
        })),
    ]
}

#[test]
fn a_pick_allocates_nothing() {
    let counted = CountingAllocator::count(|| drop(black_box(Box::new(1))));
    assert_eq!(counted, 1, "the counter does not count");
    for len in [2, 16, 256] {
        let view = View::new((0..len).map(|id| Arc::new(Endpoint::new(id))), 1);
        for balancer in balancers() {
            let rebuilt = balancer.rebuild(&view);
            for balancer in [balancer].into_iter().chain(rebuilt) {
                let count = CountingAllocator::count(|| work(&*balancer, &view));
                assert_eq!(count, 0, "{balancer:?} with {len} endpoints");
            }
        }
    }
}

/// Calls of all kinds, with retries: some fail, some report their load, some are new.
fn work(balancer: &dyn Balancer, view: &View) {
    for round in 0..200 {
        let now = Time::from(Duration::from_millis(1000 + 10 * round));
        let excluded = [round % view.len() as u64];
        let cx = PickContext::new().with_now(now);
        let retried = cx.with_excluded(&excluded).with_key(round);
        for cx in [cx, cx.with_key(round), retried] {
            let index = black_box(balancer.pick(view, &cx)).expect("some are left");
            let _call = view[index].begin_at(now);
            let load = ReportedLoad::new()
                .with_in_flight(round as u32)
                .with_busy(round % 5 == 0);
            view[index].set_reported_load_at(load, now);
            if round % 50 == 0 {
                view[index].set_ready(now);
            }
            let kind = match round % 7 {
                0 => OutcomeKind::Failure,
                1 => OutcomeKind::Overloaded,
                _ => OutcomeKind::Success,
            };
            let outcome = Outcome::new(kind, Duration::from_millis(round))
                .with_now(now)
                .with_reported_load(Some(load));
            balancer.on_outcome(view, index, &outcome);
        }
    }
}

#[test]
fn normalising_a_latency_allocates_nothing() {
    let normalizer = LatencyNormalizer::new();
    let count = CountingAllocator::count(|| {
        // More kinds than there is room for.
        for kind in 0..2_000 {
            let now = Time::from(Duration::from_millis(1000 + kind % 7));
            black_box(normalizer.scale(kind));
            let outcome = Outcome::new(OutcomeKind::Success, Duration::from_millis(kind));
            black_box(normalizer.record(kind, outcome.with_now(now)));
        }
    });
    assert_eq!(count, 0);
}
