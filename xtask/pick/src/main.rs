//! Strategies of rpcnet, measured for `cargo xtask bench pick`.

use std::process::ExitCode;

use xtask_pick::{Counting, rpcnet_subject, serve};

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() -> ExitCode {
    serve(rpcnet_subject::subject)
}
