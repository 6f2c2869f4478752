//! Tests that a selection whose filter was seen before allocates nothing.

// A global allocator cannot be written without it; this one passes every request to the system's.
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use futures::executor::block_on;
use rpcnet_balance::{Outcome, OutcomeKind, PickContext, health::HealthConfig};
use rpcnet_registry::{LoadBalancingStrategy, NodeId, NodeInfo, StaticMembership, WorkerRegistry};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: `System` manages the memory; in addition only a thread-local number without destructor is
// touched.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on as they are.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on as they are.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

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
        let health = HealthConfig::new().with_unreachable_backoff(HOUR, HOUR);
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
        let before = ALLOCATIONS.get();
        select();
        let first = ALLOCATIONS.get() - before;
        assert!(first > 0, "the counter does not count");
        // Some workers are flagged; all of them have their extensions.
        let workers = registry.select_all(None).unwrap();
        for worker in &workers {
            assert_eq!(worker.extension(|| 7_u32), Some(&7));
        }
        registry.on_unreachable(workers[0].endpoint());
        drop(workers);
        (0..100).for_each(|_| select());
        let before = ALLOCATIONS.get();
        (0..100).for_each(|_| select());
        assert_eq!(ALLOCATIONS.get() - before, 0, "{strategy:?}");
    }
}

const HOUR: Duration = Duration::from_secs(3600);
