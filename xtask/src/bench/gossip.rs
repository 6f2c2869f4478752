//! `cargo xtask bench gossip`: a cluster on real sockets.

mod detection;
mod figures;
mod file_limit;
pub(crate) mod members;
mod phases;
mod placement;
mod processes;
mod protocol;
mod report;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use xtask_harness::{Outcome, run_until_interrupted};
use xtask_report::Document;

use self::placement::Placement;
use super::exit_code;

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Members of the cluster [default: 1000, with --quick 100].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(10..=10_000))]
    nodes: Option<u16>,
    /// Processes that they share, beside one more that has a single member, if any are killed.
    #[arg(long, value_name = "P", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    processes: u8,
    /// Length of the measurement in the steady state [default: 60, with --quick 4].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: Option<u16>,
    /// Members that are killed at the end, one of them with its process [default: 10, with
    /// --quick 3].
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(0..=1000))]
    kill: Option<u16>,
    /// A small cluster for a short time.
    #[arg(long)]
    quick: bool,
    /// Write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    fn nodes(&self) -> usize {
        self.nodes
            .unwrap_or(if self.quick { 100 } else { 1_000 })
            .into()
    }

    fn kill(&self) -> usize {
        self.kill.unwrap_or(if self.quick { 3 } else { 10 }).into()
    }

    fn window(&self) -> Duration {
        Duration::from_secs(
            self.seconds
                .unwrap_or(if self.quick { 4 } else { 60 })
                .into(),
        )
    }
}

/// Measures. Fails, without being an error, when members were found failed that were not, or some
/// never knew of those that were.
pub(crate) fn run(options: &Options) -> Outcome {
    let placement = Placement::new(options.nodes(), options.processes.into(), options.kill())?;
    file_limit::raise_file_limit(placement.members_max() + DESCRIPTORS_RESERVED)?;
    run_until_interrupted(async {
        let measured = phases::measure(options, &placement).await?;
        print!("{}", report::text(&measured));
        if let Some(file) = &options.json {
            Document::new("bench gossip", std::slice::from_ref(&measured.figures)).write(file)?;
        }
        Ok(exit_code(
            report::failed_checks(&measured.figures).is_empty(),
        ))
    })
}

/// Descriptors of a process beside its members' sockets.
const DESCRIPTORS_RESERVED: usize = 64;
