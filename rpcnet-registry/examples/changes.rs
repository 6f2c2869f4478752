//! Cost of a change in a cluster of a thousand nodes, for the source that reports it and for the
//! next selection:
//! `cargo run --release -p rpcnet-registry --no-default-features --example changes`.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use rpcnet_balance::PickContext;
use rpcnet_registry::{LoadBalancingStrategy, NodeId, NodeInfo, StaticMembership, WorkerRegistry};

const NODES: u16 = 1000;
const EVENTS: u32 = 100;
const SELECTIONS: u32 = 200_000;

fn main() {
    println!(
        "{:24} {:>12} {:>15} {:>15}",
        "", "an event", "next selection", "any other"
    );
    for strategy in [
        LoadBalancingStrategy::PeakEwma,
        LoadBalancingStrategy::Maglev,
    ] {
        for filters in [1, 64] {
            let costs = costs(strategy, filters);
            let [event, next, other] = costs.map(|cost| format!("{cost:.1?}"));
            let of = format!("{strategy}, {filters} filters");
            println!("{of:24} {event:>12} {next:>15} {other:>15}");
        }
    }
}

fn costs(strategy: LoadBalancingStrategy, filters: usize) -> [Duration; 3] {
    let node = |index: u16| {
        let id = NodeId::new(format!("node-{index}"), 1);
        NodeInfo::new(id, ([127, 0, 0, 1], index).into()).with_tag("role", "worker")
    };
    let cluster: StaticMembership = (0..NODES).map(node).collect();
    let registry = WorkerRegistry::new(cluster.clone(), strategy);
    block_on(registry.start());
    let filters: Vec<_> = (0..filters)
        .map(|n| format!("role=worker,!tag-{n}"))
        .collect();
    let select = |filter: &String, key: u32| {
        let cx = PickContext::new().with_key(key.into());
        drop(registry.select(Some(filter), &cx).expect("an alive worker"));
    };
    let (mut events, mut next) = (Duration::ZERO, Duration::ZERO);
    for index in 0..EVENTS {
        // All filters are in use.
        filters.iter().for_each(|filter| select(filter, index));
        let name = format!("node-{}", index / 2);
        let began = Instant::now();
        if index % 2 == 0 {
            cluster.fail(&name);
        } else {
            cluster.recover(&name);
        }
        events += began.elapsed();
        let began = Instant::now();
        select(&filters[0], index);
        next += began.elapsed();
    }
    let began = Instant::now();
    (0..SELECTIONS).for_each(|key| select(&filters[0], key));
    [events / EVENTS, next / EVENTS, began.elapsed() / SELECTIONS]
}
