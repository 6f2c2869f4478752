//! `cargo xtask sim`: experiments with whole clusters in virtual time.
//!
//! A scenario is data: its cases, each with the events of a cluster and the measures that are
//! taken, its table, targets and figure. All else is the same for all: each case is run with each
//! detector and each seed, as many at a time as there are cores; the samples of a cell become a row
//! of medians; the rows become a table, JSON and a figure, and are compared with targets. Equal
//! options give equal results, whatever else the machine does.
//!
//! `balance` is of another kind, clients and workers instead of members; see its module.
//!
//! The largest clusters have 10,000 members, in one run each:
//! `cargo xtask sim bootstrap --detector rpcnet --case "10000 at once"` and
//! `cargo xtask sim crash --detector rpcnet --case "1 of 10000"`.
//! To try fewer seeds or sizes than a scenario has, see `--seeds` and `--case`.
//!
//! To add a scenario: a file in `scenarios/`, and a line in `scenarios::ALL`.

mod balance;
mod check;
mod cluster_setup;
pub mod detector;
mod experiment;
mod fault_impact;
mod measure;
mod options;
mod render;
mod row;
mod scenario;
mod scenarios;
mod work_pool;

use std::{error::Error, process::ExitCode};

pub use options::Options;

/// The scenarios, by what one would type.
pub fn names() -> Vec<String> {
    let names = options::scenario_names();
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Runs a scenario.
pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let scenario = scenarios::ALL.iter().find(|it| it.name == options.scenario);
    match scenario {
        Some(scenario) => scenario.run(options),
        None => balance::run(options),
    }
}
