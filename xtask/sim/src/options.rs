//! Command line of the simulations.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of a simulation.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Scenario to run.
    pub scenario: ScenarioName,
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
    pub fleet: Vec<String>,
    /// Add ours without each of its rules.
    #[arg(long)]
    pub ablation: bool,
    /// Only the cases whose description contains this.
    #[arg(long, value_name = "TEXT")]
    pub case: Option<String>,
    /// Clusters that run at the same time [default: one for each core].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Scenario of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScenarioName {
    /// Balancers among workers that are slow, fail, hang, or are overloaded.
    Balance,
    /// Bootstrap of members that start at once, or one by one: time until views are full.
    Bootstrap,
    /// Churn: members crash and new ones join, all the time.
    Churn,
    /// Crash of one member or of many at once: time until members know of it.
    Crash,
    /// Flapping members: they receive nothing for 20 s, then everything for 20 s, and so on.
    Flipflop,
    /// Half-blocked sockets: one direction hangs.
    HalfBlocked,
    /// Grid of Lifeguard's experiments: members whose messages are withheld again and again.
    Lifeguard,
    /// Loss on every link.
    Loss,
    /// Inbound loss: some members lose most of what they are sent.
    OneWay,
    /// Partition of the network, which heals.
    Partition,
    /// Restart of all members within a minute, under their names.
    Restart,
    /// Growth of each cost with the number of members.
    Scale,
    /// Slow processes: each message takes time.
    Slow,
    /// Stalled processes: they stop for a while.
    Stall,
    /// Cost of the steady state.
    Steady,
}
