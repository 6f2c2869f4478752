//! Registry of workers as a subject: all that a client does beside the network.

use std::{hint::black_box, ops::Range, sync::Arc, time::Duration};

use futures::executor::block_on;
use rpcnet_balance::PeakEwma;
use rpcnet_registry::{NodeId, NodeInfo, StaticMembership, Worker, WorkerRegistry};

use super::{SEED, context, outcome};
use crate::{Padding, Subject, Work, key};

pub(super) struct RegistrySubject {
    registry: WorkerRegistry,
    _in_flight: Vec<Worker>,
    _padding: Padding,
}

impl RegistrySubject {
    pub(super) fn new(workers: usize) -> Self {
        let (list, mut padding) = (StaticMembership::new(), Padding::default());
        let registry =
            WorkerRegistry::with_balancer(list.clone(), Arc::new(PeakEwma::seeded(SEED)));
        block_on(registry.start());
        for number in 0..workers {
            padding.add(number as u64);
            let addr = ([127, 0, 0, 1], 1).into();
            let node = NodeInfo::new(NodeId::new(format!("worker-{number}"), 1), addr);
            list.insert(node.with_tag("role", "worker"));
        }
        let in_flight = in_flight(&registry);
        Self {
            registry,
            _in_flight: in_flight,
            _padding: padding,
        }
    }

    /// The time goes on by itself, as where a strategy alone is measured.
    fn pick(&self, calls: Range<u64>) {
        let now = self.registry.now();
        for call in calls {
            let now = now + Duration::from_nanos(call % 1024 * 64);
            black_box(self.registry.select(FILTER, &context(call, now)).ok());
        }
    }

    fn call(&self, call: u64) {
        let begun = self.registry.now();
        let Ok(worker) = self.registry.select(FILTER, &context(call, begun)) else {
            return;
        };
        let ended = self.registry.now();
        worker.report(&outcome(call as usize, ended.since(begun), ended));
    }
}

/// Calls that stay in flight: up to three at each worker, after one answer of each.
fn in_flight(registry: &WorkerRegistry) -> Vec<Worker> {
    let mut held = Vec::new();
    for round in 0..4 {
        let all = registry.select_all(FILTER).expect("there are workers");
        for (at, worker) in all.into_iter().enumerate() {
            if round == 0 {
                let latency = Duration::from_micros(500 + key(at as u64) % 500);
                worker.report(&outcome(at, latency, registry.now()));
            } else if key(worker.endpoint_id()) % 4 >= round {
                held.push(worker);
            }
        }
    }
    held
}

impl Subject for RegistrySubject {
    fn batch(&self, work: Work, calls: Range<u64>, _alone: bool) -> Result<(), String> {
        match work {
            Work::Pick => self.pick(calls),
            Work::Call => calls.for_each(|call| self.call(call)),
        }
        Ok(())
    }
}

const FILTER: Option<&str> = Some("role=worker");
