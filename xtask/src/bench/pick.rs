//! `cargo xtask bench pick`: cost of a choice among workers.
//!
//! Two figures for each strategy. A *pick* is the choice alone, with the time and the key of a call
//! known. A *call* is all that a call pays for being balanced: the choice, the count of calls in
//! flight, two readings of the clock, the record of the load that the worker reports, and the
//! update at the end. The workers' state lies scattered in memory; one thread picks, or two on
//! cores of their own, which share all state. One thread's time is that of its CPU clock, two
//! threads' that on the wall, so a busy machine makes the second look worse and never better.
//!
//! Below the strategies `registry-select` is the whole work of a client: a selection by a tag, and
//! for a call the report of its outcome; all but the network.
//!
//! In each round one strategy follows the other, peers among them; figures are medians over the
//! rounds, ratios those within a round. Allocations are counted by the processes' allocator.

mod figures;
mod process;
mod report;
mod targets;

use std::{error::Error, time::Duration};

use clap::Args;
use xtask_harness::{Outcome, run_until_interrupted};
use xtask_pick::{PickOrder, Reading, Work, rpcnet_subject};

use self::{
    figures::{Cell, Row},
    process::PickProcess,
    targets::StrategyTarget,
};
use super::{client_process::pinned_cores, exit_code, options::Files, profile::RunProfile, rounds};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Measure peers too: tower's power of two choices by peak EWMA, pingora's selections. They are
    /// built first, which takes minutes and cmake.
    #[arg(long)]
    peers: bool,
    /// Few workers, and one round of 2 ms: whether it works, and what it allocates.
    #[arg(long)]
    quick: bool,
    /// Times that everything is measured; figures are medians over them [default: 7].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Length of one measurement [default: 50].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    millis: Option<u64>,
    /// Only these strategies.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    strategy: Vec<String>,
    /// Only these numbers of workers.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=10_000))]
    workers: Vec<u16>,
    #[command(flatten)]
    files: Files,
}

impl Options {
    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 7 })
    }

    fn window(&self) -> Duration {
        Duration::from_millis(self.millis.unwrap_or(if self.quick { 2 } else { 50 }))
    }

    fn workers(&self) -> Vec<usize> {
        match &self.workers[..] {
            [] if self.quick => vec![3, 300],
            [] => vec![3, 30, 300, 3_000],
            asked => asked.iter().map(|workers| (*workers).into()).collect(),
        }
    }

    /// Names of what is measured, ours first.
    fn strategies(&self) -> Result<Vec<&'static str>, String> {
        let ours = rpcnet_subject::STRATEGIES
            .iter()
            .map(|strategy| strategy.name);
        let peers = targets::PEERS.iter().filter(|_| self.peers);
        let known: Vec<_> = ours.chain(peers.map(|(name, ..)| *name)).collect();
        for name in &self.strategy {
            if !known.contains(&name.as_str()) {
                return Err(format!(
                    "there is no strategy {name:?}, only {}",
                    known.join(", ")
                ));
            }
        }
        let wanted =
            |name: &&str| self.strategy.is_empty() || self.strategy.iter().any(|it| it == name);
        Ok(known.into_iter().filter(wanted).collect())
    }
}

/// Measures. Fails, without being an error, when a target is missed; with `--quick`, when there are
/// allocations.
pub(crate) fn run(options: &Options) -> Outcome {
    let strategies = options.strategies()?;
    let cores = THREADS.len().min(xtask_load::cores().len());
    let how = format!("no runtime, threads on cores of their own, {cores} of those there are");
    let profile = RunProfile::begin(&how, pinned_cores())?;
    println!(
        "{}\nrounds: {} of {:?}\n",
        profile.text(),
        options.rounds(),
        options.window()
    );
    run_until_interrupted(async {
        let mut processes = vec![PickProcess::start(false)?];
        if options.peers {
            processes.push(PickProcess::start(true)?);
        }
        let rows = measure(options, &strategies, async |order| {
            let is_peer = targets::is_peer(&order.strategy);
            processes[usize::from(is_peer)].measure(order).await
        })
        .await?;
        let targets = targets::check_targets(&rows);
        print!("{}", report::text(&rows, &targets));
        println!("{}", profile.end_text());
        let files = &options.files;
        files.write("bench pick", &rows, &profile, || report::figure(&rows))?;
        let counts = |it: &&StrategyTarget| it.is_certain || !options.quick;
        Ok(exit_code(
            targets.iter().filter(counts).all(|it| it.target.met),
        ))
    })
}

/// A cell with its readings so far.
type Measured = (Cell, Vec<Reading>);

fn groups(options: &Options, strategies: &[&'static str]) -> Vec<Vec<Measured>> {
    let mut groups = Vec::new();
    for workers in options.workers() {
        for work in [Work::Pick, Work::Call] {
            let strategies = strategies.iter().filter(|it| targets::supports(it, work));
            let cells = |strategy| {
                THREADS.map(|threads| {
                    let cell = Cell {
                        strategy,
                        workers,
                        threads,
                        work,
                    };
                    (cell, Vec::new())
                })
            };
            groups.push(strategies.copied().flat_map(cells).collect());
        }
    }
    groups
}

async fn measure(
    options: &Options,
    strategies: &[&'static str],
    mut reading: impl AsyncFnMut(&PickOrder) -> Result<Reading, Box<dyn Error>>,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut groups = groups(options, strategies);
    let name = |(cell, _): &Measured| format!("{}, {} workers", cell.strategy, cell.workers);
    rounds::measure(
        options.rounds(),
        &mut groups,
        name,
        async |(cell, readings)| {
            let order = PickOrder {
                strategy: cell.strategy.to_owned(),
                workers: cell.workers,
                threads: cell.threads,
                work: cell.work,
                window: options.window(),
            };
            readings.push(reading(&order).await?);
            Ok(())
        },
    )
    .await?;
    let measured = groups.into_iter().flatten();
    Ok(measured
        .map(|(cell, readings)| Row::new(cell, readings))
        .collect())
}

const THREADS: [usize; 2] = [1, 2];

#[cfg(test)]
mod tests;
