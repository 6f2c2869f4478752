//! `cargo xtask`: the commands of this workspace.
//!
//! This file parses and dispatches; each command has its own file.

mod bench;
mod chaos;
mod ci;
mod figures;
mod fuzz;
mod markdown;
mod project;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Commands of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Benchmarks, beside peers.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Flood process of a benchmark.
    #[command(hide = true)]
    BenchFlood,
    /// Members of a cluster that is measured.
    #[command(hide = true)]
    BenchMembers,
    /// Process of a benchmark.
    #[command(hide = true)]
    BenchNode,
    /// Faults and attacks in a cluster of real processes under load: which calls fail, and what
    /// rate is kept.
    Chaos(chaos::Options),
    /// Process of a chaos run.
    #[command(hide = true)]
    ChaosNode(chaos::node::Options),
    /// Everything a change must pass: formatting, lints, tests, docs, each crate alone, benches.
    Ci(ci::Options),
    /// Cluster of a director and three workers, each a process, that digests files while a worker
    /// is killed, one added and one drained.
    Demo(xtask_demo::Options),
    /// Process of the demo.
    #[command(hide = true)]
    DemoNode(xtask_demo::NodeOptions),
    /// Figures of the README of rpcnet-swim beside what the simulations print now.
    Figures,
    /// Fuzz targets: every decoder, engines under attack, a server and a client against peers that
    /// violate the protocol, a minute each.
    Fuzz(fuzz::Options),
    /// Experiments with whole clusters in virtual time: rpcnet beside its rivals.
    Sim(xtask_sim::Options),
    /// Rules that no compiler checks: dependencies, purity, documents, language.
    Tidy(tidy::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Bench(what) => bench::run(&what),
        Command::BenchFlood => bench::flood_process::run(),
        Command::BenchMembers => bench::gossip::members::run(),
        Command::BenchNode => Ok(bench::node::run()),
        Command::Chaos(options) => chaos::run(&options),
        Command::ChaosNode(options) => chaos::node::run(&options),
        Command::Ci(options) => ci::run(&options),
        Command::Demo(options) => xtask_demo::run(&options),
        Command::DemoNode(options) => xtask_demo::run_node(&options),
        Command::Figures => figures::run(),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Sim(options) => xtask_sim::run(&options),
        Command::Tidy(options) => tidy::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_unknown_command_is_refused() {
        assert!(Arguments::try_parse_from(["xtask", "tidy"]).is_ok());
        assert!(Arguments::try_parse_from(["xtask", "untidy"]).is_err());
    }
}
