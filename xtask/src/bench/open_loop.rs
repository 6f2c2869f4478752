//! `bench rpc --open-loop`: calls that begin at a fixed rate, so that queueing is not hidden.

use std::error::Error;

use xtask_load::{CallReport, Job, OpenLoop};

use xtask_report::{Bar, Panel, Progress, draw_bars, format_table, number};

use super::{
    client_process::{BenchSetup, Measurement},
    grid::Cell,
    options::Options,
    rows::{Conditions, Row},
    rpc,
    subjects::{self, OURS, Subject},
};

/// Measures the peak of each subject, then calls at parts of it.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut subjects = subjects::select(options)?;
    subjects.retain(|subject| subject.takes(PAYLOAD_BYTES));
    let setup = BenchSetup::new(options, &subjects)?;
    rpc::print_conditions(options, &setup);
    let peak_cells = [64, 512].map(|in_flight| Cell {
        payload_bytes: PAYLOAD_BYTES,
        in_flight,
    });
    let closed = rpc::measure(options, &setup, &subjects, &peak_cells).await?;
    let peaks = peaks(options, &setup, &subjects, &closed).await?;
    let mut rows = Vec::new();
    let rounds = options.rounds();
    let mut progress = Progress::new(PERCENTS.len() * rounds as usize * subjects.len());
    for percent in PERCENTS {
        let mut reports: Vec<Vec<CallReport>> = vec![Vec::new(); subjects.len()];
        let mut failures: Vec<Option<String>> = vec![None; subjects.len()];
        for round in 1..=rounds {
            for (at, subject) in subjects.iter().enumerate() {
                let what = format!(
                    "{percent} % of peak, {} (round {round} of {rounds})",
                    subject.name
                );
                progress.step(&what);
                let Some(rate) = offered(&peaks, *subject, percent) else {
                    failures[at] = Some("its peak could not be measured".to_owned());
                    continue;
                };
                if failures[at].is_some() {
                    continue;
                }
                match setup.calls(&measurement(options, *subject, rate)).await {
                    Ok(report) => reports[at].push(report),
                    Err(error) if subject.may_fail() => failures[at] = Some(error.to_string()),
                    Err(error) => return Err(format!("{what}: {error}").into()),
                }
            }
        }
        for ((subject, reports), failure) in subjects.iter().zip(&reports).zip(failures) {
            // They are not limited.
            let cell = Cell {
                payload_bytes: PAYLOAD_BYTES,
                in_flight: 0,
            };
            let conditions = Conditions {
                rate_percent_of_peak: Some(percent),
                offered_per_s: offered(&peaks, *subject, percent),
                ..Conditions::default()
            };
            rows.push(Row::new(subject.name, cell, reports, failure).with(conditions));
        }
    }
    print!("{}", report(&rows));
    rpc::write_files(options, &rows, || figure(&rows))
}

/// The best of the closed loop, or what is taken of it when it is offered at a fixed rate, if that
/// is less: to begin a call at its time, whatever became of the others, is more work for the client
/// than to repeat one.
async fn peaks(
    options: &Options,
    setup: &BenchSetup,
    subjects: &[Subject],
    closed: &[Row],
) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for subject in subjects {
        let mut best = closed.iter().filter(|row| row.subject == subject.name);
        let Some(rate) = offered(closed, *subject, 100) else {
            continue;
        };
        let cell = Cell {
            payload_bytes: PAYLOAD_BYTES,
            in_flight: 0,
        };
        let report = setup.calls(&measurement(options, *subject, rate)).await?;
        let open = Row::new(subject.name, cell, &[report], None);
        let taken = open.figures.map_or(0.0, |figures| figures.calls_per_s);
        rows.extend(if taken < rate {
            Some(open)
        } else {
            best.find(|row| row.figures.is_some_and(|it| it.calls_per_s >= rate))
                .cloned()
        });
    }
    Ok(rows)
}

/// The rate that is so much of the subject's best.
fn offered(closed: &[Row], subject: Subject, percent: u32) -> Option<f64> {
    let rows = closed.iter().filter(|row| row.subject == subject.name);
    let peak = rows
        .filter_map(|row| row.figures.map(|figures| figures.calls_per_s))
        .reduce(f64::max)?;
    Some(peak * f64::from(percent) / 100.0)
}

fn measurement(options: &Options, subject: Subject, calls_per_s: f64) -> Measurement {
    Measurement {
        subject,
        job: Job::Open(OpenLoop {
            body_bytes: PAYLOAD_BYTES,
            calls_per_s,
            warm_up: options.warm_up(),
            window: options.window(),
        }),
        in_flight: IN_FLIGHT_EXPECTED,
        body_bytes: PAYLOAD_BYTES,
        hold: false,
    }
}

fn report(rows: &[Row]) -> String {
    let heading = [
        "32 B",
        "of peak",
        "offered/s",
        "taken/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "p99.9/p50",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for row in rows {
        let percent = row.conditions.rate_percent_of_peak.unwrap_or_default();
        let mut line = vec![row.subject.to_owned(), format!("{percent} %")];
        if let Some(figures) = row.figures {
            let tail = figures.p999_us / figures.p50_us;
            line.push(number(row.conditions.offered_per_s.unwrap_or_default()));
            line.extend(
                [
                    figures.calls_per_s,
                    figures.p50_us,
                    figures.p99_us,
                    figures.p999_us,
                    tail,
                ]
                .map(number),
            );
            if row.subject == OURS && percent == TARGET_PERCENT {
                // One that does not keep up has a high median too.
                let offered = row.conditions.offered_per_s.unwrap_or_default();
                let kept_up = figures.calls_per_s >= KEPT_UP_MIN * offered;
                let met = match (kept_up, tail < TARGET_TAIL) {
                    (true, true) => "met",
                    (true, false) => "MISSED",
                    (false, _) => "MISSED: it does not keep up",
                };
                notes +=
                    &format!("p99.9 under {TARGET_TAIL} times p50 at {percent} % of peak: {met}\n");
            }
        } else if let Some(reason) = &row.failed {
            notes += &format!("{} at {percent} %: {reason}\n", row.subject);
        }
        lines.push(line);
    }
    format!("{}{notes}", format_table(&lines))
}

fn figure(rows: &[Row]) -> String {
    let panels = PERCENTS.map(|percent| Panel {
        title: format!("{percent} % of its own peak"),
        bars: rows
            .iter()
            .filter(|row| row.conditions.rate_percent_of_peak == Some(percent))
            .map(|row| Bar {
                label: row.subject.to_owned(),
                value: row.figures.map(|figures| figures.p999_us),
                ours: row.subject == OURS,
            })
            .collect(),
    });
    draw_bars(
        "p99.9 in µs at a fixed rate, echo of 32 B (shorter is better)",
        &panels,
    )
}

const PAYLOAD_BYTES: usize = 32;
const PERCENTS: [u32; 2] = [50, 80];
const TARGET_PERCENT: u32 = 80;
const TARGET_TAIL: f64 = 10.0;

/// Share of the offered calls that has to be taken.
const KEPT_UP_MIN: f64 = 0.99;

/// Calls in flight that limits of peers allow: as in the closed loop that showed the peak.
const IN_FLIGHT_EXPECTED: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{rows::tests::row, subjects::ALL};

    #[test]
    fn the_peak_is_the_better_of_both() {
        let closed = [
            row(OURS, (32, 64), 1000, 1.0),
            row(OURS, (32, 512), 3000, 1.0),
        ];
        assert_eq!(offered(&closed, ALL[0], 50), Some(1500.0));
        assert_eq!(offered(&closed, ALL[2], 50), None);
    }

    #[test]
    fn the_tail_is_compared_with_the_median() {
        let conditions = Conditions {
            rate_percent_of_peak: Some(80),
            offered_per_s: Some(100.0),
            ..Conditions::default()
        };
        let row = row(OURS, (32, 0), 100, 10.0).with(conditions);
        let text = report(&[row]);
        assert!(
            text.contains("3.00") && text.contains("peak: met"),
            "{text}"
        );
    }
}
