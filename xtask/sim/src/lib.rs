//! `cargo xtask sim`: experiments with whole clusters in virtual time.
//!
//! A scenario is a list of cases, what happens to a cluster in one of them, and
//! which figures are taken. All else is the same for all: each case is run with each detector
//! and each seed, as many at a time as there are cores; the samples of a cell become a row of
//! medians; the rows become a table, JSON and a figure; and what we set out to reach is held
//! against them. Equal options give equal results, whatever the machine does beside.
//!
//! [`Balance`](Name::Balance) is of another kind, clients and workers instead of members; see its module.
//!
//! To add one: a file in `scenarios/`, and a line in [`Name`] and in [`run`].

mod affliction;
mod balance;
mod check;
mod detector;
mod drive;
mod options;
mod pool;
mod scenario;
mod scenarios;
mod show;
mod stage;
mod toll;

use std::{error::Error, process::ExitCode};

use clap::ValueEnum;
pub use options::{Name, Options};

use affliction::Afflicted;
use drive::drive;
use scenarios::{
    Bootstrap, Churn, Crash, Flipflop, HalfBlocked, Lifeguard, Loss, OneWay, Partition, Restart,
    Scale, Slow, Stall, Steady,
};

/// The scenarios, by what one would type.
pub fn names() -> Vec<String> {
    let values = Name::value_variants()
        .iter()
        .filter_map(Name::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect()
}

/// Runs a scenario.
///
/// # Errors
///
/// When the options leave nothing to run, or a file cannot be written.
pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    match options.scenario {
        Name::Balance => balance::run(options),
        Name::Bootstrap => drive(&Bootstrap, options),
        Name::Churn => drive(&Churn, options),
        Name::Crash => drive(&Crash, options),
        Name::Flipflop => drive(&Afflicted(Flipflop), options),
        Name::HalfBlocked => drive(&Afflicted(HalfBlocked), options),
        Name::Lifeguard => drive(&Lifeguard, options),
        Name::Loss => drive(&Afflicted(Loss), options),
        Name::OneWay => drive(&Afflicted(OneWay), options),
        Name::Partition => drive(&Partition::default(), options),
        Name::Restart => drive(&Restart, options),
        Name::Scale => drive(&Scale, options),
        Name::Slow => drive(&Afflicted(Slow), options),
        Name::Stall => drive(&Afflicted(Stall), options),
        Name::Steady => drive(&Steady, options),
    }
}
