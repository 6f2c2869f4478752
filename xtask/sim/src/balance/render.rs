//! Tables for each scenario, one over all, and the figure.

use std::fmt::Write;

use xtask_report::{Axis, Chart, Series, format_table, number};

use super::{figures::Row, scenarios::BalanceScenario, strategies::DEFAULT};

/// A table for each scenario, and one of all.
pub(super) fn tables(scenarios: &[BalanceScenario], rows: &[Row]) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        let rows: Vec<_> = rows_of(rows, &scenario.name).collect();
        let _ = writeln!(text, "{}: {}", scenario.name, scenario.description);
        text.push_str(&format_table(&table(&rows)));
        text.push('\n');
    }
    let names: Vec<&str> = scenarios.iter().map(|it| &*it.name).collect();
    text.push_str(&summary(&names, rows));
    text
}

fn rows_of<'a>(rows: &'a [Row], scenario: &str) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(move |row| row.scenario == scenario)
}

fn table(rows: &[&Row]) -> Vec<Vec<String>> {
    type Text = fn(&Row) -> Option<String>;
    let all: [(&str, Text); 11] = [
        ("calls", |row| Some(format!("{:.0}", row.calls))),
        ("failed", |row| Some(format!("{:.0}", row.failed))),
        ("p50 ms", |row| Some(number(row.p50_ms))),
        ("p99 ms", |row| Some(number(row.p99_ms))),
        ("p99.9 ms", |row| Some(number(row.p999_ms))),
        ("p99 of answered", |row| {
            row.load.map(|_| number(row.answered_p99_ms))
        }),
        ("goodput", |row| Some(format!("{:.3}", row.goodput_ratio))),
        ("extra %", |row| Some(number(100.0 * row.extra_ratio))),
        ("to bad %", |row| {
            row.bad_share.map(|share| number(100.0 * share))
        }),
        ("p99 to healthy", |row| {
            row.p99_to_healthy.map(|it| format!("{it:.2}x"))
        }),
        ("recovery s", |row| row.recovery_s.map(number)),
    ];
    let shown = |text: Text| rows.iter().any(|row| text(row).is_some());
    let columns: Vec<_> = all.into_iter().filter(|(_, text)| shown(*text)).collect();
    let headings = columns.iter().map(|(heading, _)| (*heading).to_owned());
    let mut lines = vec![
        ["strategy".to_owned()]
            .into_iter()
            .chain(headings)
            .collect::<Vec<_>>(),
    ];
    for row in rows {
        let texts = columns
            .iter()
            .map(|(_, text)| text(row).unwrap_or_else(|| "-".to_owned()));
        lines.push([row.strategy.clone()].into_iter().chain(texts).collect());
    }
    lines
}

/// Ratio of each strategy's p99 to the best in each scenario, and the geometric mean.
fn summary(scenarios: &[&str], rows: &[Row]) -> String {
    let mut strategies: Vec<&str> = Vec::new();
    for row in rows {
        if !strategies.contains(&&*row.strategy) {
            strategies.push(&row.strategy);
        }
    }
    let heading = ["p99 to the best".to_owned()].into_iter();
    let mut lines = vec![
        heading
            .chain(strategies.iter().map(|it| (*it).to_owned()))
            .collect::<Vec<_>>(),
    ];
    let mut logs = vec![0.0; strategies.len()];
    let mut worst = vec![0.0_f64; strategies.len()];
    for scenario in scenarios {
        let p99 = |strategy: &str| {
            let mut row = rows_of(rows, scenario).filter(|row| row.strategy == strategy);
            row.next().map_or(f64::NAN, |row| row.p99_ms)
        };
        let best = strategies
            .iter()
            .map(|it| p99(it))
            .fold(f64::INFINITY, f64::min);
        let mut line = vec![(*scenario).to_owned()];
        for (at, strategy) in strategies.iter().enumerate() {
            let ratio = p99(strategy) / best;
            logs[at] += ratio.ln();
            worst[at] = worst[at].max(ratio);
            line.push(format!("{ratio:.2}"));
        }
        lines.push(line);
    }
    let mean = logs
        .iter()
        .map(|log| format!("{:.2}", (log / scenarios.len() as f64).exp()));
    lines.push(["mean".to_owned()].into_iter().chain(mean).collect());
    let worst = worst.iter().map(|it| format!("{it:.2}"));
    lines.push(["worst".to_owned()].into_iter().chain(worst).collect());
    format!("{}\n", format_table(&lines))
}

/// Tail latency, failures and goodput against the load.
pub(super) fn figure(rows: &[Row]) -> String {
    let panel = |title: &str, y: Axis, figure: fn(&Row) -> f64| {
        let mut series: Vec<Series> = Vec::new();
        for row in rows {
            let Some(load) = row.load else { continue };
            if row.strategy == EXCLUDED_STRATEGY {
                continue;
            }
            let line = match series.iter_mut().position(|it| it.name == row.strategy) {
                Some(at) => &mut series[at],
                None => {
                    series.push(Series {
                        name: row.strategy.clone(),
                        points: Vec::new(),
                        ours: row.strategy == DEFAULT,
                    });
                    series.last_mut().expect("pushed")
                }
            };
            line.points.push((load, figure(row)));
        }
        Chart {
            title: title.to_owned(),
            x: Axis::linear("load, times the capacity"),
            y,
            series,
        }
    };
    Chart::draw_all(
        "Ten workers, three of them 4 times slower, each second another",
        &[
            panel(
                "tail latency of the calls that were answered",
                Axis::linear("p99, ms"),
                |row| row.answered_p99_ms,
            ),
            panel("calls that failed", Axis::linear("%"), |row| {
                100.0 * row.failed / row.calls
            }),
            panel(
                "latency of half of the calls",
                Axis::linear("p50, ms"),
                |row| row.p50_ms,
            ),
        ],
    )
}

/// Left out: no worker is new under load, so its lines are those of the strategy that it wraps.
const EXCLUDED_STRATEGY: &str = "slow-start";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::figures::tests::row;

    #[test]
    fn the_summary_relates_each_to_the_best() {
        let rows = [
            row("tower", "a", 10.0, None),
            row("tower", "b", 40.0, None),
            row("hang", "a", 30.0, None),
            row("hang", "b", 30.0, None),
        ];
        let text = summary(&["tower", "hang"], &rows);
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
        let rows = [
            row("load-0.50", DEFAULT, 10.0, Some(0.5)),
            row("load-0.75", DEFAULT, 20.0, Some(0.75)),
            row("tower", DEFAULT, 20.0, None),
        ];
        let svg = figure(&rows);
        assert_eq!(svg.matches("<circle").count(), 6);
    }
}
