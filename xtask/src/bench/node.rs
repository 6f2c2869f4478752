//! One process of a measurement of ours.

use clap::{Args, ValueEnum};
use xtask_load::{run_client, run_server};

use super::ours::Rpcnet;
use crate::project::Outcome;

/// Which process this is.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    role: Role,
    /// What is measured; what the process is told says the same.
    subject: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Server,
    Client,
}

/// Runs it: it takes its orders from standard input.
///
/// # Errors
///
/// None: they are told on standard output.
pub(crate) fn run(options: &Options) -> Outcome {
    Ok(match options.role {
        Role::Server => run_server::<Rpcnet>(),
        Role::Client => run_client::<Rpcnet>(),
    })
}

/// The hidden subcommand.
pub(crate) const COMMAND: &str = "bench-node";
