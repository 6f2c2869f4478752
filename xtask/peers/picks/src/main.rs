//! Peers of `cargo xtask bench pick --peers`.
//!
//! Threads, clocks and the count of allocations are those of `xtask-pick`; here is how each peer is
//! put together, each as its users would.

mod pingora;
mod tower_p2c;

use std::{
    pin::pin,
    process::ExitCode,
    task::{Context, Poll, Waker},
};

use xtask_pick::{CountingAllocator, Subject, serve};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    serve(subject)
}

fn subject(name: &str, workers: usize) -> Result<Box<dyn Subject>, String> {
    match name {
        "tower-p2c-peak-ewma" => Ok(Box::new(tower_p2c::Tower::new(workers))),
        name => pingora::subject(name, workers),
    }
}

/// Output of a future that is ready at its first poll.
fn at_once<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err("what is measured never waits".to_owned()),
    }
}
