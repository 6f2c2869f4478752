//! `bench rpc --bulk`: small calls on a slow link, alone and beside bulk calls on the same
//! connection.

use std::{error::Error, time::Duration};

use xtask_load::{BulkLoad, CallReport, Job, Link, Relay};
use xtask_report::{Bar, Panel, Progress, draw_bars, format_table, median, number, ratio};

use super::{
    client_process::{BenchSetup, Measurement},
    grid::{Cell, readable_bytes},
    network::Network,
    options::Options,
    rows::{Conditions, Row},
    rpc,
    subjects::{self, OURS, QUINN, Subject, TONIC},
};

/// Measures without bulk calls and beside them, round after round. A call that fails fails the run.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let subjects = subjects::select_among(options, &[OURS, TONIC, QUINN])?;
    let cells = cells(options);
    let relay = Relay {
        loss_per_mille: 0,
        link: Some(LINK),
    };
    let setup = BenchSetup::new(options, &subjects)?.with_network(Network::Relay(relay));
    println!(
        "a link of {LINK_MBIT_PER_S} Mbit/s and {LINK_RTT_MS} ms with a queue of {} KB each way, \
         through a relay in the client's process\n\
         bulk: {} uploads and {} downloads at a time, on the same connection, of {} to {}",
        LINK.queue_bytes / 1_000,
        BULK.calls_each_way,
        BULK.calls_each_way,
        readable_bytes(BULK.bytes_max / BULK.calls_each_way),
        readable_bytes(BULK.bytes_max),
    );
    rpc::print_conditions(options, &setup);
    let mut rows = Vec::new();
    let rounds = options.rounds();
    let steps = cells.len() * SITUATIONS.len() * subjects.len() * rounds as usize;
    let mut progress = Progress::new(steps);
    for cell in cells {
        for bulk in SITUATIONS {
            let mut reports: Vec<Vec<CallReport>> = vec![Vec::new(); subjects.len()];
            for round in 1..=rounds {
                for (subject, reports) in subjects.iter().zip(&mut reports) {
                    let what = format!(
                        "{} in flight, {}, {} (round {round} of {rounds})",
                        cell.in_flight,
                        situation(bulk.is_some()),
                        subject.name
                    );
                    progress.step(&what);
                    let measurement = measurement(options, *subject, cell, bulk);
                    let report = setup.calls(&measurement).await;
                    reports.push(report.map_err(|error| format!("{what}: {error}"))?);
                }
            }
            for (subject, reports) in subjects.iter().zip(&reports) {
                rows.push(row(subject.name, cell, bulk, reports));
            }
        }
    }
    drop(progress);
    print!("{}", report(&rows));
    rpc::write_files(options, &rows, || figure(&rows))
}

/// The numbers of small calls in flight that the options ask for.
fn cells(options: &Options) -> Vec<Cell> {
    let in_flight = match &options.in_flight[..] {
        [] if options.measuring.quick => &[64][..],
        [] => &[1, 64],
        asked => asked,
    };
    let cell = |in_flight: &usize| Cell {
        payload_bytes: PAYLOAD_BYTES,
        in_flight: *in_flight,
    };
    in_flight.iter().map(cell).collect()
}

fn measurement(
    options: &Options,
    subject: Subject,
    cell: Cell,
    bulk: Option<BulkLoad>,
) -> Measurement {
    let mut load = rpc::closed_loop(options, cell);
    if bulk.is_some() {
        // Bulk calls take up to a second, and the congestion window grows for as long.
        load.warm_up = load.warm_up.max(Duration::from_secs(1));
        load.window = load.window.max(Duration::from_secs(2));
    }
    let bulk_calls = bulk.map_or(0, |bulk| 2 * bulk.calls_each_way);
    let bulk_bytes = bulk.map_or(0, |bulk| bulk.bytes_max);
    Measurement {
        subject,
        job: Job::Beside { load, bulk },
        in_flight: cell.in_flight + bulk_calls,
        body_bytes: bulk_bytes.max(cell.payload_bytes),
        hold: false,
    }
}

fn row(subject: &'static str, cell: Cell, bulk: Option<BulkLoad>, reports: &[CallReport]) -> Row {
    let rate = |report: &CallReport| report.bulk_bytes as f64 / report.seconds / f64::from(1 << 20);
    let conditions = Conditions {
        link_mbit_per_s: Some(LINK_MBIT_PER_S),
        link_rtt_ms: Some(LINK_RTT_MS),
        bulk_bytes: Some(bulk.map_or(0, |bulk| bulk.bytes_max)),
        bulk_calls_each_way: bulk.map(|bulk| bulk.calls_each_way),
        bulk_mib_per_s: median(reports.iter().map(rate).collect()),
        ..Conditions::default()
    };
    Row::new(subject, cell, reports, None).with(conditions)
}

fn situation(beside_bulk: bool) -> &'static str {
    if beside_bulk { "beside bulk" } else { "alone" }
}

fn is_beside_bulk(row: &Row) -> bool {
    row.conditions.bulk_bytes.is_some_and(|bytes| bytes > 0)
}

/// The table, and whether small calls of ours stay within three round trips and the queue of the
/// link.
fn report(rows: &[Row]) -> String {
    let heading = [
        "32 B",
        "in flight",
        "",
        "calls/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "bulk MiB/s, both ways",
        "of the link",
        "ours: p99",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let mut targets_text = String::new();
    for row in rows {
        let Some(figures) = row.figures else { continue };
        let mut line = vec![
            row.subject.to_owned(),
            row.in_flight.to_string(),
            situation(is_beside_bulk(row)).to_owned(),
        ];
        line.extend(
            [
                figures.calls_per_s,
                figures.p50_us,
                figures.p99_us,
                figures.p999_us,
            ]
            .map(number),
        );
        line.extend(match row.conditions.bulk_mib_per_s {
            Some(rate) if is_beside_bulk(row) => [
                number(rate),
                format!("{:.0} %", 100.0 * rate / LINK_MIB_PER_S),
            ],
            _ => [String::new(), String::new()],
        });
        let is_ours = |other: &&Row| {
            other.subject == OURS
                && other.in_flight == row.in_flight
                && is_beside_bulk(other) == is_beside_bulk(row)
        };
        let ours = rows.iter().find(is_ours).and_then(|ours| ours.figures);
        if let Some(ours) = ours.filter(|_| row.subject != OURS) {
            line.push(ratio(ours.p99_us / figures.p99_us));
        }
        if row.subject == OURS && is_beside_bulk(row) {
            let met = if figures.p99_us <= P99_MAX_US {
                "met"
            } else {
                "MISSED"
            };
            targets_text += &format!(
                "{} in flight beside bulk: p99 within 3 round trips and the link's queue, at most \
                 {} µs: {} µs, {met}\n",
                row.in_flight,
                number(P99_MAX_US),
                number(figures.p99_us),
            );
        }
        lines.push(line);
    }
    format!("{}\n{targets_text}no call failed\n", format_table(&lines))
}

fn figure(rows: &[Row]) -> String {
    let panel = |row: &Row| Panel {
        title: format!(
            "{} in flight, {}",
            row.in_flight,
            situation(is_beside_bulk(row))
        ),
        bars: rows
            .iter()
            .filter(|other| {
                other.in_flight == row.in_flight && is_beside_bulk(other) == is_beside_bulk(row)
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
    draw_bars(
        "p99 in µs of an echo of 32 B on a link of 100 Mbit/s and 20 ms (shorter is better)",
        &panels,
    )
}

const PAYLOAD_BYTES: usize = 32;

/// Four calls each way, 5 MiB together, some four tenths of a second of the link.
const BULK: BulkLoad = BulkLoad {
    bytes_max: 2 << 20,
    calls_each_way: 4,
};

const SITUATIONS: [Option<BulkLoad>; 2] = [None, Some(BULK)];

const LINK_MBIT_PER_S: u32 = 100;
const LINK_RTT_MS: u32 = 20;

/// Its queue holds what it carries in a round trip.
const LINK: Link = Link {
    bytes_per_s: LINK_MBIT_PER_S * 125_000,
    queue_bytes: LINK_MBIT_PER_S * 125 * LINK_RTT_MS,
    one_way: Duration::from_millis(LINK_RTT_MS as u64 / 2),
};

/// Capacity of the link in both directions together, headers included.
const LINK_MIB_PER_S: f64 = 2.0 * LINK.bytes_per_s as f64 / (1 << 20) as f64;

/// Three round trips, and one in the queue.
const P99_MAX_US: f64 = 4.0 * LINK_RTT_MS as f64 * 1e3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{options::tests::parse, rows::tests::report as measured};

    #[test]
    fn small_calls_beside_bulk_are_compared_with_round_trips_and_queue() {
        let cell = Cell {
            payload_bytes: 32,
            in_flight: 1,
        };
        // Its 99th percentile is twice its median.
        let rows = |p50_us| {
            let of = |subject, bulk| row(subject, cell, bulk, &[measured(10, p50_us)]);
            [of(OURS, None), of(OURS, Some(BULK)), of(TONIC, Some(BULK))]
        };
        let text = report(&rows(40_000.0));
        assert!(
            text.contains("80,000 µs, met") && text.contains("1.00x"),
            "{text}"
        );
        assert!(!text.contains("1 in flight alone"), "{text}");
        assert!(report(&rows(40_001.0)).contains("MISSED"));
    }

    #[test]
    fn a_row_says_what_the_situation_was() {
        let cell = Cell {
            payload_bytes: 32,
            in_flight: 1,
        };
        let mut measured = measured(10, 1.0);
        measured.bulk_bytes = 12_500_000;
        let row = row(OURS, cell, Some(BULK), &[measured]);
        assert!(report(std::slice::from_ref(&row)).contains("50 %"));
        let row = serde_json::to_value(row).unwrap();
        assert_eq!(row["link_mbit_per_s"], 100);
        assert_eq!(row["link_rtt_ms"], 20);
        assert_eq!(row["bulk_bytes"], 2 << 20);
        assert_eq!(row["bulk_calls_each_way"], 4);
        assert_eq!(row["payload_bytes"], 32);
    }

    #[test]
    fn a_quick_run_has_one_cell() {
        let in_flight = |arguments: &[&str]| -> Vec<usize> {
            let cells = cells(&parse(arguments).unwrap());
            cells.iter().map(|cell| cell.in_flight).collect()
        };
        assert_eq!(in_flight(&["--bulk"]), [1, 64]);
        assert_eq!(in_flight(&["--bulk", "--quick"]), [64]);
        assert_eq!(in_flight(&["--bulk", "--in-flight", "8"]), [8]);
    }
}
