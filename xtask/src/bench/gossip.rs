//! `cargo xtask bench gossip`: a cluster on real sockets.

mod detection;
mod figures;
pub(crate) mod members;
mod phases;
mod placement;
mod processes;
mod protocol;
mod report;

use std::path::PathBuf;

use clap::{Args, builder::ArgPredicate::IsPresent};
use xtask_harness::{Outcome, run_until_interrupted};
use xtask_load::raise_file_limit;
use xtask_report::Document;

use self::placement::Placement;
use super::{exit_code, profile::RunProfile};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Members of the cluster; 100 with --quick.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(10..=10_000))]
    #[arg(default_value = "1000", default_value_if("quick", IsPresent, "100"))]
    nodes: u16,
    /// Processes that they share, beside one more that has a single member, if any are killed.
    #[arg(long, value_name = "P", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    processes: u8,
    /// Length of the measurement in the steady state; 4 with --quick.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=3600))]
    #[arg(default_value = "60", default_value_if("quick", IsPresent, "4"))]
    seconds: u16,
    /// Members that are killed at the end, one of them with its process; 3 with --quick.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(0..=1000))]
    #[arg(default_value = "10", default_value_if("quick", IsPresent, "3"))]
    kill: u16,
    /// A small cluster for a short time.
    #[arg(long)]
    quick: bool,
    /// Write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures. Fails, without being an error, when members were found failed that were not, or some
/// never knew of those that were.
pub(crate) fn run(options: &Options) -> Outcome {
    let placement = Placement::new(
        options.nodes.into(),
        options.processes.into(),
        options.kill.into(),
    )?;
    raise_file_limit(placement.members_max() + DESCRIPTORS_RESERVED)
        .map_err(|error| format!("{error}: more --processes, fewer --nodes"))?;
    let profile = RunProfile::begin("multi-thread runtimes, not pinned to cores", [None, None])?;
    println!("{}\n", profile.text());
    run_until_interrupted(async {
        let measured = phases::measure(options, &placement).await?;
        print!("{}", report::text(&measured));
        println!("{}", profile.end_text());
        if let Some(file) = &options.json {
            Document::new("bench gossip", std::slice::from_ref(&measured.figures))
                .with_machine(profile.json())
                .write(file)?;
        }
        Ok(exit_code(
            report::failed_checks(&measured.figures).is_empty(),
        ))
    })
}

/// Descriptors of a process beside its members' sockets.
const DESCRIPTORS_RESERVED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::parse_as;

    #[test]
    fn a_quick_run_is_small_and_short_unless_it_is_told_otherwise() {
        let sizes = |arguments: &[&str]| {
            let options: Options = parse_as(arguments).unwrap();
            (options.nodes, options.seconds, options.kill)
        };
        assert_eq!(sizes(&[]), (1_000, 60, 10));
        assert_eq!(sizes(&["--quick"]), (100, 4, 3));
        assert_eq!(sizes(&["--quick", "--kill", "0"]), (100, 4, 0));
    }
}
