//! `cargo xtask bench cluster`: cost of a [`ClusterClient`](rpcnet_client::ClusterClient), and
//! growth of the rate with the number of workers.
//!
//! First calls of 32 B to one worker, through a `ClusterClient` that selects it by a tag, beside
//! calls of an `RpcClient` that is connected to it: the same server, one connection each, and so
//! the same lanes. Then workers that take a millisecond for a call and serve eight at a time, more
//! and more of them, each with more calls in flight than it serves.
//!
//! Both alternate: in each round one follows the other. Ratios and differences are taken within a
//! round, and the median is that of the rounds.

pub(crate) mod client;
mod figures;
mod report;
pub(crate) mod service;

use std::{error::Error, process::ExitCode};

use clap::Args;
use xtask_harness::{Outcome, run_until_interrupted};
use xtask_report::Document;

use self::figures::{Compared, Row, Scaled};
use super::{
    client_process::BenchSetup,
    options::Measuring,
    rounds, rows, rpc,
    subjects::{OURS, Subject, SubjectKind},
};

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    measuring: Measuring,
}

/// Measures. Fails, without being an error, when a target is missed, unless it was `--quick`.
///
/// # Errors
///
/// When it could not be carried through.
pub(crate) fn run(options: &Options) -> Outcome {
    run_until_interrupted(async {
        let rows = measure(&options.measuring).await?;
        print!("{}", report::text(&rows));
        if let Some(file) = &options.measuring.json {
            Document::new("bench cluster", &rows).write(file)?;
        }
        if let Some(file) = &options.measuring.svg {
            std::fs::write(file, report::figure(&rows))?;
        }
        let missed = report::targets(&rows).iter().any(|target| !target.met);
        Ok(if missed && !options.measuring.quick {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    })
}

async fn measure(options: &Measuring) -> Result<Vec<Row>, Box<dyn Error>> {
    let row = |subject, in_flight| {
        let subject = Subject::new(subject, SubjectKind::Variant);
        rows::Row::calls(subject, options.load(PAYLOAD_BYTES, in_flight))
    };
    let compared =
        IN_FLIGHT.map(|in_flight| vec![row(OURS, in_flight), row(client::CLUSTER, in_flight)]);
    let scaled = service::FLEETS
        .map(|fleet| row(fleet.subject, fleet.workers * service::IN_FLIGHT_PER_WORKER));
    let groups = [&compared[..], &[scaled.to_vec()]].concat();

    let setup = BenchSetup::new(options, &[])?;
    setup.issue_keys(&service::names())?;
    rpc::print_conditions(options, &setup);
    let measured = rounds::measure(options, &setup, groups).await?;
    let (compared, scaled) = measured.split_at(2 * IN_FLIGHT.len());
    let compared = compared.chunks(2).filter_map(|pair| {
        let in_flight = pair[0].load.in_flight;
        Compared::new(in_flight, &pair[0].reports, &pair[1].reports).map(Row::Compared)
    });
    let single = &scaled[0].reports;
    let scaled = service::FLEETS
        .iter()
        .zip(scaled)
        .filter_map(|(fleet, row)| {
            Scaled::new(fleet.workers, &row.reports, single).map(Row::Scaled)
        });
    Ok(compared.chain(scaled).collect())
}

const PAYLOAD_BYTES: usize = 32;
const IN_FLIGHT: [usize; 3] = [1, 64, 512];
