//! `bench rpc --open-loop`: calls that begin at a fixed rate, so that queueing is not hidden.

use std::error::Error;

use xtask_load::{Job, Load};

use super::{
    client_process::BenchSetup,
    grid,
    mode::{Column, Mode, P50, P99, P999, Panels},
    options::Options,
    rows::Row,
    subjects::Subject,
    targets::status,
};

pub(crate) const MODE: Mode = Mode {
    // The closed loops that show the peaks.
    groups: |options, subjects| {
        let group = |in_flight| grid::group(options, subjects, (PAYLOAD_BYTES, in_flight));
        [64, IN_FLIGHT_EXPECTED].map(group).to_vec()
    },
    columns: &[
        Column::Text("of peak", |row| row.cell.replace(" of its own peak", "")),
        Column::Number("offered/s", offered),
        Column::Number("taken/s", Row::per_s),
        P50,
        P99,
        P999,
        Column::Number("p99.9/p50", tail),
    ],
    figure: |_| "p99.9 in µs at a fixed rate, echo of 32 B (shorter is better)".to_owned(),
    bars: &[(Panels::Cells, Row::p999_us)],
    notes,
    ..Mode::CALLS
};

/// Rows at shares of the peak of each subject.
///
/// The peak is the best of the closed loops, or what is taken of it when it is offered at a fixed
/// rate, if that is less: to begin a call at its time, whatever became of the others, is more work
/// for the client than to repeat one.
pub(crate) async fn at_shares_of_peak(
    options: &Options,
    setup: &BenchSetup,
    subjects: &[Subject],
    closed: &[Row],
) -> Result<Vec<Vec<Row>>, Box<dyn Error>> {
    let load = options.measuring.load(PAYLOAD_BYTES, IN_FLIGHT_EXPECTED);
    let mut groups = vec![Vec::new(); PERCENTS.len()];
    for subject in subjects.iter().filter(|it| it.takes(PAYLOAD_BYTES)) {
        let mut peak = best(closed, *subject);
        if let Some(rate) = peak {
            let report = setup.measure(&row(*subject, load, 100, Some(rate))).await?;
            peak = Some(rate.min(report.per_s()));
        }
        for (rows, percent) in groups.iter_mut().zip(PERCENTS) {
            rows.push(row(*subject, load, percent, peak));
        }
    }
    Ok(groups)
}

/// Calls at a share of the peak, which were a failure if there is none.
fn row(subject: Subject, load: Load, percent: u32, peak: Option<f64>) -> Row {
    let offered = peak.map(|peak| peak * f64::from(percent) / 100.0);
    let cell = format!("{percent} % of its own peak");
    let job = Job::Open {
        calls_per_s: offered.unwrap_or_default(),
    };
    // Calls in flight are not limited: the row says 0.
    let mut row = Row::new(subject, cell, load, job)
        .with("payload_bytes", load.body_bytes)
        .with("in_flight", 0)
        .with("rate_percent_of_peak", percent);
    match offered {
        Some(rate) => row = row.with("offered_per_s", rate),
        None => row.failed = Some("its peak could not be measured".to_owned()),
    }
    row
}

fn best(closed: &[Row], subject: Subject) -> Option<f64> {
    let rows = closed.iter().filter(|row| row.subject == subject);
    rows.filter_map(Row::per_s).reduce(f64::max)
}

fn offered(row: &Row) -> Option<f64> {
    match row.job {
        Job::Open { calls_per_s } => Some(calls_per_s),
        _ => None,
    }
}

fn tail(row: &Row) -> Option<f64> {
    Some(row.p999_us()? / row.p50_us()?)
}

/// Whether the tail of ours stays near the median.
fn notes(rows: &[Row]) -> String {
    let target = format!("{TARGET_PERCENT} % of its own peak");
    let ours = rows
        .iter()
        .find(|row| row.is_ours() && row.cell == target)
        .and_then(|row| Some((row.per_s()?, offered(row)?, tail(row)?)));
    ours.map_or_else(String::new, |(taken, offered, tail)| {
        // A subject that does not keep up has a high median too.
        let met = match taken >= KEPT_UP_MIN * offered {
            true => status(tail < TARGET_TAIL),
            false => "MISSED: it does not keep up",
        };
        format!("p99.9 under {TARGET_TAIL} times p50 at {TARGET_PERCENT} % of peak: {met}\n")
    })
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
    use crate::bench::{
        subjects::{ALL, OURS},
        tests::{failed, json, report, row as closed},
    };

    #[test]
    fn the_peak_is_the_better_of_both() {
        let rows = [
            closed(OURS, (32, 64), 1000, 1.0),
            closed(OURS, (32, 512), 3000, 1.0),
            failed("it hangs", (32, 64)),
        ];
        assert_eq!(best(&rows, ALL[0]), Some(3000.0));
        assert_eq!(best(&rows, rows[2].subject), None);
        assert_eq!(best(&rows, ALL[2]), None);
    }

    #[test]
    fn the_tail_is_compared_with_the_median() {
        let load = Load {
            body_bytes: 32,
            ..Load::default()
        };
        let mut row = row(ALL[0], load, 80, Some(125.0));
        row.reports.push(report(100, 10.0));
        let fields = json(&row, MODE.fields);
        assert_eq!(fields["offered_per_s"], 100.0);
        assert_eq!(fields["rate_percent_of_peak"], 80);
        let text = MODE.report(&[row]);
        assert!(
            text.contains("3.00") && text.contains("peak: met"),
            "{text}"
        );
        let line = text.lines().nth(1).unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells[..5], ["rpcnet", "80", "%", "100", "100"]);
    }

    #[test]
    fn a_subject_without_a_peak_has_failed() {
        let row = row(ALL[0], Load::default(), 50, None);
        let text = MODE.report(&[row]);
        assert!(text.contains("peak could not be measured"), "{text}");
    }
}
