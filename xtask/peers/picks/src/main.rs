//! Peers of `cargo xtask bench pick --peers`.
//!
//! Threads, clocks and the count of allocations are those of `xtask-pick`; here is how each peer is
//! put together, each as its users would.

mod pingora;
mod tower_p2c;

use std::process::ExitCode;

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
