//! `cargo xtask figures`: some figures of the README of rpcnet-swim beside what its commands print
//! now.
//!
//! Simulations repeat for the same seeds, up to differences of mathematical functions between
//! systems, so their figures can be compared within a tolerance; those that take long are not
//! compared.

mod table;

use std::{
    collections::{HashMap, hash_map::Entry},
    env,
    error::Error,
    fs,
    process::ExitCode,
};

use serde_json::Value;

use crate::project::{self, Outcome};
use table::number;

/// A figure of the README, and the command that prints it.
struct ReadmeFigure {
    /// Begin of the line before the table.
    heading: &'static str,
    /// Label of the row and of the column in it.
    cell: (&'static str, &'static str),
    /// Index of the number in the cell.
    nth: usize,
    /// Scenario and case of `cargo xtask sim`, of which the first row counts.
    run: (&'static str, &'static str),
    /// Name of the figure in the JSON of that row.
    field: &'static str,
}

/// Compares them all and prints them side by side.
///
/// # Errors
///
/// When the README has no such figure, or a command does not print one.
pub(crate) fn run() -> Outcome {
    let readme = fs::read_to_string(project::root().join(README))?;
    let claims = readme_figures();
    let (mut wrong, mut rows) = (0, HashMap::new());
    for claim in &claims {
        let said = readme_value(&readme, claim)?;
        let row = match rows.entry(claim.run) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(place) => place.insert(first_row(claim.run)?),
        };
        let printed = row[claim.field].as_f64();
        let printed =
            printed.ok_or_else(|| format!("{:?} prints no {}", claim.run, claim.field))?;
        let status = match is_within_tolerance(said, printed) {
            true => "agrees ",
            false => "DIFFERS",
        };
        wrong += usize::from(!is_within_tolerance(said, printed));
        let ((row, column), (scenario, case)) = (claim.cell, claim.run);
        let field = claim.field;
        println!(
            "{status} {row}, {column}: {said}; sim {scenario} {case:?}, {field}: {printed:.2}"
        );
    }
    println!("figures: {wrong} of {} differ from {README}", claims.len());
    Ok(match wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Value in the README.
fn readme_value(readme: &str, claim: &ReadmeFigure) -> Result<f64, String> {
    let (row, column) = claim.cell;
    let cell = table::cell(readme, claim.heading, row, column)?;
    number(cell, claim.nth)
        .ok_or_else(|| format!("{row}, {column}: there is no figure in {cell:?}"))
}

/// The first row that a scenario prints of a case.
fn first_row((scenario, case): (&str, &str)) -> Result<Value, Box<dyn Error>> {
    let file = project::root().join("target").join("figures.json");
    let mut run = project::program(env::current_exe()?);
    run.args([
        "sim",
        scenario,
        "--detector",
        "rpcnet",
        "--case",
        case,
        "--json",
    ]);
    project::run_for_stdout(run.arg(&file))?;
    let mut printed: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    Ok(printed["rows"][0].take())
}

/// Whether a figure may stand for another: mathematical functions differ in the last digit from
/// system to system, and that can change what a cluster does next.
fn is_within_tolerance(said: f64, printed: f64) -> bool {
    (said - printed).abs() <= 0.05 + 0.05 * printed.abs()
}

/// The figures that are compared.
fn readme_figures() -> Vec<ReadmeFigure> {
    let main = |row, case, field| ReadmeFigure {
        heading: "Whole clusters in virtual time",
        cell: (row, "rpcnet"),
        nth: 0,
        run: case,
        field,
    };
    let mut claims = vec![
        main("`steady`", ("steady", "128"), "sent_bytes_per_node_s"),
        main(
            "`partition`",
            ("partition", "halves of 128 for 60 s"),
            "healed_p50_s",
        ),
    ];
    let tables = [
        (
            ("From a crash until all members know", "rpcnet"),
            ("crash", &CRASHES[..]),
            ["all_know_p50_s", "all_know_p99_s"],
        ),
        (
            (
                "From a split until nodes of at most one side",
                "both sides serve",
            ),
            ("partition", &SPLITS[..]),
            ["both_served_p50_s", "both_served_p99_s"],
        ),
    ];
    for ((heading, row), (scenario, columns), fields) in tables {
        for (column, case) in columns {
            claims.extend(
                fields
                    .into_iter()
                    .enumerate()
                    .map(|(nth, field)| ReadmeFigure {
                        heading,
                        cell: (row, column),
                        nth,
                        run: (scenario, case),
                        field,
                    }),
            );
        }
    }
    claims
}

const README: &str = "rpcnet-swim/README.md";

/// Columns of the table of crashes, and the case of each.
const CRASHES: [(&str, &str); 5] = [
    ("2", "1 of 2, lan, 0 %"),
    ("3", "1 of 3, lan, 0 %"),
    ("5", "1 of 5, lan, 0 %"),
    ("16", "1 of 16, lan, 0 %"),
    ("128", "1 of 128, lan, 0 %"),
];

/// Columns of the table of splits, and the case of each.
const SPLITS: [(&str, &str); 2] = [
    ("2 of 16", "2 of 16 by keep-majority"),
    ("16 of 64", "16 of 64 by keep-majority"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_is_in_the_readme() {
        let readme = fs::read_to_string(project::root().join(README)).unwrap();
        for claim in readme_figures() {
            let said = readme_value(&readme, &claim);
            assert!(said.is_ok(), "{said:?}");
        }
    }

    #[test]
    fn a_stale_figure_differs() {
        assert!(is_within_tolerance(3.4, 3.43));
        assert!(is_within_tolerance(282.0, 281.77));
        assert!(!is_within_tolerance(3.6, 4.18));
        assert!(!is_within_tolerance(0.0, 1.0));
    }
}
