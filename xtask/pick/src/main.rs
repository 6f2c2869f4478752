//! Strategies of rpcnet, measured for `cargo xtask bench pick`.

use std::process::ExitCode;

use xtask_pick::{CountingAllocator, rpcnet_subject, serve};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    serve(rpcnet_subject::subject)
}
