//! Targets of the default strategy.

use super::strategies::DEFAULT;
use crate::{check::Check, experiment::Cell, row::Row};

/// Targets of the scenarios that were run.
pub(super) fn targets(cells: &[Cell]) -> Vec<Check> {
    let check = |(scenario, what, at_most, unit, figure): &Bound| {
        let is_ours = |cell: &&Cell| cell.case == *scenario && cell.subject == DEFAULT;
        let cell = cells.iter().find(is_ours)?;
        let what = format!("{scenario}: {what}");
        Some(Check::new(what, figure(&cell.row), *at_most, unit))
    };
    BOUNDS.iter().filter_map(check).collect()
}

/// Scenario, what may not exceed the bound, the bound, its unit and the figure.
type Bound = (&'static str, &'static str, f64, &'static str, Figure);
type Figure = fn(&Row) -> Option<f64>;

static BOUNDS: [Bound; 23] = [
    ("tower", "p99.9", 105.0, "ms", |row| row.number("p999_ms")),
    ("straggler", "p99 to the healthy", 1.5, "times", |row| {
        row.number("p99_to_healthy")
    }),
    (
        "fast-fail",
        "calls to the one that fails",
        2.0,
        "%",
        BAD_PERCENT,
    ),
    (
        "old-version",
        "calls to the one that rejects",
        1.0,
        "%",
        BAD_PERCENT,
    ),
    ("slow-method", "p99 of the others", 45.0, "ms", |row| {
        row.number("p99_ms")
    }),
    ("slow-method", "others failed", 0.0, "", FAILED),
    ("moved", "recovery", 2.0, "s", RECOVERY),
    // Beside bad members the calls of the others go on: what could go elsewhere does. A call that
    // waits for one that is slow or hangs does so until its deadline: there is no hedging here.
    ("straggler", "goodput lost", 10.0, "%", GOODPUT_LOST),
    ("fast-fail", "goodput lost", 10.0, "%", GOODPUT_LOST),
    ("fast-fail", "calls failed", 0.0, "", FAILED),
    ("old-version", "goodput lost", 10.0, "%", GOODPUT_LOST),
    ("old-version", "calls failed", 0.0, "", FAILED),
    ("refuser", "goodput lost", 10.0, "%", GOODPUT_LOST),
    ("refuser", "calls failed", 0.0, "", FAILED),
    ("moved", "goodput lost", 10.0, "%", GOODPUT_LOST),
    ("moved", "calls failed", 0.0, "", FAILED),
    ("underreporter", "goodput lost", 10.0, "%", GOODPUT_LOST),
    ("underreporter", "calls failed", 0.0, "", FAILED),
    ("hang", "goodput lost", 10.0, "%", GOODPUT_LOST),
    ("overload", "capacity not used", 5.0, "%", GOODPUT_LOST),
    ("overload", "extra attempts", 10.0, "%", |row| {
        Some(100.0 * row.number("extra_ratio")?)
    }),
    ("overload", "recovery", 2.0, "s", RECOVERY),
    ("rolling-restart", "calls failed", 0.0, "", FAILED),
];

const BAD_PERCENT: Figure = |row| Some(100.0 * row.number("bad_share")?);
const FAILED: Figure = |row| row.number("failed");
const GOODPUT_LOST: Figure = |row| Some(100.0 * (1.0 - row.number("goodput_ratio")?));
const RECOVERY: Figure = |row| row.number("recovery_s");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::cell;

    #[test]
    fn the_default_alone_is_compared_with_the_targets() {
        let missed = |scenario, strategy, p99_ms, fields: &[(&'static str, f64)]| {
            let cells = [cell(scenario, strategy, p99_ms, None, fields)];
            targets(&cells).iter().filter(|it| !it.is_met()).count()
        };
        assert_eq!(missed("tower", DEFAULT, 50.0, &[]), 0);
        assert_eq!(missed("tower", DEFAULT, 60.0, &[]), 1);
        assert_eq!(missed("tower", "random", 60.0, &[]), 0);
        // Each bad member has two targets, beside what else is said of it.
        assert_eq!(missed("refuser", DEFAULT, 50.0, &[]), 0);
        let bad = [("goodput_ratio", 0.89), ("failed", 1.0)];
        assert_eq!(missed("refuser", DEFAULT, 50.0, &bad), 2);
        let bad_share = [("bad_share", 0.3)];
        assert_eq!(missed("old-version", DEFAULT, 50.0, &bad_share), 1);
        // A figure that is not there is missed.
        assert_eq!(missed("overload", DEFAULT, 60.0, &[]), 1);
        let recovered = ("recovery_s", 1.0);
        assert_eq!(missed("overload", DEFAULT, 60.0, &[recovered]), 0);
        let bad = [recovered, ("goodput_ratio", 0.94), ("extra_ratio", 0.11)];
        assert_eq!(missed("overload", DEFAULT, 60.0, &bad), 2);
    }
}
