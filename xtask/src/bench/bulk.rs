//! `bench rpc --bulk`: small calls on a slow link, alone and beside bulk traffic on the same connection.

use std::{error::Error, time::Duration};

use xtask_load::{Job, Link, Relay, Report};
use xtask_report::{Bar, Panel, Progress, align, draw, median, number, ratio};

use super::{
    cells::{Cell, payload},
    network::Network,
    options::Options,
    pair::{Measurement, Stage},
    rows::{Conditions, Row},
    rpc,
    subjects::{self, OURS, QUINN, Subject, TONIC},
};

/// Measures without bulk traffic and with it, round after round. A call that fails fails the run.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let subjects = subjects::chosen_among(options, &[OURS, TONIC, QUINN])?;
    let in_flight = match &options.in_flight[..] {
        [] => &[1, 64][..],
        asked => asked,
    };
    let cells: Vec<Cell> = in_flight
        .iter()
        .map(|in_flight| Cell {
            payload_bytes: PAYLOAD_BYTES,
            in_flight: *in_flight,
        })
        .collect();
    let relay = Relay {
        loss_per_mille: 0,
        link: Some(LINK),
    };
    let stage = Stage::new(options, &subjects)?.with_network(Network::Relay(relay));
    println!(
        "a link of {LINK_MBIT_PER_S} Mbit/s and {LINK_RTT_MS} ms with a queue of {} KB, through a relay in the client's process",
        LINK.queue_bytes / 1_000
    );
    rpc::introduce(options, &stage);
    let mut rows = Vec::new();
    let rounds = options.rounds();
    let steps = cells.len() * BULK_BYTES.len() * subjects.len() * rounds as usize;
    let mut progress = Progress::new(steps);
    for cell in cells {
        for bulk_bytes in BULK_BYTES {
            let mut reports: Vec<Vec<Report>> = vec![Vec::new(); subjects.len()];
            for round in 1..=rounds {
                for (subject, reports) in subjects.iter().zip(&mut reports) {
                    let what = format!(
                        "{} in flight, {}, {} (round {round} of {rounds})",
                        cell.in_flight,
                        situation(bulk_bytes),
                        subject.name
                    );
                    progress.step(&what);
                    let measurement = measurement(options, *subject, cell, bulk_bytes);
                    let report = stage.calls(&measurement).await;
                    reports.push(report.map_err(|error| format!("{what}: {error}"))?);
                }
            }
            for (subject, reports) in subjects.iter().zip(&reports) {
                rows.push(row(subject.name, cell, bulk_bytes, reports));
            }
        }
    }
    drop(progress);
    print!("{}", report(&rows));
    rpc::write(options, &rows, || figure(&rows))
}

fn measurement(options: &Options, subject: Subject, cell: Cell, bulk_bytes: usize) -> Measurement {
    let mut load = rpc::closed_loop(options, cell);
    // A bulk call takes some tenths of a second, and begins before the window.
    load.warm_up = load.warm_up.max(Duration::from_secs(1));
    load.window = load.window.max(Duration::from_secs(2));
    Measurement {
        subject,
        job: Job::Beside { load, bulk_bytes },
        in_flight: cell.in_flight + 1,
        body_bytes: bulk_bytes.max(cell.payload_bytes),
        hold: false,
    }
}

fn row(subject: &'static str, cell: Cell, bulk_bytes: usize, reports: &[Report]) -> Row {
    let rate = |report: &Report| report.bulk_bytes as f64 / report.seconds / f64::from(1 << 20);
    let conditions = Conditions {
        link_mbit_per_s: Some(LINK_MBIT_PER_S),
        link_rtt_ms: Some(LINK_RTT_MS),
        bulk_bytes: Some(bulk_bytes),
        bulk_mib_per_s: median(reports.iter().map(rate).collect()),
        ..Conditions::default()
    };
    Row::new(subject, cell, reports, None).with(conditions)
}

fn situation(bulk_bytes: usize) -> String {
    match bulk_bytes {
        0 => "alone".to_owned(),
        bytes => format!("beside calls of {}", payload(bytes)),
    }
}

/// The table, and whether small calls of ours stay within three round trips and the queue of the link.
fn report(rows: &[Row]) -> String {
    let heading = [
        "32 B",
        "in flight",
        "",
        "calls/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "bulk MiB/s",
        "ours: p99",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let mut verdicts = String::new();
    for row in rows {
        let Some(figures) = row.figures else { continue };
        let bulk_bytes = row.conditions.bulk_bytes.unwrap_or_default();
        let mut line = vec![
            row.subject.to_owned(),
            row.in_flight.to_string(),
            situation(bulk_bytes),
        ];
        line.extend(
            [
                figures.calls_per_s,
                figures.p50_us,
                figures.p99_us,
                figures.p999_us,
                row.conditions.bulk_mib_per_s.unwrap_or_default(),
            ]
            .map(number),
        );
        let is_ours = |other: &&Row| {
            other.subject == OURS
                && other.in_flight == row.in_flight
                && other.conditions.bulk_bytes == row.conditions.bulk_bytes
        };
        let ours = rows.iter().find(is_ours).and_then(|ours| ours.figures);
        if let Some(ours) = ours.filter(|_| row.subject != OURS) {
            line.push(ratio(ours.p99_us / figures.p99_us));
        }
        if row.subject == OURS && bulk_bytes > 0 {
            let met = if figures.p99_us <= P99_MAX_US {
                "met"
            } else {
                "MISSED"
            };
            verdicts += &format!(
                "{} in flight, {}: p99 within three round trips and the queue, {} µs: {met}\n",
                row.in_flight,
                situation(bulk_bytes),
                number(P99_MAX_US)
            );
        }
        lines.push(line);
    }
    format!("{}\n{verdicts}no call failed\n", align(&lines))
}

fn figure(rows: &[Row]) -> String {
    let panel = |row: &Row| Panel {
        title: format!(
            "{} in flight, {}",
            row.in_flight,
            situation(row.conditions.bulk_bytes.unwrap_or_default())
        ),
        bars: rows
            .iter()
            .filter(|other| {
                other.in_flight == row.in_flight
                    && other.conditions.bulk_bytes == row.conditions.bulk_bytes
            })
            .map(|row| Bar {
                label: row.subject.to_owned(),
                value: row.figures.map(|figures| figures.p99_us),
                ours: row.subject == OURS,
            })
            .collect(),
    };
    let panels: Vec<Panel> = rows
        .iter()
        .filter(|row| row.subject == OURS)
        .map(panel)
        .collect();
    draw(
        "p99 in µs of an echo of 32 B on a link of 100 Mbit/s and 20 ms (shorter is better)",
        &panels,
    )
}

const PAYLOAD_BYTES: usize = 32;

/// Bodies of the bulk calls: none, and some tenths of a second of the link.
const BULK_BYTES: [usize; 2] = [0, 4 << 20];

const LINK_MBIT_PER_S: u32 = 100;
const LINK_RTT_MS: u32 = 20;

/// Its queue holds what it carries in a round trip.
const LINK: Link = Link {
    bytes_per_s: LINK_MBIT_PER_S * 125_000,
    queue_bytes: LINK_MBIT_PER_S * 125 * LINK_RTT_MS,
    one_way: Duration::from_millis(LINK_RTT_MS as u64 / 2),
};

/// Three round trips, and one in the queue.
const P99_MAX_US: f64 = 4.0 * LINK_RTT_MS as f64 * 1e3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::tests::report as measured;

    #[test]
    fn small_calls_beside_bulk_are_held_against_round_trips_and_queue() {
        let cell = Cell {
            payload_bytes: 32,
            in_flight: 1,
        };
        // Its 99th percentile is twice its median.
        let rows = |p50_us| {
            let of = |subject, bulk_bytes| row(subject, cell, bulk_bytes, &[measured(10, p50_us)]);
            [of(OURS, 0), of(OURS, 4 << 20), of(TONIC, 4 << 20)]
        };
        let text = report(&rows(40_000.0));
        assert!(text.contains("met") && text.contains("1.00x"), "{text}");
        assert!(!text.contains("1 in flight, alone"), "{text}");
        assert!(report(&rows(40_001.0)).contains("MISSED"));
    }

    #[test]
    fn a_row_says_what_the_situation_was() {
        let cell = Cell {
            payload_bytes: 32,
            in_flight: 1,
        };
        let mut measured = measured(10, 1.0);
        measured.bulk_bytes = 3 << 20;
        let row = serde_json::to_value(row(OURS, cell, 4 << 20, &[measured])).unwrap();
        assert_eq!(row["link_mbit_per_s"], 100);
        assert_eq!(row["link_rtt_ms"], 20);
        assert_eq!(row["bulk_bytes"], 4 << 20);
        assert_eq!(row["bulk_mib_per_s"], 3.0);
        assert_eq!(row["payload_bytes"], 32);
    }
}
