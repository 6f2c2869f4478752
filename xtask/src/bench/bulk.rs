//! `bench rpc --bulk`: small calls on a slow link, alone and beside bulk calls on the same
//! connection.

use std::time::Duration;

use xtask_load::{BulkLoad, Job, Link, Relay};
use xtask_report::number;

use super::{
    grid::readable_bytes,
    loss::no_call_failed,
    mode::{Column, IN_FLIGHT, Mode, OURS_P99, P50, P99, P999, Panels, RATE},
    network::Network,
    options::Options,
    rows::{CALLS, Row},
    subjects::{OURS, QUINN, Subject, TONIC},
    targets::Notes,
};

pub(crate) const MODE: Mode = Mode {
    subjects: &[OURS, TONIC, QUINN],
    inapplicable: &["--payload"],
    prepare: |_, setup| {
        println!(
            "a link of {LINK_MBIT_PER_S} Mbit/s and {LINK_RTT_MS} ms with a queue of {} KB each \
             way, through a relay in the client's process\n\
             bulk: {} uploads and {} downloads at a time, on the same connection, of {} to {}",
            LINK.queue_bytes / 1_000,
            BULK.calls_each_way,
            BULK.calls_each_way,
            readable_bytes(BULK.bytes_max / BULK.calls_each_way),
            readable_bytes(BULK.bytes_max),
        );
        setup.with_network(Network::Relay(Relay {
            loss_per_mille: 0,
            link: Some(LINK),
        }))
    },
    groups,
    columns: &[
        IN_FLIGHT,
        Column::Text("", |row| situation(bulk(row)).to_owned()),
        RATE,
        P50,
        P99,
        P999,
        Column::Number("bulk MiB/s, both ways", bulk_rate),
        Column::Measured("of the link", |row| {
            let percent = |rate| format!("{:.0} %", 100.0 * rate / LINK_MIB_PER_S);
            bulk_rate(row).map(percent).unwrap_or_default()
        }),
        OURS_P99,
    ],
    fields: &[CALLS, &[("bulk_mib_per_s", Row::bulk_mib_per_s)]],
    figure: |_| {
        "p99 in µs of an echo of 32 B on a link of 100 Mbit/s and 20 ms (shorter is better)"
            .to_owned()
    },
    bars: &[(Panels::Cells, Row::p99_us)],
    notes,
    ..Mode::CALLS
};

/// Calls without bulk calls, then beside them.
fn groups(options: &Options, subjects: &[Subject]) -> Vec<Vec<Row>> {
    let default: &[usize] = match options.measuring.quick {
        true => &[64],
        false => &[1, 64],
    };
    let mut groups = Vec::new();
    for in_flight in options.in_flight_or(default) {
        for bulk in [None, Some(BULK)] {
            let row = |subject: &Subject| row(options, *subject, in_flight, bulk);
            groups.push(subjects.iter().map(row).collect());
        }
    }
    groups
}

fn row(options: &Options, subject: Subject, in_flight: usize, bulk: Option<BulkLoad>) -> Row {
    let mut load = options.measuring.load(32, in_flight);
    if bulk.is_some() {
        // Bulk calls take up to a second, and the congestion window grows for as long.
        load.warm_up = load.warm_up.max(Duration::from_secs(1));
        load.window = load.window.max(Duration::from_secs(2));
    }
    let mut row = Row::calls(subject, load)
        .with("link_mbit_per_s", LINK_MBIT_PER_S)
        .with("link_rtt_ms", LINK_RTT_MS)
        .with("bulk_bytes", bulk.map_or(0, |bulk| bulk.bytes_max));
    if let Some(bulk) = bulk {
        row = row.with("bulk_calls_each_way", bulk.calls_each_way);
    }
    row.cell += &format!(", {}", situation(bulk));
    row.job = Job::Closed { bulk };
    row
}

fn bulk(row: &Row) -> Option<BulkLoad> {
    match row.job {
        Job::Closed { bulk } => bulk,
        _ => None,
    }
}

fn bulk_rate(row: &Row) -> Option<f64> {
    bulk(row).and_then(|_| row.bulk_mib_per_s())
}

fn situation(bulk: Option<BulkLoad>) -> &'static str {
    bulk.map_or("alone", |_| "beside bulk")
}

/// Whether small calls of ours stay within three round trips and the queue of the link.
fn notes(rows: &[Row]) -> Notes {
    let mut notes = Notes::default();
    for row in rows.iter().filter(|row| row.is_ours()) {
        if let (Some(_), Some(p99_us)) = (bulk(row), row.p99_us()) {
            let what = format!(
                "{} in flight beside bulk: p99 within 3 round trips and the link's queue, at most \
                 {} µs: {} µs, ",
                row.load.in_flight,
                number(P99_MAX_US),
                number(p99_us)
            );
            notes.add_target(&what, p99_us <= P99_MAX_US);
        }
    }
    notes.add_text(no_call_failed(rows));
    notes
}

/// Four calls each way, 5 MiB together, some four tenths of a second of the link.
const BULK: BulkLoad = BulkLoad {
    bytes_max: 2 << 20,
    calls_each_way: 4,
};

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
    use crate::bench::{
        subjects,
        tests::{json, parse, report},
    };

    fn measured(subject: &str, bulk: Option<BulkLoad>, p50_us: f64) -> Row {
        let subject = subjects::named(subject).unwrap();
        let mut row = row(&Options::default(), subject, 1, bulk);
        row.reports.push(report(10, p50_us));
        row
    }

    #[test]
    fn small_calls_beside_bulk_are_compared_with_round_trips_and_queue() {
        // The 99th percentile is twice the median.
        let rows = |p50_us| {
            [(OURS, None), (OURS, Some(BULK)), (TONIC, Some(BULK))]
                .map(|(subject, bulk)| measured(subject, bulk, p50_us))
        };
        let text = MODE.report(&rows(40_000.0));
        assert!(
            text.contains("80,000 µs, met") && text.contains("1.00x"),
            "{text}"
        );
        assert!(!text.contains("1 in flight alone"), "{text}");
        assert!(MODE.report(&rows(40_001.0)).contains("MISSED"));
    }

    #[test]
    fn a_row_says_what_the_situation_was() {
        let mut row = measured(OURS, Some(BULK), 1.0);
        row.reports[0].bulk_bytes = 12_500_000;
        assert!(MODE.report(std::slice::from_ref(&row)).contains("50 %"));
        let row = json(&row, MODE.fields);
        assert_eq!(row["link_mbit_per_s"], 100);
        assert_eq!(row["link_rtt_ms"], 20);
        assert_eq!(row["bulk_bytes"], 2 << 20);
        assert_eq!(row["bulk_calls_each_way"], 4);
        assert_eq!(row["payload_bytes"], 32);
        assert!(row["bulk_mib_per_s"].is_f64());
    }

    #[test]
    fn a_quick_run_has_one_cell() {
        let in_flight = |arguments: &[&str]| -> Vec<usize> {
            let groups = groups(&parse(arguments).unwrap(), &subjects::ALL[..1]);
            let rows = groups.iter().flatten().filter(|row| bulk(row).is_some());
            rows.map(|row| row.load.in_flight).collect()
        };
        assert_eq!(in_flight(&["--bulk"]), [1, 64]);
        assert_eq!(in_flight(&["--bulk", "--quick"]), [64]);
        assert_eq!(in_flight(&["--bulk", "--in-flight", "8"]), [8]);
    }
}
