//! Command line of the simulations.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of a simulation.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Scenario to run.
    pub scenario: ScenarioName,
    /// A part of it that takes seconds, with fewer seeds: for CI.
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
    pub fleet: Vec<String>,
    /// Ours without each of its rules in addition.
    #[arg(long)]
    pub ablation: bool,
    /// Only the cases whose description contains this.
    #[arg(long, value_name = "TEXT")]
    pub case: Option<String>,
    /// Clusters that run at the same time [default: one for each core].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// The scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScenarioName {
    /// Clients choose among workers that are slow, fail, hang, or have too much to do.
    Balance,
    /// Many start at once, or one by one while messages are lost: when all know all.
    Bootstrap,
    /// Members crash and new ones come, all the time.
    Churn,
    /// Members crash, one or many at once: who knows when.
    Crash,
    /// Some hear nothing for 20 s, then all for 20 s, and so on.
    Flipflop,
    /// Sockets of which one direction hangs.
    HalfBlocked,
    /// The grid of Lifeguard's experiments: members whose messages are withheld again and again.
    Lifeguard,
    /// Every link loses some of what is sent.
    Loss,
    /// Some lose most of what comes in.
    OneWay,
    /// The network is divided, and heals.
    Partition,
    /// All members start again within a minute, under their names.
    Restart,
    /// How each cost grows with the number of members.
    Scale,
    /// Processes take their time for each message.
    Slow,
    /// Processes stop for a while.
    Stall,
    /// Cost of the steady state.
    Steady,
}
