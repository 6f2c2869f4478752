//! `cargo xtask bench rpc`: rounds of all subjects, by mode.

use std::{error::Error, process::ExitCode};

use serde::Serialize;
use xtask_harness::{Outcome, run_until_interrupted};
use xtask_load::{CallReport, ClosedLoop, Job};
use xtask_report::{Document, Progress};

use super::{
    bulk,
    client_process::{BenchSetup, Measurement},
    connections, cores, figure, floods,
    grid::{self, Cell, readable_bytes},
    loss, open_loop,
    options::{Mode, Options},
    reconnect,
    rows::Row,
    sizes, streaming,
    subjects::{self, Subject},
    table, targets,
};

/// Measures what the options say.
///
/// # Errors
///
/// When a call fails, a reply is wrong, or it could not be carried through.
pub(crate) fn run(options: &Options) -> Outcome {
    run_until_interrupted(async { run_mode(options).await.map(|()| ExitCode::SUCCESS) })
}

async fn run_mode(options: &Options) -> Result<(), Box<dyn Error>> {
    match options.mode() {
        Mode::Grid => run_grid(options).await,
        Mode::OpenLoop => open_loop::run(options).await,
        Mode::Streaming => streaming::run(options).await,
        Mode::Connections(count) => connections::run(options, count).await,
        Mode::Cores => cores::run(options).await,
        Mode::Loss => loss::run(options).await,
        Mode::Bulk => bulk::run(options).await,
        Mode::Sizes => sizes::run(options).await,
        Mode::Reconnect => reconnect::run(options).await,
        Mode::Floods => floods::run(options).await,
    }
}

async fn run_grid(options: &Options) -> Result<(), Box<dyn Error>> {
    let subjects = subjects::select(options)?;
    let cells = grid::select(options);
    if cells.is_empty() {
        return Err("nothing of the grid is left to measure".into());
    }
    let setup = BenchSetup::new(options, &subjects)?;
    print_conditions(options, &setup);
    let rows = measure(options, &setup, &subjects, &cells).await?;
    print!("{}", table::calls(&rows, &cells));
    print!("{}", targets::report(&rows));
    write_files(options, &rows, || figure::calls(&rows, &cells))
}

/// Says how it is measured, and whether the machine has other things to do.
pub(crate) fn print_conditions(options: &Options, setup: &BenchSetup) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if let Some(load) = busy_load(&load) {
        eprintln!("warning: the machine is busy (load {load}), figures will be noise");
    }
    println!(
        "{}; rounds: {} of {:?}\n",
        setup.describe(),
        options.rounds(),
        options.window()
    );
}

/// The load of the last minute, if it is more than a quiet machine has.
fn busy_load(load_average: &str) -> Option<f64> {
    let load = load_average.split(' ').next()?.parse().ok()?;
    (load > LOAD_QUIET_MAX).then_some(load)
}

/// Writes the files that were asked for.
///
/// # Errors
///
/// When one cannot be written.
pub(crate) fn write_files<R: Serialize>(
    options: &Options,
    rows: &[R],
    figure: impl FnOnce() -> String,
) -> Result<(), Box<dyn Error>> {
    if let Some(file) = &options.measuring.json {
        Document::new("bench rpc", rows).write(file)?;
    }
    if let Some(file) = &options.measuring.svg {
        std::fs::write(file, figure())?;
    }
    Ok(())
}

/// Measures the cells in a closed loop: all rounds of one, then of the next; in each of them one
/// subject after the other, so that what the machine does beside hits all alike.
pub(crate) async fn measure(
    options: &Options,
    setup: &BenchSetup,
    subjects: &[Subject],
    cells: &[Cell],
) -> Result<Vec<Row>, Box<dyn Error>> {
    let closed = |subject, cell| measurement(options, subject, cell);
    measure_with(options, setup, subjects, cells, closed).await
}

/// Measures the cells in the same way with another load.
pub(crate) async fn measure_with(
    options: &Options,
    setup: &BenchSetup,
    subjects: &[Subject],
    cells: &[Cell],
    measurement: impl Fn(Subject, Cell) -> Measurement,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let rounds = options.rounds();
    let steps = cells.iter().flat_map(|cell| {
        let payload_bytes = cell.payload_bytes;
        subjects.iter().filter(move |it| it.takes(payload_bytes))
    });
    let mut progress = Progress::new(rounds as usize * steps.count());
    let mut rows = Vec::new();
    for cell in cells {
        let takes = |subject: &&Subject| subject.takes(cell.payload_bytes);
        let subjects: Vec<Subject> = subjects.iter().filter(takes).copied().collect();
        let mut reports: Vec<Vec<CallReport>> = vec![Vec::new(); subjects.len()];
        let mut failures: Vec<Option<String>> = vec![None; subjects.len()];
        for round in 1..=rounds {
            for (at, subject) in subjects.iter().enumerate() {
                let what = format!(
                    "{} x {}, {} (round {round} of {rounds})",
                    readable_bytes(cell.payload_bytes),
                    cell.in_flight,
                    subject.name
                );
                progress.step(&what);
                if failures[at].is_some() {
                    continue;
                }
                match setup.calls(&measurement(*subject, *cell)).await {
                    Ok(report) => reports[at].push(report),
                    Err(error) if subject.may_fail() => failures[at] = Some(error.to_string()),
                    Err(error) => return Err(format!("{what}: {error}").into()),
                }
            }
        }
        for ((subject, reports), failure) in subjects.iter().zip(&reports).zip(failures) {
            rows.push(Row::new(subject.name, *cell, reports, failure));
        }
    }
    Ok(rows)
}

/// Measurement of a subject in a cell.
pub(crate) fn measurement(options: &Options, subject: Subject, cell: Cell) -> Measurement {
    Measurement {
        subject,
        job: Job::Closed(closed_loop(options, cell)),
        in_flight: cell.in_flight,
        body_bytes: cell.payload_bytes,
        hold: false,
    }
}

/// The load of a cell.
pub(crate) fn closed_loop(options: &Options, cell: Cell) -> ClosedLoop {
    ClosedLoop {
        body_bytes: cell.payload_bytes,
        in_flight: cell.in_flight,
        warm_up: options.warm_up(),
        window: options.window(),
    }
}

/// A measurement alone, just over, leaves less.
const LOAD_QUIET_MAX: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_distinguished_from_a_quiet_one() {
        assert_eq!(busy_load("0.52 0.58 0.59 1/467 12345\n"), None);
        assert_eq!(busy_load("3.09 1.50 1.12 2/467 12345\n"), Some(3.09));
        assert_eq!(busy_load(""), None);
    }
}
