//! `cargo xtask sim`: experiments with whole clusters in virtual time.
//!
//! A scenario is a list of cases, the events of a cluster in one of them, and the figures that are
//! taken. All else is the same for all: each case is run with each detector and each seed, as many
//! at a time as there are cores; the samples of a cell become a row of medians; the rows become a
//! table, JSON and a figure, and are compared with targets. Equal options give equal results,
//! whatever else the machine does.
//!
//! [`Balance`](ScenarioName::Balance) is of another kind, clients and workers instead of members;
//! see its module.
//!
//! To add a scenario: a file in `scenarios/`, and a line in [`ScenarioName`] and in [`run`].

mod balance;
mod check;
mod cluster_setup;
pub mod detector;
mod fault_impact;
mod fault_scenario;
mod options;
mod render;
mod runner;
mod scenario;
mod scenarios;
mod work_pool;

use std::{error::Error, process::ExitCode};

use clap::ValueEnum;
pub use options::{Options, ScenarioName};

use runner::run_scenario;
use scenarios::{Bootstrap, Churn, Crash, Lifeguard, Partition, Restart, Scale, Steady, faults};

/// The scenarios, by what one would type.
pub fn names() -> Vec<String> {
    let values = ScenarioName::value_variants()
        .iter()
        .filter_map(ScenarioName::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect()
}

/// Runs a scenario.
///
/// # Errors
///
/// When the options leave nothing to run, or a file cannot be written.
pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    match options.scenario {
        ScenarioName::Balance => balance::run(options),
        ScenarioName::Bootstrap => run_scenario(&Bootstrap, options),
        ScenarioName::Churn => run_scenario(&Churn, options),
        ScenarioName::Crash => run_scenario(&Crash, options),
        ScenarioName::Flipflop => run_scenario(&faults::FLIPFLOP, options),
        ScenarioName::HalfBlocked => run_scenario(&faults::HALF_BLOCKED, options),
        ScenarioName::Lifeguard => run_scenario(&Lifeguard, options),
        ScenarioName::Loss => run_scenario(&faults::LOSS, options),
        ScenarioName::OneWay => run_scenario(&faults::ONE_WAY, options),
        ScenarioName::Partition => run_scenario(&Partition::default(), options),
        ScenarioName::Restart => run_scenario(&Restart, options),
        ScenarioName::Scale => run_scenario(&Scale, options),
        ScenarioName::Slow => run_scenario(&faults::SLOW, options),
        ScenarioName::Stall => run_scenario(&faults::STALL, options),
        ScenarioName::Steady => run_scenario(&Steady, options),
    }
}
