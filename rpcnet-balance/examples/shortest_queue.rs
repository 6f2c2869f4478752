//! Comparison of a custom balancer with those of the crate, in a fleet with a straggler:
//! `cargo run --release -p rpcnet-balance --features sim --example shortest_queue`.
//!
//! There are twenty workers and four clients; after two seconds one worker becomes fifty times
//! slower, and the load is 70 % of the capacity of all.

use std::{sync::Arc, time::Duration};

use rpcnet_balance::{
    Balancer, LeastConnections, PickContext, Random, RoundRobin, View,
    sim::{self, FleetScenario, Load, ServiceTime, SimWorker, WorkerChange},
};

/// The shortest queue: by the last report of a worker, or the calls of this client if those are
/// more.
#[derive(Debug)]
struct ShortestQueue;

impl Balancer for ShortestQueue {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let key = |index: &usize| {
            let endpoint = &view[*index];
            let reported = endpoint.reported_load().map_or(0, |load| load.in_flight);
            reported.max(endpoint.in_flight())
        };
        let allowed = (0..view.len()).filter(|index| cx.allows(&view[*index]));
        allowed.min_by_key(key)
    }
}

fn main() {
    let mean = Duration::from_millis(10);
    let worker = SimWorker::new(ServiceTime::Exponential { mean }).with_concurrency(8);
    let workers = vec![worker; 20];
    let load = 0.7 * 20.0 * worker.capacity_per_s();
    let slow_from = Duration::from_secs(2);
    let scenario = FleetScenario::new(workers, Load::open(load))
        .with_clients(4)
        .with_duration(Duration::from_secs(10))
        .with_change(slow_from, 3, WorkerChange::Slowdown(50.0));

    let balancers: [(&str, Make); 4] = [
        ("round robin", |seed| Arc::new(RoundRobin::seeded(seed))),
        ("random", |seed| Arc::new(Random::seeded(seed))),
        ("least connections", |seed| {
            Arc::new(LeastConnections::seeded(seed))
        }),
        ("shortest queue", |_| Arc::new(ShortestQueue)),
    ];
    println!(
        "{:20} {:>10} {:>10} {:>10} {:>16}",
        "", "p50 ms", "p99 ms", "failed", "to the straggler"
    );
    for (name, balancer) in balancers {
        let report = sim::run(&scenario, 7, balancer);
        let after = report.between(slow_from, Duration::MAX);
        let ms = |q| after.latency(q).as_secs_f64() * 1e3;
        println!(
            "{name:20} {:>10.1} {:>10.1} {:>10} {:>14.1} %",
            ms(0.5),
            ms(0.99),
            after.failed(),
            100.0 * after.share_of(3)
        );
    }
}

type Make = fn(u64) -> Arc<dyn Balancer>;
