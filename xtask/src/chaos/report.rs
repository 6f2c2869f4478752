//! Results of a command: a table for people, and a document as JSON.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;
use xtask_harness::Outcome;
use xtask_report::{Document, format_table};

/// Result of one scenario or situation.
pub(crate) trait Row: Serialize {
    /// The command, as a user types it.
    const COMMAND: &'static str;
    /// What the rows are, such as `scenarios`.
    const KIND: &'static str;
    /// Headings of the columns between the name and the last one, which says whether it passed.
    const HEADING: &'static [&'static str];

    /// Name and figures.
    fn cells(&self) -> Vec<String>;

    /// Failed checks.
    fn complaints(&self) -> &[String];
}

/// Prints the results and writes them to a file. Exits with a failure when a check failed.
///
/// # Errors
///
/// When the file cannot be written.
pub(crate) fn finish<R: Row>(rows: &[R], json: Option<&PathBuf>) -> Outcome {
    print!("\n{}", table(rows));
    if let Some(file) = json {
        Document::new(R::COMMAND, rows).write(file)?;
    }
    let passed = rows.iter().all(|row| row.complaints().is_empty());
    Ok(match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The table.
pub(crate) fn table<R: Row>(rows: &[R]) -> String {
    let heading = [&[""], R::HEADING, &[""]].concat();
    let mut lines = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    let mut failed = 0;
    for row in rows {
        let passed = row.complaints().is_empty();
        failed += usize::from(!passed);
        let mut line = row.cells();
        line.push(if passed { "passed" } else { "FAILED" }.to_owned());
        lines.push(line);
    }
    let status = match failed {
        0 => "passed".to_owned(),
        some => format!("FAILED, {some} of {} {}", rows.len(), R::KIND),
    };
    format!("{}{}: {status}\n", format_table(&lines), R::COMMAND)
}
