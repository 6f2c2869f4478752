//! Command line of the simulations.

use std::path::PathBuf;

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser},
};

use crate::{balance, scenarios};

/// Options of a simulation.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Scenario to run.
    #[arg(value_parser = scenario_parser())]
    pub scenario: String,
    /// Part of the scenario that takes seconds, with fewer seeds: for CI.
    #[arg(long)]
    pub quick: bool,
    /// Write the rows to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the rows into this file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Runs of each cell [default: depends on the scenario].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: Option<u64>,
    /// The first seed.
    #[arg(long, value_name = "FIRST", default_value_t = 1)]
    pub seed: u64,
    /// Only these detectors [default: depends on the scenario].
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub detector: Vec<String>,
    /// Only this strategy, of `balance`; more than once for several [default: all].
    #[arg(long, value_name = "NAME")]
    pub strategy: Vec<String>,
    /// Only this scenario, of `balance`; more than once for several, `load` for all loads.
    #[arg(long = "scenario", value_name = "NAME")]
    pub balance_scenario: Vec<String>,
    /// Add ours without each of its rules.
    #[arg(long)]
    pub ablation: bool,
    /// Only the cases whose description contains this: as whole words, if any does.
    #[arg(long, value_name = "TEXT")]
    pub case: Option<String>,
    /// Clusters that run at the same time [default: one for each core].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Options {
    pub(crate) const fn extent(&self) -> Extent {
        match self.quick {
            true => Extent::Quick,
            false => Extent::Full,
        }
    }

    /// Seeds of a cell, from the first on, with so many unless others are asked for.
    pub(crate) fn seeds(&self, default: u64) -> std::ops::Range<u64> {
        self.seed..self.seed + self.seeds.unwrap_or(default)
    }
}

/// Extent of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Quick,
    Full,
}

impl Extent {
    /// The one or the other.
    pub(crate) fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

pub(crate) fn scenario_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_clusters = scenarios::ALL.iter().map(|it| (it.name, it.help));
    [(balance::NAME, balance::HELP)]
        .into_iter()
        .chain(of_clusters)
}

fn scenario_parser() -> PossibleValuesParser {
    let values = scenario_names().map(|(name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values)
}
