//! A pick allocates nothing.

// A global allocator cannot be written without it; this one passes every request on to the system's.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
    sync::Arc,
    time::Duration,
};

use rpcnet_balance::{
    Balancer, Endpoint, LeastConnections, Outcome, OutcomeKind, PickContext, Random, ReportedLoad,
    RoundRobin, View, from_fn,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: memory is managed by `System`; beside it only a thread-local number without destructor is touched.
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

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
}

#[test]
fn a_pick_allocates_nothing() {
    for len in [2, 16, 256] {
        let view = View::new((0..len).map(|id| Arc::new(Endpoint::new(id))), 1);
        let balancers: [Arc<dyn Balancer>; 4] = [
            Arc::new(RoundRobin::seeded(1)),
            Arc::new(Random::seeded(1)),
            Arc::new(LeastConnections::seeded(1)),
            Arc::new(from_fn(|view, cx| {
                (0..view.len())
                    .filter(|&index| cx.allows(&view[index]))
                    .min_by_key(|&index| view[index].reported_load().map(|load| load.in_flight))
            })),
        ];
        for balancer in balancers {
            let count = allocations(|| {
                for round in 0..100 {
                    let excluded = [round % len];
                    let cx = PickContext::new().with_excluded(&excluded).with_key(round);
                    for cx in [PickContext::new(), cx] {
                        let index = black_box(balancer.pick(&view, &cx)).expect("some are left");
                        let _call = view[index].begin();
                        let load = ReportedLoad::new().with_in_flight(round as u32);
                        view[index].note_reported_load(load);
                        let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO)
                            .with_reported_load(Some(load));
                        balancer.on_outcome(&view, index, &outcome);
                    }
                }
            });
            assert_eq!(count, 0, "{balancer:?} with {len} endpoints");
        }
    }
}
