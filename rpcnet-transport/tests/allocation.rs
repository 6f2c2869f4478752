//! What small calls allocate, client and server together.

// A global allocator cannot be written without it; this one passes every request on to the system's.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::Ipv4Addr,
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use rpcnet_transport::{DevCa, Endpoint, Router, RpcClient, TransportConfig};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: memory is managed by `System`; beside it only thread-local numbers without destructors are touched.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        HELD_BYTES.with(|held| held.set(held.get() + layout.size() as i64));
        // SAFETY: the caller's promises are passed on as they are.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.with(|held| held.set(held.get() - layout.size() as i64));
        // SAFETY: the caller's promises are passed on as they are.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const IN_FLIGHT: usize = 64;
const CALLS: usize = 20_000;

/// Makes so many calls, so many of them at a time, and says how many allocations each has cost.
async fn allocations_per_call(client: &RpcClient, calls: usize, in_flight: usize) -> f64 {
    let body = Bytes::from_static(&[7; 32]);
    let begin = || client.call("echo", body.clone());
    let before = ALLOCATIONS.get();
    let mut under_way: FuturesUnordered<_> = (0..in_flight).map(|_| begin()).collect();
    let mut begun = in_flight;
    while let Some(reply) = under_way.next().await {
        assert_eq!(reply.expect("a reply"), body);
        if begun < calls {
            begun += 1;
            under_way.push(begin());
        }
    }
    (ALLOCATIONS.get() - before) as f64 / calls as f64
}

/// Everything on one thread, so that everything is counted.
#[tokio::test(flavor = "current_thread")]
async fn a_small_call_allocates_next_to_nothing() {
    let ca = DevCa::new("allocation");
    let bind = |name| {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let identity = ca.issue(name).expect("a node name");
        Endpoint::bind(any, TransportConfig::default(), identity).expect("a free port")
    };
    let (server, caller) = (bind("server"), bind("client"));
    let server = server.serve(Router::new().raw("echo", |_cx, body| async move { Ok(body) }));
    let client = caller
        .connect(server.local_addr(), "server")
        .await
        .expect("a connection");
    let held_before = HELD_BYTES.get();
    allocations_per_call(&client, 1, 1).await;
    let lane_bytes = HELD_BYTES.get() - held_before;
    // Buffers and tables grow once.
    allocations_per_call(&client, CALLS, IN_FLIGHT).await;
    let [many, one] = [
        allocations_per_call(&client, CALLS, IN_FLIGHT).await,
        allocations_per_call(&client, CALLS / 10, 1).await,
    ];
    println!(
        "allocations per call: {many:.2} at {IN_FLIGHT} in flight, {one:.2} one by one; \
         a lane holds about {lane_bytes} bytes on both sides"
    );
    // One of the `FuturesUnordered` of this test is in it.
    assert!(
        many < 2.5,
        "{many} allocations per call at {IN_FLIGHT} in flight"
    );
    assert!(one < 15.0, "{one} allocations per call, one by one");
}
