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
mod report;
pub(crate) mod service;

use std::error::Error;

use clap::Args;
use xtask_harness::{Outcome, run_until_interrupted};

use self::report::Rows;
use super::{
    client_process::BenchSetup,
    disturbance, exit_code,
    options::Measuring,
    profile::RunProfile,
    rows::{JsonRow, Row},
    rpc,
    subjects::{OURS, Subject, SubjectKind},
};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    measuring: Measuring,
}

/// Measures. Fails, without being an error, when a target is missed, unless it was `--quick`.
pub(crate) fn run(options: &Options) -> Outcome {
    run_until_interrupted(async {
        let (rows, profile) = measure(&options.measuring).await?;
        let all = [&rows.compared[..], &rows.scaled].concat();
        print!("{}{}", rows.text(), disturbance::summary(&all));
        println!("{}", profile.end_text());
        let compared = JsonRow::all(&rows.compared, report::COMPARED.fields);
        let scaled = JsonRow::all(&rows.scaled, report::SCALED.fields);
        let json: Vec<_> = compared.chain(scaled).collect();
        let files = &options.measuring.files;
        files.write("bench cluster", &json, &profile, || rows.figure())?;
        let missed = rows.targets().iter().any(|target| !target.met);
        Ok(exit_code(!missed || options.measuring.quick))
    })
}

async fn measure(options: &Measuring) -> Result<(Rows, RunProfile), Box<dyn Error>> {
    let compared = IN_FLIGHT.map(|in_flight| {
        let subjects = [OURS, client::CLUSTER];
        subjects
            .map(|subject| row(options, subject, 1, in_flight))
            .to_vec()
    });
    let scaled = service::FLEETS.map(|(subject, workers)| {
        let in_flight = workers * service::IN_FLIGHT_PER_WORKER;
        row(options, subject, workers, in_flight)
    });
    let setup = BenchSetup::new(options, &[])?;
    setup.issue_keys(&service::names())?;
    let profile = rpc::print_conditions(options, &setup)?;
    let groups = [&compared[..], &[scaled.to_vec()]].concat();
    let mut rows = setup.measure_all(options, groups).await?;
    let mut scaled = rows.split_off(2 * IN_FLIGHT.len());
    let single = scaled[0].reports.clone();
    for row in &mut scaled {
        row.baseline.clone_from(&single);
    }
    let compared = rows.chunks_exact(2).map(|pair| Row {
        baseline: pair[0].reports.clone(),
        thrown_away: pair[0].thrown_away + pair[1].thrown_away,
        disturbed: pair[0].disturbed + pair[1].disturbed,
        ..pair[1].clone()
    });
    let rows = Rows {
        compared: compared.collect(),
        scaled,
    };
    Ok((rows, profile))
}

fn row(options: &Measuring, subject: &'static str, workers: usize, in_flight: usize) -> Row {
    let subject = Subject::new(subject, SubjectKind::Variant);
    let mut row = Row::calls(subject, options.load(PAYLOAD_BYTES, in_flight));
    row.conditions = vec![("workers", workers.into()), ("in_flight", in_flight.into())];
    row
}

const PAYLOAD_BYTES: usize = 32;
const IN_FLIGHT: [usize; 3] = [1, 64, 512];
