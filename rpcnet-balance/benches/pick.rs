//! The cost of a pick, and of a pick with its count of calls in flight.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rpcnet_balance::{Balancer, Endpoint, LeastConnections, PickContext, Random, RoundRobin, View};

fn picks(criterion: &mut Criterion) {
    let balancers: [(&str, Arc<dyn Balancer>); 3] = [
        ("round_robin", Arc::new(RoundRobin::seeded(1))),
        ("random", Arc::new(Random::seeded(1))),
        ("least_connections", Arc::new(LeastConnections::seeded(1))),
    ];
    for (name, balancer) in balancers {
        let mut group = criterion.benchmark_group(name);
        for len in [2, 16, 256] {
            let view = View::new((0..len).map(|id| Arc::new(Endpoint::new(id))), 1);
            group.bench_function(BenchmarkId::new("pick", len), |bencher| {
                bencher.iter(|| balancer.pick(black_box(&view), &PickContext::new()));
            });
            group.bench_function(BenchmarkId::new("pick_excluding_two", len), |bencher| {
                let cx = PickContext::new().with_excluded(&[0, 5]);
                bencher.iter(|| balancer.pick(black_box(&view), black_box(&cx)));
            });
            group.bench_function(BenchmarkId::new("pick_and_count", len), |bencher| {
                bencher.iter(|| {
                    let index = balancer.pick(black_box(&view), &PickContext::new());
                    index.map(|index| view[index].begin())
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, picks);
criterion_main!(benches);
