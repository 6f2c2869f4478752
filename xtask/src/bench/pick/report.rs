//! Tables and figure of `bench pick`.

use xtask_pick::Work;
use xtask_report::{Axis, Chart, Series, format_table, number, ratio};

use super::{
    figures::{self, Row},
    targets::{StrategyTarget, is_peer},
};
use crate::bench::targets;

pub(crate) fn text(rows: &[Row], targets: &[StrategyTarget]) -> String {
    let ns_of = |work| {
        by_size(rows, |strategy, workers| {
            let row = figures::find(rows, strategy, workers, 1, work)?;
            Some(number(row.ns_per_pick))
        })
    };
    format!(
        "ns of a pick, a thread alone\n{}\nns of a call, a thread alone\n{}\n\
         picks of two threads, of those of one\n{}\n{}",
        ns_of(Work::Pick),
        ns_of(Work::Call),
        by_size(rows, |strategy, workers| {
            figures::speed_up(rows, strategy, workers).map(ratio)
        }),
        targets::report(
            &["", "target", "worst", ""],
            targets.iter().map(|it| &it.target)
        )
    )
}

/// A line for each strategy that has the figure, a column for each number of workers.
fn by_size(rows: &[Row], figure: impl Fn(&str, usize) -> Option<String>) -> String {
    let sizes = figures::distinct(rows, |cell| cell.workers);
    let mut heading = vec!["workers".to_owned()];
    heading.extend(sizes.iter().map(usize::to_string));
    let mut lines = vec![heading];
    for strategy in figures::distinct(rows, |cell| cell.strategy) {
        let cells = sizes.iter().map(|workers| figure(strategy, *workers));
        if let Some(cells) = cells.collect::<Option<Vec<_>>>() {
            lines.push([vec![strategy.to_owned()], cells].concat());
        }
    }
    format_table(&lines)
}

/// Picks over the number of workers.
pub(crate) fn figure(rows: &[Row]) -> String {
    let strategies = figures::distinct(rows, |cell| cell.strategy);
    let series = strategies.into_iter().map(|strategy| {
        let sizes = figures::distinct(rows, |cell| cell.workers).into_iter();
        let of = sizes.filter_map(|workers| figures::find(rows, strategy, workers, 1, Work::Pick));
        Series {
            name: strategy.to_owned(),
            points: of
                .map(|row| (row.cell.workers as f64, row.ns_per_pick))
                .collect(),
            ours: !is_peer(strategy),
        }
    });
    let chart = Chart {
        title: "time of a pick".to_owned(),
        x: Axis::logarithmic("workers"),
        y: Axis::logarithmic("ns"),
        series: series.filter(|it| !it.points.is_empty()).collect(),
    };
    chart.draw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::pick::{targets::check_targets, tests::rounds};

    #[test]
    fn strategies_are_listed_by_size() {
        let rows = [
            rounds("random", Work::Pick, 3, &[(10.0, 10.0)]),
            rounds("random", Work::Pick, 30, &[(20.0, 40.0)]),
            rounds("tower-p2c-peak-ewma", Work::Call, 3, &[(900.0, 900.0)]),
            rounds("tower-p2c-peak-ewma", Work::Call, 30, &[(900.0, 900.0)]),
        ]
        .concat();
        let text = text(&rows, &check_targets(&rows));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("workers"), "{text}");
        assert_eq!(lines[2], "random   10.0  20.0");
        assert!(text.contains("tower-p2c-peak-ewma  900  900\n"), "{text}");
        assert!(text.contains("random   2.00x  1.00x\n"), "{text}");
        assert!(
            text.contains("1.00x  MISSED") && text.ends_with("2 of 3 targets met\n"),
            "{text}"
        );
        assert!(figure(&rows).starts_with("<svg"));
    }
}
