//! Results of a command: a table for people, and a document as JSON.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;
use xtask_harness::Outcome;
use xtask_report::{Document, format_table};

/// Result of one scenario or situation.
pub(crate) trait Row: Serialize + 'static {
    /// The command, as a user types it.
    const COMMAND: &'static str;
    /// Kind of the rows, such as `scenarios`.
    const KIND: &'static str;
    /// Headings and cells of the columns before the last one, which says whether it passed.
    const COLUMNS: &'static [Column<Self>];

    fn failed_checks(&self) -> &[String];
}

/// Heading of a column, and the cell of a row.
pub(crate) type Column<R> = (&'static str, fn(&R) -> String);

/// Prints the results and writes them to a file. Exits with a failure when a check failed.
pub(crate) fn finish<R: Row>(rows: &[R], json: Option<&PathBuf>) -> Outcome {
    print!("\n{}", table(rows));
    if let Some(file) = json {
        Document::new(R::COMMAND, rows).write(file)?;
    }
    let passed = rows.iter().all(|row| row.failed_checks().is_empty());
    Ok(match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

pub(crate) fn table<R: Row>(rows: &[R]) -> String {
    let headings = R::COLUMNS.iter().map(|(heading, _)| (*heading).to_owned());
    let mut lines = vec![headings.chain([String::new()]).collect::<Vec<_>>()];
    let mut failed = 0;
    for row in rows {
        let passed = row.failed_checks().is_empty();
        failed += usize::from(!passed);
        let status = if passed { "passed" } else { "FAILED" };
        let cells = R::COLUMNS.iter().map(|(_, cell)| cell(row));
        lines.push(cells.chain([status.to_owned()]).collect());
    }
    let status = match failed {
        0 => "passed".to_owned(),
        some => format!("FAILED, {some} of {} {}", rows.len(), R::KIND),
    };
    format!("{}{}: {status}\n", format_table(&lines), R::COMMAND)
}
