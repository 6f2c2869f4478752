//! Tests that a selection whose filter was seen before allocates nothing.

use std::time::Duration;

use futures::executor::block_on;
use rpcnet_balance::{BackoffRange, Outcome, OutcomeKind, PickContext, health::HealthConfig};
use rpcnet_registry::{LoadBalancingStrategy, NodeId, NodeInfo, StaticMembership, WorkerRegistry};
use rpcnet_testing::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_selection_allocates_nothing() {
    let cluster: StaticMembership = (0..16)
        .map(|index| {
            let id = NodeId::new(format!("worker-{index}"), 1);
            NodeInfo::new(id, ([127, 0, 0, 1], 7000 + index).into()).with_tag("role", "worker")
        })
        .collect();
    for &strategy in LoadBalancingStrategy::ALL {
        // No flagged worker is probed while allocations are counted.
        let health = HealthConfig::new().with_unreachable_backoff(BackoffRange::constant(HOUR));
        let registry = WorkerRegistry::new(cluster.clone(), strategy).with_health(health);
        block_on(registry.start());
        let select = || {
            let worker = registry
                .select(Some("role=worker"), &PickContext::new())
                .unwrap();
            let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO);
            worker.report(&outcome);
            assert_eq!(worker.extension(|| 7_u32), Some(&7));
            let tried = [worker.endpoint_id()];
            let cx = PickContext::new().with_excluded(&tried);
            drop(registry.select(Some("role=worker"), &cx).unwrap());
        };
        let before = CountingAllocator::allocations();
        select();
        let first = CountingAllocator::allocations() - before;
        assert!(first > 0, "the counter does not count");
        // Some workers are flagged; all of them have their extensions.
        let workers = registry.select_all(None).unwrap();
        for worker in &workers {
            assert_eq!(worker.extension(|| 7_u32), Some(&7));
        }
        registry.on_unreachable(workers[0].endpoint());
        drop(workers);
        (0..100).for_each(|_| select());
        let before = CountingAllocator::allocations();
        (0..100).for_each(|_| select());
        assert_eq!(CountingAllocator::allocations() - before, 0, "{strategy:?}");
    }
}

const HOUR: Duration = Duration::from_secs(3600);
