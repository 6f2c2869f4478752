//! Benchmarks of a pick, and of a pick that counts a call in flight; on one thread, and on two at
//! once.

use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rpcnet_balance::{
    Balancer, Endpoint, LeastConnections, Maglev, Outcome, OutcomeKind, PeakEwma, PickContext,
    PowerOfTwo, Prequal, Random, Rendezvous, ReportedLoad, RoundRobin, SlowStart, Sticky, Subset,
    Tiered, Time, View, Weighted, WeightedByLoad,
};

fn balancers() -> Vec<(&'static str, Arc<dyn Balancer>)> {
    let quicker = || Arc::new(PeakEwma::seeded(1));
    let window = Duration::from_secs(10);
    vec![
        ("round_robin", Arc::new(RoundRobin::seeded(1))),
        ("random", Arc::new(Random::seeded(1))),
        ("least_connections", Arc::new(LeastConnections::seeded(1))),
        ("weighted", Arc::new(Weighted::seeded(1))),
        ("weighted_by_load", Arc::new(WeightedByLoad::seeded(1))),
        ("power_of_two", Arc::new(PowerOfTwo::seeded(1))),
        ("peak_ewma", Arc::new(PeakEwma::seeded(1))),
        ("prequal", Arc::new(Prequal::seeded(1))),
        ("rendezvous", Arc::new(Rendezvous::seeded(1))),
        ("maglev", Arc::new(Maglev::seeded(1))),
        ("sticky", Arc::new(Sticky::new(quicker()))),
        ("subset", Arc::new(Subset::new(quicker(), 20, 1))),
        ("slow_start", Arc::new(SlowStart::new(quicker(), window))),
        (
            "tiered",
            Arc::new(Tiered::new(quicker()).prefer("zone", "a")),
        ),
    ]
}

/// Endpoints that have been used, of different weight, a third of them in each zone.
fn view(len: u64) -> View {
    let endpoints = (0..len).map(|id| Arc::new(Endpoint::new(id).with_weight((1 + id % 3) as f32)));
    let zones = (0..len).map(|id| {
        let zone = ["a", "b", "c"][id as usize % 3].to_owned();
        Arc::new(std::collections::HashMap::from([("zone".to_owned(), zone)])) as _
    });
    let view = View::new(endpoints, 1).with_tags(zones);
    let used = PeakEwma::seeded(1);
    for index in 0..view.len() {
        let load = ReportedLoad::new().with_in_flight(index as u32 % 7);
        view[index].set_reported_load_at(load, NOW);
        let latency = Duration::from_micros(500 + index as u64 * 37 % 500);
        let outcome = Outcome::new(OutcomeKind::Success, latency).with_now(NOW);
        used.on_outcome(&view, index, &outcome);
    }
    view
}

/// The context of the pick of this number: each call has a key of its own.
fn context(number: u64) -> PickContext<'static> {
    PickContext::new()
        .with_key(number)
        .with_now(NOW + Duration::from_nanos(number))
}

#[allow(
    clippy::disallowed_methods,
    reason = "two threads at once take a clock of their own"
)]
fn picks(criterion: &mut Criterion) {
    for (name, balancer) in balancers() {
        let mut group = criterion.benchmark_group(name);
        for len in SIZES {
            let view = view(len);
            let balancer = balancer.rebuild(&view).unwrap_or_else(|| balancer.clone());
            // Warm up the preferences that are computed when a key is first used.
            (0..500_000).for_each(|number| {
                black_box(balancer.pick(&view, &context(number)));
            });
            let mut number = 0;
            let mut next = || {
                number = (number + 1) % 500_000;
                context(number)
            };
            group.bench_function(BenchmarkId::new("pick", len), |bencher| {
                bencher.iter(|| balancer.pick(black_box(&view), &next()));
            });
            group.bench_function(BenchmarkId::new("pick_excluding_two", len), |bencher| {
                bencher.iter(|| {
                    let cx = next().with_excluded(black_box(&[0, 5]));
                    balancer.pick(black_box(&view), &cx)
                });
            });
            group.bench_function(BenchmarkId::new("pick_and_count", len), |bencher| {
                bencher.iter(|| {
                    let cx = next();
                    let index = balancer.pick(black_box(&view), &cx);
                    index.map(|index| view[index].begin_at(NOW))
                });
            });
            // The time that this thread takes while another one picks too; if they slowed each
            // other down, it would be up to twice as long.
            group.bench_function(BenchmarkId::new("pick_beside_another", len), |bencher| {
                let stop = AtomicBool::new(false);
                let both = Barrier::new(2);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        both.wait();
                        for number in (0..500_000).cycle() {
                            black_box(balancer.pick(black_box(&view), &context(number)));
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                    });
                    both.wait();
                    bencher.iter_custom(|count| {
                        let began = Instant::now();
                        for number in 0..count {
                            black_box(balancer.pick(black_box(&view), &context(number % 500_000)));
                        }
                        began.elapsed()
                    });
                    stop.store(true, Ordering::Relaxed);
                });
            });
        }
        group.finish();
    }
}

const SIZES: [u64; 4] = [3, 30, 300, 3000];
const NOW: Time = Time::from_nanos(1_000_000_000);

criterion_group!(benches, picks);
criterion_main!(benches);
