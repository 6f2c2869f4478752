//! `cargo xtask figures`: some figures of the README of rpcnet-swim beside what its commands print
//! now.
//!
//! Simulations repeat for the same seeds, up to differences of mathematical functions between
//! systems, so their figures can be compared within a tolerance; those that take long are not
//! compared.

use std::{env, error::Error, fs, process::ExitCode};

use serde_json::Value;

use crate::{
    markdown::Markdown,
    project::{self, Outcome},
};

/// A row of a table of the README, and the simulations that print its figures.
struct ReadmeRow {
    /// Begin of the line before the table.
    heading: &'static str,
    label: &'static str,
    scenario: &'static str,
    /// Columns of the table, and the case of the scenario of each.
    cases: &'static [(&'static str, &'static str)],
    /// Names, in the JSON of the first row that the case prints, of the figures in a cell.
    fields: &'static [&'static str],
}

const ROWS: &[ReadmeRow] = &[
    ReadmeRow {
        heading: "Whole clusters in virtual time",
        label: "steady",
        scenario: "steady",
        cases: &[("rpcnet", "128")],
        fields: &["sent_bytes_per_node_s"],
    },
    ReadmeRow {
        heading: "Whole clusters in virtual time",
        label: "partition",
        scenario: "partition",
        cases: &[("rpcnet", "halves of 128 for 60 s")],
        fields: &["healed_p50_s"],
    },
    ReadmeRow {
        heading: "From a crash until all members know",
        label: "rpcnet",
        scenario: "crash",
        cases: &[
            ("2", "1 of 2, lan, 0 %"),
            ("3", "1 of 3, lan, 0 %"),
            ("5", "1 of 5, lan, 0 %"),
            ("16", "1 of 16, lan, 0 %"),
            ("128", "1 of 128, lan, 0 %"),
        ],
        fields: &["all_know_p50_s", "all_know_p99_s"],
    },
    ReadmeRow {
        heading: "From a split until nodes of at most one side",
        label: "both sides serve",
        scenario: "partition",
        cases: &[
            ("2 of 16", "2 of 16 by keep-majority"),
            ("16 of 64", "16 of 64 by keep-majority"),
        ],
        fields: &["both_served_p50_s", "both_served_p99_s"],
    },
];

const README: &str = "rpcnet-swim/README.md";

/// Compares them all and prints them side by side.
pub(crate) fn run() -> Outcome {
    let readme = fs::read_to_string(project::root().join(README))?;
    let (mut wrong, mut total) = (0, 0);
    for row in ROWS {
        let (label, scenario) = (row.label, row.scenario);
        for (column, case) in row.cases {
            let quoted = row.figures(&readme, column)?;
            let printed = first_row(scenario, case)?;
            for (field, quoted) in row.fields.iter().zip(quoted) {
                let run = format!("sim {scenario} {case:?}, {field}");
                let printed = printed[*field].as_f64();
                let printed = printed.ok_or_else(|| format!("{run}: there is none"))?;
                let agrees = is_within_tolerance(quoted, printed);
                let status = if agrees { "agrees " } else { "DIFFERS" };
                println!("{status} {label}, {column}: {quoted}; {run}: {printed:.2}");
                wrong += usize::from(!agrees);
                total += 1;
            }
        }
    }
    println!("figures: {wrong} of {total} differ from {README}");
    Ok(ExitCode::from(u8::from(wrong > 0)))
}

impl ReadmeRow {
    /// The figures of a column: as many as there are [fields](Self::fields), in the same order.
    fn figures(&self, readme: &str, column: &str) -> Result<Vec<f64>, String> {
        let cell = cell(readme, self.heading, self.label, column)?;
        let figures = numbers(&cell);
        if figures.len() < self.fields.len() {
            let label = self.label;
            return Err(format!("{label}, {column}: too few figures in {cell:?}"));
        }
        Ok(figures)
    }
}

/// The cell of a row and a column, named by what stands in the first column and in the header, of
/// the first table after a line that begins with `heading`.
fn cell(markdown: &str, heading: &str, row: &str, column: &str) -> Result<String, String> {
    let heading_line = (1..)
        .zip(markdown.lines())
        .find_map(|(number, line)| line.starts_with(heading).then_some(number))
        .ok_or_else(|| format!("no line begins with {heading:?}"))?;
    let mut tables = Markdown::parse(markdown).tables.into_iter();
    let table = tables.find(|table| table[0].line > heading_line);
    let mut rows = table.unwrap_or_default().into_iter();
    let header = rows.next().unwrap_or_default();
    let at = header.cells.iter().position(|cell| cell.text == column);
    let at = at.ok_or_else(|| format!("no column {column:?} after {heading:?}"))?;
    rows.find(|it| it.cells[0].text == row)
        .map(|mut row| row.cells.swap_remove(at).text)
        .ok_or_else(|| format!("no row {row:?} after {heading:?}"))
}

/// The numbers in a cell; a comma between digits parts thousands.
fn numbers(cell: &str) -> Vec<f64> {
    let is_part = |it: char| it.is_ascii_digit() || it == '.' || it == ',';
    let words = cell.split(|it| !is_part(it));
    let words = words.map(|word| word.trim_end_matches([',', '.']).replace(',', ""));
    words.filter_map(|word| word.parse().ok()).collect()
}

/// The first row that a scenario prints of a case.
fn first_row(scenario: &str, case: &str) -> Result<Value, Box<dyn Error>> {
    let file = project::root().join("target").join("figures.json");
    let mut run = project::program(env::current_exe()?);
    run.args(["sim", scenario, "--detector", "rpcnet"]);
    run.args(["--case", case, "--json"]).arg(&file);
    project::run_for_stdout(&mut run)?;
    let mut printed: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    Ok(printed["rows"][0].take())
}

/// Whether a figure may stand for another: mathematical functions differ in the last digit from
/// system to system, and that can change what a cluster does next.
fn is_within_tolerance(quoted: f64, printed: f64) -> bool {
    (quoted - printed).abs() <= 0.05 + 0.05 * printed.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "
Text.

Figures of
today:

| nodes | 2 | 1,000 |
|---|---|---|
| rpcnet | 4.3 / 5.0 s | **4.1** / 1,204 s |
| other | 6 | - |

Figures elsewhere:

| x | 2 |
|---|---|
| rpcnet | 9 |
";

    #[test]
    fn every_claim_is_in_the_readme() {
        let readme = fs::read_to_string(project::root().join(README)).unwrap();
        for row in ROWS {
            for (column, _) in row.cases {
                let quoted = row.figures(&readme, column);
                assert!(quoted.is_ok(), "{quoted:?}");
            }
        }
    }

    #[test]
    fn a_stale_figure_differs() {
        assert!(is_within_tolerance(3.4, 3.43));
        assert!(is_within_tolerance(282.0, 281.77));
        assert!(!is_within_tolerance(3.6, 4.18));
        assert!(!is_within_tolerance(0.0, 1.0));
    }

    #[test]
    fn a_cell_is_found_by_its_row_and_its_column() {
        let of = |row, column| cell(TABLES, "Figures of", row, column);
        assert_eq!(of("rpcnet", "2").unwrap(), "4.3 / 5.0 s");
        assert_eq!(of("other", "1,000").unwrap(), "-");
        assert!(of("no row", "2").unwrap_err().contains("no row"));
        assert!(of("rpcnet", "3").unwrap_err().contains('3'));
        let elsewhere = cell(TABLES, "Nothing", "rpcnet", "2");
        assert!(elsewhere.unwrap_err().contains("Nothing"));
    }

    #[test]
    fn the_numbers_of_a_cell_are_distinguished() {
        assert_eq!(numbers("**4.1** / 1,204 s"), [4.1, 1_204.0]);
        assert_eq!(numbers("-"), [0.0; 0]);
        assert_eq!(numbers("242, 372"), [242.0, 372.0]);
    }
}
