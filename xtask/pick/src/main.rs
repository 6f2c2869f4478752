//! Our strategies, measured for `cargo xtask bench pick`.

use std::process::ExitCode;

use xtask_pick::{Counting, ours, serve};

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() -> ExitCode {
    serve(ours::subject)
}
