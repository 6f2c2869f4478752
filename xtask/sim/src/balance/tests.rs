//! Cells for the tests of the targets, tables and figures.

use crate::{experiment::Cell, row::Row};

/// Cell with this p99, and all well but for these fields.
pub(super) fn cell(
    scenario: &str,
    strategy: &str,
    p99_ms: f64,
    load: Option<f64>,
    other: &[(&'static str, f64)],
) -> Cell {
    let fields = [
        ("calls", Some(1_000.0)),
        ("failed", Some(0.0)),
        ("p50_ms", Some(p99_ms / 4.0)),
        ("p99_ms", Some(p99_ms)),
        ("p999_ms", Some(2.0 * p99_ms)),
        ("answered_p99_ms", Some(p99_ms)),
        ("goodput_ratio", Some(1.0)),
        ("extra_ratio", Some(0.0)),
        ("bad_share", None),
        ("p99_to_healthy", None),
        ("recovery_s", None),
    ];
    let row = Row::default().with("strategy", strategy).with("load", load);
    let row = fields.into_iter().fold(row, |row, (field, value)| {
        let found = other.iter().find(|(name, _)| *name == field);
        row.with(field, found.map(|(_, value)| *value).or(value))
    });
    Cell {
        case: scenario.to_owned(),
        subject: strategy.to_owned(),
        row,
        ..Cell::default()
    }
}
