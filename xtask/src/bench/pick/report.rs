//! Tables and figure of `bench pick`.

use xtask_pick::Work;
use xtask_report::{Axis, Chart, Series, format_table, number, ratio};

use super::{
    figures::{self, Measured, Row},
    targets::{self, TargetResult},
};

/// Tables of the results.
pub(crate) fn text(rows: &[Row], measured: &[Measured], targets: &[TargetResult]) -> String {
    let mut lines = vec![["", "target", "worst", ""].map(str::to_owned).to_vec()];
    for target in targets {
        let met = if target.met { "met" } else { "MISSED" };
        lines.push(vec![
            target.strategy.to_owned(),
            target.bound.clone(),
            target.measured.clone(),
            met.to_owned(),
        ]);
    }
    let met = targets.iter().filter(|target| target.met).count();
    format!(
        "ns of a pick, a thread alone\n{}\nns of a call, a thread alone\n{}\n\
         picks of two threads, of those of one\n{}\n{}{met} of {} targets met\n",
        by_size(rows, |strategy, workers| ns(
            rows,
            strategy,
            workers,
            Work::Pick
        )),
        by_size(rows, |strategy, workers| ns(
            rows,
            strategy,
            workers,
            Work::Call
        )),
        by_size(rows, |strategy, workers| {
            figures::speed_up(measured, strategy, workers).map(ratio)
        }),
        format_table(&lines),
        targets.len()
    )
}

/// A line for each strategy that has the figure, a column for each number of workers.
fn by_size(rows: &[Row], figure: impl Fn(&str, usize) -> Option<String>) -> String {
    let sizes = figures::sizes(rows);
    let mut heading = vec!["workers".to_owned()];
    heading.extend(sizes.iter().map(usize::to_string));
    let mut lines = vec![heading];
    for strategy in strategies(rows) {
        let cells = sizes.iter().map(|workers| figure(strategy, *workers));
        if let Some(cells) = cells.collect::<Option<Vec<_>>>() {
            lines.push([vec![strategy.to_owned()], cells].concat());
        }
    }
    format_table(&lines)
}

fn ns(rows: &[Row], strategy: &str, workers: usize, work: Work) -> Option<String> {
    let of = |row: &&Row| {
        (row.strategy, row.workers, row.threads, row.work) == (strategy, workers, 1, work)
    };
    rows.iter().find(of).map(|row| number(row.ns_per_pick))
}

fn strategies(rows: &[Row]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for row in rows {
        if !names.contains(&row.strategy) {
            names.push(row.strategy);
        }
    }
    names
}

/// Picks over the number of workers.
pub(crate) fn figure(rows: &[Row]) -> String {
    let series = strategies(rows).into_iter().map(|strategy| {
        let of = rows
            .iter()
            .filter(|row| (row.strategy, row.threads, row.work) == (strategy, 1, Work::Pick));
        Series {
            name: strategy.to_owned(),
            points: of
                .map(|row| (row.workers as f64, row.ns_per_pick))
                .collect(),
            ours: !targets::is_peer(strategy),
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
    use crate::bench::pick::figures::tests::rounds;

    #[test]
    fn strategies_are_listed_by_size() {
        let measured = [
            rounds("random", Work::Pick, 3, &[(10.0, 10.0)]),
            rounds("random", Work::Pick, 30, &[(20.0, 40.0)]),
            rounds("tower-p2c-peak-ewma", Work::Call, 3, &[(900.0, 900.0)]),
            rounds("tower-p2c-peak-ewma", Work::Call, 30, &[(900.0, 900.0)]),
        ]
        .concat();
        let rows = figures::rows(&measured);
        let text = text(&rows, &measured, &targets::check_targets(&measured));
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
