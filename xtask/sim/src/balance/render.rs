//! Tables for each scenario, one over all, and the figure.

use std::fmt::Write;

use xtask_report::{Axis, Chart, Series, format_table, number, ratio};

use super::{scenarios::BalanceScenario, strategies::DEFAULT};
use crate::{
    experiment::{Cell, subjects},
    row::{Column, Row, table},
};

static COLUMNS: [Column; 12] = [
    Column::new("strategy", "strategy"),
    Column::plain("calls", "calls"),
    Column::plain("failed", "failed"),
    Column::new("p50 ms", "p50_ms"),
    Column::new("p99 ms", "p99_ms"),
    Column::new("p99.9 ms", "p999_ms"),
    Column::new("p99 of answered", ANSWERED_P99_MS),
    Column::with_text("goodput", "goodput_ratio", |it| format!("{it:.3}")),
    Column::with_text("extra %", "extra_ratio", |it| number(100.0 * it)),
    Column::with_text("to bad %", "bad_share", |it| number(100.0 * it)),
    Column::with_text("p99 to healthy", "p99_to_healthy", ratio),
    Column::new("recovery s", "recovery_s"),
];

/// A table for each scenario, and one of all.
pub(super) fn tables(scenarios: &[BalanceScenario], cells: &[Cell]) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        let of_scenario = cells.iter().filter(|cell| cell.case == scenario.name);
        let rows: Vec<Row> = of_scenario.map(|cell| cell.row.clone()).collect();
        let is_shown = |column: &&Column| match column.field {
            ANSWERED_P99_MS => scenario.load.is_some(),
            field => rows
                .iter()
                .any(|row| row.get(field).is_some_and(|it| !it.is_null())),
        };
        let columns: Vec<Column> = COLUMNS.iter().filter(is_shown).copied().collect();
        let table = table(&columns, &rows, "-");
        let _ = writeln!(text, "{}: {}\n{table}", scenario.name, scenario.description);
    }
    text + &summary(cells)
}

/// Ratio of each strategy's p99 to the best in each scenario, and the geometric mean.
fn summary(cells: &[Cell]) -> String {
    let strategies = subjects(cells);
    let line = |first: &str, texts: Vec<String>| [vec![first.to_owned()], texts].concat();
    let names = strategies.iter().map(|it| (*it).to_owned()).collect();
    let mut lines = vec![line("p99 to the best", names)];
    let mut ratios = vec![Vec::new(); strategies.len()];
    for cells in cells.chunk_by(|a, b| a.case == b.case) {
        let p99 = |strategy: &&str| {
            let cell = cells.iter().find(|cell| cell.subject == *strategy);
            cell.and_then(|it| it.number("p99_ms")).unwrap_or(f64::NAN)
        };
        let all: Vec<f64> = strategies.iter().map(p99).collect();
        let best = all.iter().copied().fold(f64::INFINITY, f64::min);
        let to_best = all.iter().map(|p99| p99 / best);
        ratios
            .iter_mut()
            .zip(to_best.clone())
            .for_each(|(all, it)| all.push(it));
        lines.push(line(&cells[0].case, to_best.map(two_digits).collect()));
    }
    let over_all = |of: fn(&[f64]) -> f64| ratios.iter().map(|it| two_digits(of(it))).collect();
    let mean = |all: &[f64]| (all.iter().map(|it| it.ln()).sum::<f64>() / all.len() as f64).exp();
    lines.push(line("mean", over_all(mean)));
    lines.push(line(
        "worst",
        over_all(|all| all.iter().copied().fold(0.0, f64::max)),
    ));
    format_table(&lines)
}

fn two_digits(value: f64) -> String {
    format!("{value:.2}")
}

/// Tail latency, failures and goodput against the load.
pub(super) fn figure(cells: &[Cell]) -> String {
    let panel = |title: &str, y: &str, figure: fn(&Row) -> Option<f64>| {
        let shown = cells
            .iter()
            .filter(|cell| cell.subject != EXCLUDED_STRATEGY);
        let points = shown.filter_map(|cell| {
            let point = (cell.number("load")?, figure(&cell.row)?);
            Some((&*cell.subject, point))
        });
        Chart {
            title: title.to_owned(),
            x: Axis::linear("load, times the capacity"),
            y: Axis::linear(y),
            series: Series::by_name(points, DEFAULT),
        }
    };
    let answered = "tail latency of the calls that were answered";
    Chart::draw_all(
        "Ten workers, three of them 4 times slower, each second another",
        &[
            panel(answered, "p99, ms", |row| row.number(ANSWERED_P99_MS)),
            panel("calls that failed", "%", |row| {
                Some(100.0 * row.number("failed")? / row.number("calls")?)
            }),
            panel("latency of half of the calls", "p50, ms", |row| {
                row.number("p50_ms")
            }),
        ],
    )
}

/// Shown where the load is varied alone.
const ANSWERED_P99_MS: &str = "answered_p99_ms";
/// Left out: no worker is new under load, so its lines are those of the strategy that it wraps.
const EXCLUDED_STRATEGY: &str = "slow-start";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::cell;

    #[test]
    fn the_summary_relates_each_to_the_best() {
        let cells = [
            cell("tower", "a", 10.0, None, &[]),
            cell("tower", "b", 40.0, None, &[]),
            cell("hang", "a", 30.0, None, &[]),
            cell("hang", "b", 30.0, None, &[]),
        ];
        let text = summary(&cells);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|it| it.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["tower", "1.00", "4.00"]);
        assert_eq!(lines[2], ["hang", "1.00", "1.00"]);
        // The geometric mean, and the largest.
        assert_eq!(lines[3], ["mean", "1.00", "2.00"]);
        assert_eq!(lines[4], ["worst", "1.00", "4.00"]);
    }

    #[test]
    fn the_figure_has_the_rows_with_a_load() {
        let cells = [
            cell("load-0.50", DEFAULT, 10.0, Some(0.5), &[]),
            cell("load-0.75", DEFAULT, 20.0, Some(0.75), &[]),
            cell("tower", DEFAULT, 20.0, None, &[]),
        ];
        assert_eq!(figure(&cells).matches("<circle").count(), 6);
    }
}
