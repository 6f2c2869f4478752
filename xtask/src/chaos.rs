//! `cargo xtask chaos`: faults and attacks in a cluster of real processes under load.
//!
//! A run starts a director and its workers, each a process of its own. The director makes calls at
//! a fixed rate (an open loop): one half is declared idempotent, hedged at p95,
//! and has a timeout for each attempt; the other half is not idempotent and has none. Meanwhile one
//! thing goes wrong: a worker is faulty, or a peer with a valid certificate attacks all workers
//! ([`attacker`]). Beside faulty members the director keeps nine tenths of its rate, and no call
//! fails that another worker could have served.
//!
//! In an upgrade, workers of a typed service are restarted one after the other as its second
//! version, while a gateway of each version calls through a cluster client: unary calls and all
//! kinds of streams, none of which may run twice. No call fails as long as there is a worker that
//! understands it, and none takes from the retry budget.
//!
//! Every execution of a handler is logged in a file, which outlives the process, so that a call
//! that must not run twice and did is found afterwards.

mod attacker;
mod call_report;
mod checks;
mod cluster;
mod execution_log;
mod load;
mod loopback;
mod named;
mod namespaces;
pub(crate) mod node;
mod protocol;
mod record;
mod report;
mod scenario;
mod typed_service;
mod untyped_calls;

use std::{error::Error, path::PathBuf, time::Duration};

use clap::Args;
use xtask_harness::{Outcome, run_until_interrupted};

use self::{checks::ScenarioRow, named::Named, scenario::Scenario};

/// Options of the command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Scenarios, one after the other; all if none is named.
    #[arg(value_parser = Scenario::parser())]
    scenarios: Vec<&'static Scenario>,
    /// Run with few workers, few calls, a short time.
    #[arg(long)]
    quick: bool,
    /// Length of the load [default: 30, with --quick 3]. It goes on until the fault is over.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Calls begun per second [default: 2000, with --quick 500].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=100_000))]
    rate: Option<u32>,
    /// Worker processes [default: 10, with --quick 4; 5 where all are upgraded].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=64))]
    workers: Option<u8>,
    /// Write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    hosts: namespaces::HostOptions,
}

impl Options {
    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 3 } else { 30 }))
    }

    fn calls_per_s(&self) -> u32 {
        self.rate.unwrap_or(if self.quick { 500 } else { 2_000 })
    }

    fn workers(&self) -> usize {
        self.workers
            .unwrap_or(if self.quick { 4 } else { 10 })
            .into()
    }

    /// Worker processes of a scenario that upgrades each of them.
    fn upgraded_workers(&self) -> usize {
        self.workers.unwrap_or(5).into()
    }
}

/// Runs the scenarios. Exits with a failure when calls were lost that must not be.
pub(crate) fn run(options: &Options) -> Outcome {
    run_until_interrupted(run_scenarios(options))
}

async fn run_scenarios(options: &Options) -> Outcome {
    if options.hosts.namespaces {
        return namespaces::run(&options.hosts, options.quick, options.json.as_ref()).await;
    }
    report::finish(&all(options).await?, options.json.as_ref())
}

async fn all(options: &Options) -> Result<Vec<ScenarioRow>, Box<dyn Error>> {
    println!(
        "{} workers, {} calls/s for {:?}, half of them idempotent\n",
        options.workers(),
        options.calls_per_s(),
        options.length()
    );
    let mut rows = Vec::new();
    for scenario in Scenario::chosen(&options.scenarios) {
        let setting = match scenario.upgrade {
            Some(_) => format!(
                " ({} workers, no call idempotent)",
                options.upgraded_workers()
            ),
            None => String::new(),
        };
        println!("{}: {}{setting}", scenario.name, scenario.description);
        rows.push(loopback::run_scenario(scenario, options).await?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        let arguments = ["chaos"].iter().chain(arguments);
        Line::try_parse_from(arguments).map(|line| line.options)
    }

    #[test]
    fn all_scenarios_run_if_none_is_named() {
        let options = parse(&[]).unwrap();
        assert!(
            Scenario::chosen(&options.scenarios)
                .into_iter()
                .eq(Scenario::ALL)
        );
        assert_eq!(
            (options.workers(), options.calls_per_s(), options.length()),
            (10, 2_000, Duration::from_secs(30))
        );
        let options = parse(&["kill", "rolling", "--quick", "--rate", "100"]).unwrap();
        assert_eq!(options.scenarios, ["kill", "rolling"].map(Scenario::named));
        assert_eq!(
            (options.workers(), options.calls_per_s(), options.length()),
            (4, 100, Duration::from_secs(3))
        );
    }

    #[test]
    fn namespaces_are_an_option() {
        assert!(!parse(&["kill"]).unwrap().hosts.namespaces);
        let only = ["--namespaces", "--only", "cut", "--only", "mtu", "--quick"];
        let options = parse(&only).unwrap();
        assert!(options.hosts.namespaces && options.quick);
    }

    #[test]
    fn invalid_options_are_rejected() {
        for wrong in [
            &["flood"][..],
            &["--workers", "1"],
            &["--seconds", "0"],
            &["--rate", "0"],
            &["--only", "cut"],
            &["--namespaces", "kill"],
            &["--namespaces", "--workers", "3"],
            &["--namespaces", "--only", "flood"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
