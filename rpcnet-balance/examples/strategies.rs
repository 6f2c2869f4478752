//! What a slow server does to each strategy: `cargo run -p rpcnet-balance --example strategies`.
//!
//! Four servers; the last takes ten times as long for a call as the others. One call starts per tick.

use std::{collections::VecDeque, sync::Arc};

use rpcnet_balance::{
    Balancer, Endpoint, InFlight, LeastConnections, PickContext, Random, RoundRobin, View,
};

const TICKS_PER_CALL: [usize; 4] = [3, 3, 3, 30];

fn main() {
    let strategies: [(&str, Arc<dyn Balancer>); 3] = [
        ("round robin", Arc::new(RoundRobin::seeded(7))),
        ("random", Arc::new(Random::seeded(7))),
        ("least connections", Arc::new(LeastConnections::seeded(7))),
    ];
    println!("{:18} {:>24} {:>15}", "", "calls per server", "mean ticks");
    for (name, balancer) in strategies {
        let view = View::new((0..4).map(|id| Arc::new(Endpoint::new(id))), 1);
        let mut running: VecDeque<(usize, InFlight)> = VecDeque::new();
        let (mut calls, mut ticks) = ([0; 4], 0);
        for now in 0..10_000 {
            running.retain(|(ends, _)| *ends > now);
            let index = balancer
                .pick(&view, &PickContext::new())
                .expect("four to choose from");
            running.push_back((now + TICKS_PER_CALL[index], view[index].begin()));
            calls[index] += 1;
            ticks += TICKS_PER_CALL[index];
        }
        println!(
            "{name:18} {:>24} {:>15.1}",
            format!("{calls:?}"),
            ticks as f64 / 10_000.0
        );
    }
}
