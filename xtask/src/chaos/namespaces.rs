//! `cargo xtask chaos --namespaces`: faults of networks and machines, between hosts that are
//! network namespaces.
//!
//! Twelve hosts hang on one bridge. Each runs one node process; one of them is a client that makes
//! idempotent calls all the time. Each situation injects one fault: packets are lost, hosts are cut
//! off, an address changes, a clock is behind. The checks use the events and views that every node
//! sends, and the calls.
//!
//! Needs the right to make network namespaces, and the programs `ip` and `nft`. Where these are
//! missing the command says so and succeeds, unless they are [required](HostOptions).

mod faults;
mod hosts;
mod situation_row;
mod situation_run;
pub(super) mod situations;
mod views;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::Args;
use xtask_harness::Outcome;

use self::{
    hosts::{HostNetwork, HostNetworkError},
    situation_row::SituationRow,
    situations::Situation,
};
use super::{named::Named, report};

/// Options of `chaos --namespaces`.
#[derive(Debug, Clone, Args)]
pub(crate) struct HostOptions {
    /// Faults between hosts of their own, made as network namespaces, instead of processes on this
    /// machine.
    #[arg(long, conflicts_with_all = ["scenarios", "seconds", "rate", "workers"])]
    pub(crate) namespaces: bool,
    /// Only this situation; may be given several times.
    #[arg(long, value_parser = Situation::parser(), value_name = "NAME", requires = "namespaces")]
    only: Vec<&'static Situation>,
    /// Fail where namespaces cannot be made, instead of skipping everything.
    #[arg(long, requires = "namespaces")]
    require: bool,
    /// Keep the logs of the node processes in this folder.
    #[arg(long, value_name = "FOLDER", requires = "namespaces")]
    logs: Option<PathBuf>,
}

/// Runs the situations one after the other. Exits with a failure when a check failed.
pub(crate) async fn run(options: &HostOptions, quick: bool, json: Option<&PathBuf>) -> Outcome {
    let network = match HostNetwork::new(HOSTS) {
        Ok(network) => network,
        Err(HostNetworkError::Unsupported(why)) if !options.require => {
            println!("skipped: {why}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    let rows = all(options, quick, &network).await?;
    report::finish(&rows, json)
}

async fn all(
    options: &HostOptions,
    quick: bool,
    network: &HostNetwork,
) -> Result<Vec<SituationRow>, Box<dyn Error>> {
    println!("{HOSTS} hosts, one node each\n");
    let temporary = tempfile::tempdir()?;
    let logs = match &options.logs {
        Some(folder) => folder.as_path(),
        None => temporary.path(),
    };
    let mut rows = Vec::new();
    for situation in Situation::chosen(&options.only) {
        println!("{}: {}", situation.name, situation.description);
        if situation.name == "clock" && situation_run::libfaketime_path().is_none() {
            println!("  skipped: libfaketime is missing");
            if options.require {
                return Err("libfaketime is missing (package libfaketime)".into());
            }
            continue;
        }
        rows.push(situation_run::run_situation(situation, network, logs, quick).await?);
    }
    Ok(rows)
}

/// The host whose node makes the calls.
const CLIENT: usize = 2;
/// Number of hosts: enough for a side of two that is no majority, few enough for a small machine.
const HOSTS: usize = 12;
