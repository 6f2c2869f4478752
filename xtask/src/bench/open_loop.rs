//! `bench rpc --open-loop`: calls that begin at a fixed rate, so that queueing is not hidden.

use std::error::Error;

use xtask_load::{Job, Load};
use xtask_report::number;

use super::{
    client_process::BenchSetup,
    grid,
    mode::{Column, Mode, P50, P99, P999, Panels},
    options::Options,
    rows::{CALLS as CALL_FIGURES, Row},
    subjects::{CALLS, OURS, Subject, SubjectKind},
    targets::Notes,
};

pub(crate) const MODE: Mode = Mode {
    subjects: CALLS,
    inapplicable: &["--payload", "--in-flight"],
    // The closed loops that show the peaks.
    groups: |options, subjects| {
        let group = |in_flight| grid::group(options, subjects, (PAYLOAD_BYTES, in_flight));
        [64, 512].map(group).to_vec()
    },
    columns: &[
        Column::Text("of the peak of", |row| {
            row.cell.replace("of the peak of ", "")
        }),
        Column::Number("offered/s", offered),
        Column::Number("answered/s", Row::per_s),
        Column::Number("backlog", backlog),
        P50,
        P99,
        P999,
        Column::Number("p99.9/p50", tail),
        Column::Number("run-queue wait %", run_queue_wait_percent),
    ],
    fields: &[
        CALL_FIGURES,
        &[
            ("backlog", backlog),
            ("run_queue_wait_percent", run_queue_wait_percent),
        ],
    ],
    figure: |_| "p99.9 in µs at a fixed rate, echo of 32 B (shorter is better)".to_owned(),
    bars: &[(Panels::Cells, Row::p999_us)],
    notes,
    ..Mode::CALLS
};

/// Rows at shares of peaks: 50 % and 80 % of ours, then 80 % of that of each other subject, all
/// subjects at each of these rates. One whose peak is less cannot carry it, and says so. Beside
/// them [an empty loop](Job::Empty) shows what the machine alone does to such calls.
///
/// The peak is the best of the closed loops, or what is answered of it when it is offered at a
/// fixed rate, if that is less: to begin a call at its time, whatever became of the others, is more
/// work for the client than to repeat one.
///
/// `run-queue wait %` is the time in which threads of client and server were ready to run and
/// waited for a core: a part of the latencies that is the machine's.
pub(crate) async fn at_shares_of_peaks(
    options: &Options,
    setup: &BenchSetup,
    subjects: &[Subject],
    closed: &[Row],
) -> Result<Vec<Vec<Row>>, Box<dyn Error>> {
    let load = options.measuring.load(PAYLOAD_BYTES, IN_FLIGHT_MAX);
    let offered = at_peaks(load, subjects, closed);
    let open = setup.measure_all(&options.measuring, vec![offered]).await?;
    Ok(groups(load, &peaks(subjects, &open)))
}

/// Rows that offer each subject the best rate of its closed loops.
fn at_peaks(load: Load, subjects: &[Subject], closed: &[Row]) -> Vec<Row> {
    let rows = subjects.iter().filter_map(|subject| {
        let calls_per_s = best(closed, *subject)?;
        let cell = "at the rate of its closed loops".to_owned();
        Some(Row::new(*subject, cell, load, Job::Open { calls_per_s }))
    });
    rows.collect()
}

/// The lesser of the rates that were offered and answered.
fn peaks(subjects: &[Subject], open: &[Row]) -> Vec<(Subject, Option<f64>)> {
    let subjects = subjects.iter().filter(|it| it.takes(PAYLOAD_BYTES));
    let peak = |subject: &Subject| {
        let row = open.iter().find(|row| row.subject == *subject)?;
        Some(offered(row)?.min(row.per_s()?))
    };
    subjects.map(|it| (*it, peak(it))).collect()
}

/// Subjects with their peaks, those that could be measured.
type Peaks = [(Subject, Option<f64>)];

fn groups(load: Load, peaks: &Peaks) -> Vec<Vec<Row>> {
    let mut groups = Vec::new();
    // The first is ours, unless it was not asked for.
    for (nth, (of, peak)) in peaks.iter().enumerate() {
        let percents = if nth == 0 {
            &PERCENTS[..]
        } else {
            &PERCENTS[1..]
        };
        for (percent, peak) in percents
            .iter()
            .filter_map(|percent| Some((*percent, (*peak)?)))
        {
            let offer = Offer {
                of: *of,
                percent,
                calls_per_s: peak * f64::from(percent) / 100.0,
            };
            let calls = peaks
                .iter()
                .map(|(subject, peak)| offer.row(*subject, load, *peak));
            groups.push([offer.empty(load)].into_iter().chain(calls).collect());
        }
    }
    groups
}

/// Rate that is offered to all subjects: a share of the peak of one of them.
struct Offer {
    of: Subject,
    percent: u32,
    calls_per_s: f64,
}

impl Offer {
    fn cell(&self) -> String {
        format!("{} % of the peak of {}", self.percent, self.of.name)
    }

    /// Calls at this rate, which are a failure if the subject's peak is less.
    fn row(&self, subject: Subject, load: Load, peak: Option<f64>) -> Row {
        let calls_per_s = self.calls_per_s;
        let mut row = self.conditions(subject, load, Job::Open { calls_per_s });
        row.failed = match peak {
            None => Some("its peak could not be measured".to_owned()),
            Some(peak) if peak < calls_per_s => Some(format!(
                "it cannot carry {} calls/s, its peak is {}",
                number(calls_per_s),
                number(peak)
            )),
            Some(_) => None,
        };
        row
    }

    /// The empty loop at this rate.
    fn empty(&self, load: Load) -> Row {
        let calls_per_s = self.calls_per_s;
        self.conditions(EMPTY_LOOP, load, Job::Empty { calls_per_s })
    }

    fn conditions(&self, subject: Subject, load: Load, job: Job) -> Row {
        // Calls in flight are not limited: the row says 0.
        Row::new(subject, self.cell(), load, job)
            .with("payload_bytes", load.body_bytes)
            .with("in_flight", 0)
            .with("rate_percent_of_peak", self.percent)
            .with("peak_of", self.of.name)
            .with("offered_per_s", self.calls_per_s)
    }
}

fn best(closed: &[Row], subject: Subject) -> Option<f64> {
    let rows = closed.iter().filter(|row| row.subject == subject);
    rows.filter_map(Row::per_s).reduce(f64::max)
}

fn offered(row: &Row) -> Option<f64> {
    match row.job {
        Job::Open { calls_per_s } | Job::Empty { calls_per_s } => Some(calls_per_s),
        _ => None,
    }
}

fn tail(row: &Row) -> Option<f64> {
    Some(row.p999_us()? / row.p50_us()?)
}

fn backlog(row: &Row) -> Option<f64> {
    match row.job {
        Job::Open { .. } => row.median(|it| it.backlog as f64),
        _ => None,
    }
}

fn run_queue_wait_percent(row: &Row) -> Option<f64> {
    let is_known = row.reports.iter().all(|it| it.run_queue_wait.is_some());
    let percent = row.median(|it| 100.0 * it.run_queue_wait.unwrap_or_default());
    percent.filter(|_| is_known)
}

/// Subjects that do not keep up with a rate that is less than their peak, and whether the tail of
/// ours stays near the median.
fn notes(rows: &[Row]) -> Notes {
    let mut notes = Notes::default();
    for row in rows.iter().filter(|row| row.failed.is_none()) {
        if let (Some(answered), Some(offered)) = (row.per_s(), offered(row))
            && answered < KEPT_UP_MIN * offered
        {
            notes.add_text(&format!(
                "{} does not keep up at {}: it answers {} of {} calls/s\n",
                row.subject.name,
                row.cell,
                number(answered),
                number(offered)
            ));
        }
    }
    add_tail_target(rows, &mut notes);
    notes
}

fn add_tail_target(rows: &[Row], notes: &mut Notes) {
    let target = format!("{TARGET_PERCENT} % of the peak of {OURS}");
    let ours = rows
        .iter()
        .find(|row| row.is_ours() && row.cell == target)
        .and_then(|row| Some((row.per_s()?, offered(row)?, tail(row)?)));
    if let Some((answered, offered, tail)) = ours {
        // A subject that does not keep up has a high median too.
        let keeps_up = answered >= KEPT_UP_MIN * offered;
        let what = format!(
            "keeps up with p99.9 under {TARGET_TAIL} times p50 at {TARGET_PERCENT} % of its peak: "
        );
        notes.add_target(&what, keeps_up && tail < TARGET_TAIL);
    }
}

const PAYLOAD_BYTES: usize = 32;
/// The empty loop in place of a subject.
const EMPTY_LOOP: Subject = Subject::new("(empty clock loop)", SubjectKind::Floor);

const PERCENTS: [u32; 2] = [50, 80];
const TARGET_PERCENT: u32 = 80;
const TARGET_TAIL: f64 = 10.0;

/// Share of the offered calls that has to be answered within the window.
const KEPT_UP_MIN: f64 = 0.99;

/// Most calls in flight, of the load and of the limits that the benchmark gives peers alike: less
/// than servers take.
const IN_FLIGHT_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        subjects::{self, ALL, TONIC},
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
    fn a_subject_that_answers_less_than_it_is_offered_has_that_peak() {
        let subjects = [ALL[0], subjects::named(TONIC).unwrap(), ALL[3]];
        let closed = [
            closed(OURS, (32, 512), 3000, 1.0),
            closed(TONIC, (32, 512), 200, 1.0),
        ];
        let mut open = at_peaks(load(), &subjects, &closed);
        open[0].reports = [2000, 100, 2500].map(|calls| report(calls, 1.0)).to_vec();
        open[1].failed = Some("it hangs".to_owned());
        // The last one is not measured with small bodies.
        let expected = [(subjects[0], Some(2000.0)), (subjects[1], None)];
        assert_eq!(peaks(&subjects, &open), expected);
    }

    #[test]
    fn a_row_says_what_was_not_answered_and_how_long_threads_waited() {
        let mut row = groups(load(), &[(ALL[0], Some(100.0))]).remove(0).remove(1);
        row.reports = vec![report(50, 10.0); 2];
        row.reports[0].backlog = 40;
        row.reports[0].run_queue_wait = Some(0.02);
        assert_eq!(json(&row, MODE.fields)["backlog"], 20.0);
        // One of the rounds has no such figure.
        assert!(
            json(&row, MODE.fields)
                .get("run_queue_wait_percent")
                .is_none()
        );
        row.reports[1].run_queue_wait = Some(0.04);
        assert_eq!(json(&row, MODE.fields)["run_queue_wait_percent"], 3.0);
        assert!(MODE.report(&[row]).contains("run-queue wait %"));
    }

    fn load() -> Load {
        Load {
            body_bytes: 32,
            ..Load::default()
        }
    }

    #[test]
    fn all_are_offered_the_same_rates_and_say_what_they_cannot_carry() {
        let (ours, tonic) = (ALL[0], subjects::named(TONIC).unwrap());
        let failing = subjects::named("rpcnet-0.1.0").unwrap();
        let peaks = [(ours, Some(1000.0)), (tonic, Some(100.0)), (failing, None)];
        let groups = groups(load(), &peaks);
        let offered: Vec<_> = groups.iter().map(|rows| offered(&rows[1])).collect();
        assert_eq!(offered, [Some(500.0), Some(800.0), Some(80.0)]);
        let carried = |rows: &Vec<Row>| -> Vec<bool> {
            rows.iter().map(|row| row.failed.is_none()).collect()
        };
        assert_eq!(carried(&groups[1]), [true, true, false, false]);
        assert_eq!(carried(&groups[2]), [true, true, true, false]);
        let text = MODE.report(&groups[1]);
        assert!(
            text.contains("cannot carry 800 calls/s, its peak is 100"),
            "{text}"
        );
        assert!(text.contains("peak could not be measured"), "{text}");
    }

    #[test]
    fn the_tail_is_compared_with_the_median() {
        let mut row = groups(load(), &[(ALL[0], Some(125.0))]).remove(1).remove(1);
        row.reports.push(report(100, 10.0));
        let fields = json(&row, MODE.fields);
        assert_eq!(fields["offered_per_s"], 100.0);
        assert_eq!(fields["rate_percent_of_peak"], 80);
        let text = MODE.report(std::slice::from_ref(&row));
        assert!(
            text.contains("3.00") && text.contains("its peak: met"),
            "{text}"
        );
        let line = text.lines().nth(1).unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells[..6], ["rpcnet", "80", "%", "rpcnet", "100", "100"]);
        row.reports[0].count = 98;
        let text = MODE.report(std::slice::from_ref(&row));
        assert!(
            text.contains("does not keep up") && text.contains("MISSED"),
            "{text}"
        );
        assert_eq!(MODE.missed_targets(std::slice::from_ref(&row)), 1);
    }

    #[test]
    fn an_empty_loop_is_beside_the_subjects() {
        let mut rows = groups(load(), &[(ALL[0], Some(1000.0))]).remove(0);
        rows[0].reports.push(report(500, 0.1));
        rows[1].reports.push(report(500, 10.0));
        let text = MODE.report(&rows);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("(empty clock loop)"), "{text}");
        assert!(matches!(rows[0].job, Job::Empty { calls_per_s: 500.0 }));
    }
}
