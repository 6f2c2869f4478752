//! Program of `cargo xtask demo`, and of the child processes that it starts.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Cluster of a director and three workers, each a process, that digests files while a worker is
/// killed, one added and one drained.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask demo",
    bin_name = "cargo xtask demo",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(flatten)]
    options: xtask_demo::Options,
    #[command(subcommand)]
    node: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Process of the demo.
    #[command(name = xtask_demo::NODE_COMMAND, hide = true)]
    Node(xtask_demo::NodeOptions),
}

fn main() -> ExitCode {
    let Arguments { options, node } = Arguments::parse();
    let outcome = match node {
        Some(Command::Node(options)) => xtask_demo::run_node(&options),
        None => xtask_demo::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
