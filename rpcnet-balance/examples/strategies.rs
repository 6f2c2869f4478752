//! Effect of a slow server on each strategy: `cargo run -p rpcnet-balance --example strategies`.
//!
//! There are four servers; the last takes ten times as long for a call as the others. One call
//! starts per tick.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rpcnet_balance::{
    Balancer, Endpoint, InFlight, LeastConnections, Outcome, OutcomeKind, PeakEwma, PickContext,
    PowerOfTwo, Random, RoundRobin, Time, View,
};

const TICKS_PER_CALL: [usize; 4] = [3, 3, 3, 30];

fn main() {
    let strategies: [(&str, Arc<dyn Balancer>); 5] = [
        ("round robin", Arc::new(RoundRobin::seeded(7))),
        ("random", Arc::new(Random::seeded(7))),
        ("least connections", Arc::new(LeastConnections::seeded(7))),
        ("power of two", Arc::new(PowerOfTwo::seeded(7))),
        ("peak EWMA", Arc::new(PeakEwma::seeded(7))),
    ];
    println!("{:18} {:>24} {:>15}", "", "calls per server", "mean ticks");
    for (name, balancer) in strategies {
        let view = View::new((0..4).map(|id| Arc::new(Endpoint::new(id))), 1);
        let mut running: VecDeque<(usize, usize, InFlight)> = VecDeque::new();
        let (mut calls, mut ticks) = ([0; 4], 0);
        for now in 0..10_000 {
            // A tick is a millisecond.
            let time = Time::from(Duration::from_millis(1000 + now as u64));
            running.retain(|(ends, index, _)| {
                if *ends <= now {
                    let latency = Duration::from_millis(TICKS_PER_CALL[*index] as u64);
                    let outcome = Outcome::new(OutcomeKind::Success, latency).with_now(time);
                    balancer.on_outcome(&view, *index, &outcome);
                }
                *ends > now
            });
            let index = balancer
                .pick(&view, &PickContext::new().with_now(time))
                .expect("four to choose from");
            let call = view[index].begin_at(time);
            running.push_back((now + TICKS_PER_CALL[index], index, call));
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
