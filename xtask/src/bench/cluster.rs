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
use xtask_load::CallReport;
use xtask_report::{Document, Progress};

use self::figures::{Compared, Row, Scaled};
use super::{
    client_process::{BenchSetup, Measurement},
    grid::Cell,
    options::{Measuring, Options as Calls},
    rpc,
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
    let calls = Calls::from(options.measuring.clone());
    run_until_interrupted(async {
        let rows = measure(&calls).await?;
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

async fn measure(options: &Calls) -> Result<Vec<Row>, Box<dyn Error>> {
    let subjects = [subject(OURS), subject(client::CLUSTER)];
    let setup = BenchSetup::new(options, &subjects)?;
    setup.issue_keys(&service::names())?;
    rpc::print_conditions(options, &setup);
    let rounds = options.rounds() as usize;
    let steps = subjects.len() * IN_FLIGHT.len() + service::FLEETS.len();
    let mut progress = Progress::new(rounds * steps);
    let mut rows = Vec::new();
    for in_flight in IN_FLIGHT {
        let measurements = subjects.map(|subject| calls(options, subject, in_flight));
        let [direct, through] =
            measure_interleaved(&setup, &measurements, rounds, &mut progress).await?;
        let compared = Compared::new(in_flight, &direct, &through);
        rows.extend(compared.map(Row::Compared));
    }
    let measurements = service::FLEETS.map(|fleet| {
        let in_flight = fleet.workers * service::IN_FLIGHT_PER_WORKER;
        calls(options, subject(fleet.subject), in_flight)
    });
    let reports = measure_interleaved(&setup, &measurements, rounds, &mut progress).await?;
    let single = &reports[0];
    for (fleet, reports) in service::FLEETS.iter().zip(&reports) {
        let scaled = Scaled::new(fleet.workers, reports, single);
        rows.extend(scaled.map(Row::Scaled));
    }
    Ok(rows)
}

/// The reports of each, a round after the other.
async fn measure_interleaved<const N: usize>(
    setup: &BenchSetup,
    measurements: &[Measurement; N],
    rounds: usize,
    progress: &mut Progress,
) -> Result<[Vec<CallReport>; N], Box<dyn Error>> {
    let mut reports = [const { Vec::new() }; N];
    for round in 1..=rounds {
        for (measurement, reports) in measurements.iter().zip(&mut reports) {
            let what = format!(
                "{} x {} (round {round} of {rounds})",
                measurement.subject.name, measurement.in_flight
            );
            progress.step(&what);
            let report = setup.calls(measurement).await;
            reports.push(report.map_err(|error| format!("{what}: {error}"))?);
        }
    }
    Ok(reports)
}

fn subject(name: &'static str) -> Subject {
    Subject {
        name,
        kind: SubjectKind::Variant,
    }
}

fn calls(options: &Calls, subject: Subject, in_flight: usize) -> Measurement {
    let cell = Cell {
        payload_bytes: PAYLOAD_BYTES,
        in_flight,
    };
    rpc::measurement(options, subject, cell)
}

const PAYLOAD_BYTES: usize = 32;
const IN_FLIGHT: [usize; 3] = [1, 64, 512];
