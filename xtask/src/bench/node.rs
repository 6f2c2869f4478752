//! Process of a measurement of rpcnet.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use xtask_load::{Subject, run_client, run_server};

use super::{
    cluster::{
        client::{CLUSTER, ClusterSubject},
        service::workers,
    },
    rpcnet_subject::Rpcnet,
};
use crate::project::Outcome;

/// Command line of a process.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    role: Role,
    /// Name of the subject, as in the setup of the process.
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
    Ok(match options.subject.as_str() {
        CLUSTER => options.role.run::<ClusterSubject>(),
        fleet if workers(fleet).is_some() => options.role.run::<ClusterSubject>(),
        _ => options.role.run::<Rpcnet>(),
    })
}

impl Role {
    fn run<S: Subject>(self) -> ExitCode {
        match self {
            Self::Server => run_server::<S>(),
            Self::Client => run_client::<S>(),
        }
    }
}

/// The hidden subcommand.
pub(crate) const COMMAND: &str = "bench-node";
