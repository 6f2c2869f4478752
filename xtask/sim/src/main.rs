//! Program with the experiments alone, which is built in seconds.
//!
//! `cargo run --release -p xtask-sim -- crash --quick`

use std::process::ExitCode;

use clap::Parser;

/// Experiments with whole clusters in virtual time.
#[derive(Debug, Parser)]
#[command(name = "xtask-sim")]
struct Arguments {
    #[command(flatten)]
    options: xtask_sim::Options,
}

fn main() -> ExitCode {
    xtask_sim::run(&Arguments::parse().options).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
