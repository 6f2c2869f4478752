//! `cargo xtask bench rpc`: the run.

use std::{error::Error, process::ExitCode};

use xtask_load::{ClosedLoop, Job, Report};

use super::{
    cells::{self, Cell, payload},
    figure,
    options::Options,
    pair::{Measurement, Stage},
    progress::Progress,
    rows::Row,
    subjects::{self, Subject},
    table, targets,
};
use crate::{json::Document, project::Outcome, signal::interrupted};

/// Measures what the options say.
///
/// # Errors
///
/// When a call fails, a reply is wrong, or it could not be carried through.
pub(crate) fn run(options: &Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            done = closed_loop(options) => done.map(|()| ExitCode::SUCCESS),
            signal = interrupted() => {
                signal?;
                eprintln!("interrupted");
                Ok(ExitCode::from(130))
            }
        }
    })
}

async fn closed_loop(options: &Options) -> Result<(), Box<dyn Error>> {
    let subjects = subjects::chosen(options)?;
    let cells = cells::chosen(options);
    if cells.is_empty() {
        return Err("nothing of the grid is left to measure".into());
    }
    let stage = Stage::new(options, &subjects)?;
    println!(
        "{}; {} rounds of {:?}\n",
        stage.describe(),
        options.rounds(),
        options.window()
    );
    let rows = measure(options, &stage, &subjects, &cells).await?;
    print!("{}", table::calls(&rows, &cells));
    print!("{}", targets::report(&rows));
    if let Some(file) = &options.json {
        Document::new("bench rpc", &rows).write(file)?;
    }
    if let Some(file) = &options.svg {
        std::fs::write(file, figure::calls(&rows, &cells))?;
    }
    Ok(())
}

/// All cells, round after round; in each of them one subject after the other, so that what the machine does beside
/// hits all alike.
async fn measure(
    options: &Options,
    stage: &Stage,
    subjects: &[Subject],
    cells: &[Cell],
) -> Result<Vec<Row>, Box<dyn Error>> {
    let rounds = options.rounds();
    let mut progress = Progress::new(rounds as usize * cells.len() * subjects.len());
    let mut rows = Vec::new();
    for cell in cells {
        let mut reports: Vec<Vec<Report>> = vec![Vec::new(); subjects.len()];
        let mut failures: Vec<Option<String>> = vec![None; subjects.len()];
        for round in 1..=rounds {
            for (at, subject) in subjects.iter().enumerate() {
                let what = format!(
                    "{} x {}, {} (round {round} of {rounds})",
                    payload(cell.payload_bytes),
                    cell.in_flight,
                    subject.name
                );
                progress.step(&what);
                if failures[at].is_some() {
                    continue;
                }
                match stage.calls(&measurement(options, *subject, *cell)).await {
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

fn measurement(options: &Options, subject: Subject, cell: Cell) -> Measurement {
    Measurement {
        subject,
        job: Job::Closed(ClosedLoop {
            body_bytes: cell.payload_bytes,
            in_flight: cell.in_flight,
            warm_up: options.warm_up(),
            window: options.window(),
        }),
        in_flight: cell.in_flight,
        body_bytes: cell.payload_bytes,
    }
}
