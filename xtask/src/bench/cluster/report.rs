//! Tables, targets and figure of `bench cluster`.

use xtask_report::{Bar, Panel, draw_bars, format_table, number, ratio};

use super::figures::{Compared, Row, Scaled};
use crate::bench::targets::{self, Target};

/// Targets that were measured.
pub(crate) fn targets(rows: &[Row]) -> Vec<Target> {
    let ratio_target = |what, measured, bound| Target {
        what: vec![what],
        bound: format!("at least {}", ratio(bound)),
        measured: ratio(measured),
        met: measured >= bound,
    };
    let mut targets = Vec::new();
    for row in compared(rows) {
        let what = format!("rate of direct calls, {} in flight", row.in_flight);
        targets.push(ratio_target(what, row.rate_ratio, RATE_MIN));
        if row.in_flight == 1 {
            targets.push(Target {
                what: vec!["more than directly at p50, 1 in flight".to_owned()],
                bound: format!("at most {ADDED_P50_US_MAX} µs"),
                measured: format!("{:.2} µs", row.added_p50_us),
                met: row.added_p50_us <= ADDED_P50_US_MAX,
            });
        }
    }
    for row in scaled(rows).filter(|row| row.workers > 1) {
        let what = format!("of linear, {} workers", row.workers);
        targets.push(ratio_target(what, row.of_linear, LINEAR_MIN));
    }
    targets
}

/// Tables of the results.
pub(crate) fn text(rows: &[Row]) -> String {
    let table = |heading: &[&str], lines: Vec<Vec<String>>| {
        let heading = heading.iter().map(|it| (*it).to_owned()).collect();
        format_table(&[vec![heading], lines].concat())
    };
    let calls = compared(rows).map(|row| {
        vec![
            row.in_flight.to_string(),
            number(row.calls_per_s),
            number(row.direct_calls_per_s),
            ratio(row.rate_ratio),
            number(row.p50_us),
            number(row.added_p50_us),
            number(row.cpu_us_per_call),
            number(row.added_cpu_us_per_call),
        ]
    });
    let fleets = scaled(rows).map(|row| {
        vec![
            row.workers.to_string(),
            row.in_flight.to_string(),
            number(row.calls_per_s),
            ratio(row.of_linear),
            number(row.cpu_us_per_call),
        ]
    });
    format!(
        "a worker that answers at once, through the cluster client and directly\n{}\n\
         workers that take 1 ms for a call and serve 8 at a time\n{}\n{}",
        table(CALLS, calls.collect()),
        table(FLEETS, fleets.collect()),
        targets::report(&["", "target", "measured", ""], &targets(rows))
    )
}

/// The rates.
pub(crate) fn figure(rows: &[Row]) -> String {
    let bar = |label: String, value: f64, ours: bool| Bar {
        label,
        value: Some(value),
        ours,
    };
    let mut panels: Vec<Panel> = compared(rows)
        .map(|row| Panel {
            title: format!("one worker, {} in flight", row.in_flight),
            bars: vec![
                bar("cluster client".to_owned(), row.calls_per_s, true),
                bar("direct".to_owned(), row.direct_calls_per_s, false),
            ],
        })
        .collect();
    panels.push(Panel {
        title: "workers of 1 ms, 8 at a time".to_owned(),
        bars: scaled(rows)
            .map(|row| bar(format!("{} workers", row.workers), row.calls_per_s, true))
            .collect(),
    });
    draw_bars(
        "calls per second through a cluster client, echo of 32 B",
        &panels,
    )
}

fn compared(rows: &[Row]) -> impl Iterator<Item = &Compared> {
    rows.iter().filter_map(|row| match row {
        Row::Compared(row) => Some(row),
        Row::Scaled(_) => None,
    })
}

fn scaled(rows: &[Row]) -> impl Iterator<Item = &Scaled> {
    rows.iter().filter_map(|row| match row {
        Row::Scaled(row) => Some(row),
        Row::Compared(_) => None,
    })
}

const CALLS: &[&str] = &[
    "in flight",
    "calls/s",
    "direct",
    "ratio",
    "p50 µs",
    "added",
    "CPU µs/call",
    "added",
];
const FLEETS: &[&str] = &[
    "workers",
    "in flight",
    "calls/s",
    "of linear",
    "CPU µs/call",
];

const RATE_MIN: f64 = 0.97;
const ADDED_P50_US_MAX: f64 = 3.0;
const LINEAR_MIN: f64 = 0.95;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::tests::report;

    fn rows(through: (u64, f64), four: u64) -> Vec<Row> {
        let direct = [report(1000, 10.0)];
        let through = [report(through.0, through.1)];
        vec![
            Row::Compared(Compared::new(1, &direct, &through).unwrap()),
            Row::Scaled(Scaled::new(1, &direct, &direct).unwrap()),
            Row::Scaled(Scaled::new(4, &[report(four, 1.0)], &direct).unwrap()),
        ]
    }

    #[test]
    fn targets_are_met_at_their_bounds_and_missed_past_them() {
        let met = |through, four| -> Vec<bool> {
            let targets = targets(&rows(through, four));
            targets.iter().map(|target| target.met).collect()
        };
        assert_eq!(met((970, 13.0), 3800), [true, true, true]);
        assert_eq!(met((969, 13.01), 3799), [false, false, false]);
    }

    #[test]
    fn the_tables_tell_what_was_missed() {
        let text = text(&rows((970, 14.0), 4000));
        assert!(
            text.contains("4.00 µs  MISSED") && text.ends_with("2 of 3 targets met\n"),
            "{text}"
        );
        let svg = figure(&rows((970, 14.0), 4000));
        assert!(svg.contains("one worker, 1 in flight") && svg.contains("workers of 1 ms"));
    }
}
