//! Rows, tables, targets and figure of `bench cluster`.

use xtask_load::Report;
use xtask_report::{Bar, Panel, draw_bars};

use super::service::IN_FLIGHT_PER_WORKER;
use crate::bench::{
    mode::{CPU, Column, IN_FLIGHT, Mode, P50, RATE},
    rows::Row,
    targets::{self, Target},
};

/// Rows of the benchmark. Each has a baseline that was measured in the same rounds.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Calls of one worker that answers at once through a cluster client, beside direct calls.
    pub(crate) compared: Vec<Row>,
    /// Workers of a fixed service time, beside one of them.
    pub(crate) scaled: Vec<Row>,
}

/// Calls through a cluster client, beside direct ones.
pub(crate) const COMPARED: Mode = Mode {
    table: |_| "in flight".to_owned(),
    name: |row| row.cell.trim_end_matches(" in flight"),
    columns: &[
        RATE,
        Column::Number("direct", direct_per_s),
        Column::Ratio("ratio", rate_ratio),
        P50,
        Column::Number("added", added_p50_us),
        CPU,
        Column::Number("added", added_cpu_us_per_call),
    ],
    fields: &[&[
        ("calls_per_s", Row::per_s),
        ("direct_calls_per_s", direct_per_s),
        ("rate_ratio", rate_ratio),
        ("p50_us", Row::p50_us),
        ("added_p50_us", added_p50_us),
        ("cpu_us_per_call", Row::cpu_us_per_call),
        ("added_cpu_us_per_call", added_cpu_us_per_call),
    ]],
    ..Mode::CALLS
};

/// More and more workers.
pub(crate) const SCALED: Mode = Mode {
    table: |_| "workers".to_owned(),
    name: |row| row.subject.name.trim_start_matches("workers-"),
    columns: &[IN_FLIGHT, RATE, Column::Ratio("of linear", of_linear), CPU],
    fields: &[&[
        ("calls_per_s", Row::per_s),
        ("of_linear", of_linear),
        ("cpu_us_per_call", Row::cpu_us_per_call),
    ]],
    ..Mode::CALLS
};

fn direct_per_s(row: &Row) -> Option<f64> {
    row.paired(|_, direct| direct.per_s())
}

fn rate_ratio(row: &Row) -> Option<f64> {
    row.paired(|it, direct| it.per_s() / direct.per_s())
}

fn added_p50_us(row: &Row) -> Option<f64> {
    row.paired(|it, direct| it.latency.p50_us - direct.latency.p50_us)
}

/// CPU time of both processes.
fn added_cpu_us_per_call(row: &Row) -> Option<f64> {
    row.paired(|it, direct| it.cpu_us_per_call() - direct.cpu_us_per_call())
}

/// Ratio to as many times the rate of one worker in the same round.
fn of_linear(row: &Row) -> Option<f64> {
    let workers = workers(row) as f64;
    row.paired(|it: &Report, single| it.per_s() / (single.per_s() * workers))
}

fn workers(row: &Row) -> usize {
    row.load.in_flight / IN_FLIGHT_PER_WORKER
}

impl Rows {
    pub(crate) fn targets(&self) -> Vec<Target> {
        let at_least = |what: String, (measured, bound)| {
            Target::ratio(vec![what], ("at least", bound), measured, f64::ge)
        };
        let mut targets = Vec::new();
        for row in &self.compared {
            let in_flight = row.load.in_flight;
            let what = format!("rate of direct calls, {in_flight} in flight");
            let rate_min = match in_flight {
                1 => SINGLE_RATE_MIN,
                _ => RATE_MIN,
            };
            targets.extend(rate_ratio(row).map(|rate| at_least(what, (rate, rate_min))));
            let added = added_p50_us(row).filter(|_| in_flight == 1);
            targets.extend(added.map(|added| Target {
                what: vec!["more than directly at p50, 1 in flight".to_owned()],
                bound: format!("at most {ADDED_P50_US_MAX} µs"),
                measured: format!("{added:.2} µs"),
                met: added <= ADDED_P50_US_MAX,
            }));
        }
        for row in self.scaled.iter().filter(|row| workers(row) > 1) {
            let what = format!("of linear, {} workers", workers(row));
            targets.extend(of_linear(row).map(|part| at_least(what, (part, LINEAR_MIN))));
        }
        targets
    }

    pub(crate) fn text(&self) -> String {
        format!(
            "a worker that answers at once, through the cluster client and directly\n{}\
             workers that take 1 ms for a call and serve 8 at a time\n{}{}",
            COMPARED.report(&self.compared),
            SCALED.report(&self.scaled),
            targets::report(&["", "target", "measured", ""], &self.targets())
        )
    }

    pub(crate) fn figure(&self) -> String {
        let bar = |label: &str, value, ours| Bar {
            label: label.to_owned(),
            value,
            ours,
        };
        let compared = self.compared.iter().map(|row| Panel {
            title: format!("one worker, {} in flight", row.load.in_flight),
            bars: vec![
                bar("cluster client", row.per_s(), true),
                bar("direct", direct_per_s(row), false),
            ],
        });
        let fleet = |row: &Row| bar(&format!("{} workers", workers(row)), row.per_s(), true);
        let scaled = Panel {
            title: "workers of 1 ms, 8 at a time".to_owned(),
            bars: self.scaled.iter().map(fleet).collect(),
        };
        let panels: Vec<_> = compared.chain([scaled]).collect();
        let title = "calls per second through a cluster client, echo of 32 B";
        draw_bars(title, &panels)
    }
}

/// Least rate of that of direct calls, one at a time and with many in flight.
const SINGLE_RATE_MIN: f64 = 0.97;
const RATE_MIN: f64 = 0.9;
const ADDED_P50_US_MAX: f64 = 2.0;
const LINEAR_MIN: f64 = 0.95;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        cluster::row,
        options::Measuring,
        tests::{json, report},
    };

    /// A row of these reports, beside those of its baseline.
    fn measured(workers: usize, in_flight: usize, reports: &[[Report; 2]]) -> Row {
        let mut row = row(&Measuring::default(), "any", workers, in_flight);
        row.reports = reports.iter().map(|it| it[0]).collect();
        row.baseline = reports.iter().map(|it| it[1]).collect();
        row
    }

    fn rows(through: (u64, f64), four: u64) -> Rows {
        let direct = report(1000, 10.0);
        Rows {
            compared: vec![measured(1, 1, &[[report(through.0, through.1), direct]])],
            scaled: vec![
                measured(1, 64, &[[direct, direct]]),
                measured(4, 256, &[[report(four, 1.0), direct]]),
            ],
        }
    }

    #[test]
    fn comparisons_are_made_within_a_round() {
        // The machine is slower in the second round, and in the third.
        let row = measured(
            1,
            64,
            &[
                [report(900, 11.0), report(1000, 10.0)],
                [report(500, 22.0), report(500, 20.0)],
                [report(90, 103.0), report(100, 100.0)],
            ],
        );
        assert_eq!(rate_ratio(&row), Some(0.9));
        assert_eq!(added_p50_us(&row), Some(2.0));
        assert_eq!(
            (row.per_s(), direct_per_s(&row)),
            (Some(500.0), Some(500.0))
        );
        assert_eq!(rate_ratio(&measured(1, 64, &[])), None);
    }

    #[test]
    fn a_fleet_is_compared_with_as_many_single_workers() {
        let row = measured(
            4,
            256,
            &[
                [report(4000, 1.0), report(1000, 1.0)],
                [report(3040, 1.0), report(800, 1.0)],
                [report(3600, 1.0), report(1000, 1.0)],
            ],
        );
        assert_eq!((of_linear(&row), row.per_s()), (Some(0.95), Some(3600.0)));
    }

    #[test]
    fn the_rows_have_the_agreed_fields() {
        let some = [[report(1000, 10.0); 2]];
        let row = json(&measured(1, 1, &some), COMPARED.fields);
        for field in [
            "calls_per_s",
            "direct_calls_per_s",
            "added_p50_us",
            "cpu_us_per_call",
        ] {
            assert!(row[field].is_f64(), "{row}");
        }
        assert_eq!((&row["workers"], &row["in_flight"]), (&1.into(), &1.into()));
        let row = json(&measured(16, 1024, &some), SCALED.fields);
        assert_eq!(
            (&row["workers"], &row["in_flight"]),
            (&16.into(), &1024.into())
        );
        assert!(row["calls_per_s"].is_f64() && row.get("added_p50_us").is_none());
    }

    #[test]
    fn targets_are_met_at_their_bounds_and_missed_past_them() {
        let met = |through, four| -> Vec<bool> {
            let targets = rows(through, four).targets();
            targets.iter().map(|target| target.met).collect()
        };
        assert_eq!(met((970, 12.0), 3800), [true, true, true]);
        assert_eq!(met((969, 12.01), 3799), [false, false, false]);
    }

    #[test]
    fn many_calls_in_flight_have_a_bound_of_their_own() {
        for (calls, is_met) in [(900, true), (899, false)] {
            let mut rows = rows((1000, 10.0), 4000);
            let reports = [[report(calls, 10.0), report(1000, 10.0)]];
            rows.compared = vec![measured(1, 64, &reports)];
            assert_eq!(rows.targets()[0].met, is_met);
        }
    }

    #[test]
    fn the_tables_tell_what_was_missed() {
        let rows = rows((970, 14.0), 4000);
        let text = rows.text();
        assert!(
            text.contains("4.00 µs  MISSED") && text.ends_with("2 of 3 targets met\n"),
            "{text}"
        );
        let svg = rows.figure();
        assert!(svg.contains("one worker, 1 in flight") && svg.contains("workers of 1 ms"));
    }
}
