//! Modes of `bench rpc` that need nothing but rows and figures: sizes, streams, idle connections,
//! reconnects, floods.

use xtask_load::{Direction, Handshake, Job};
use xtask_report::ratio;

use super::{
    flood_process::FloodKind,
    grid::{self, readable_bytes},
    mode::{Column, IN_FLIGHT, Mode, P50, P99, Panels, RATE},
    options::Options,
    rows::Row,
    rpc_targets,
    subjects::{
        ALL, CALLS, FRAMES, IRPC_RPC, OURS, QUINN, RPCNET_0_1_0, Subject, TARPC, TARPC_TLS, TONIC,
    },
    targets::Notes,
};

/// `--sizes`: growth of the time of a call with the size of its body.
pub(crate) const SIZES: Mode = Mode {
    subjects: CALLS,
    inapplicable: &["--payload", "--in-flight"],
    groups: |options, subjects| {
        let group = |mib: usize| {
            let mut rows = grid::group(options, subjects, (mib << 20, 1));
            for row in &mut rows {
                row.cell = readable_bytes(row.load.body_bytes);
            }
            rows
        };
        SIZES_MIB.map(group).to_vec()
    },
    table: |_| "1 in flight".to_owned(),
    columns: &[
        Column::Text("body", |row| readable_bytes(row.load.body_bytes)),
        Column::Number("p50 ms", |row| Some(row.p50_us()? / 1e3)),
        Column::Number("ms/MiB", ms_per_mib),
        Column::First("to 1 MiB", ms_per_mib),
        Column::Number("server RSS MiB", |row| Some(row.server_rss_bytes()? / MIB)),
        Column::Number("client RSS MiB", |row| Some(row.client_rss_bytes()? / MIB)),
    ],
    figure: |_| "ms per MiB of one call at a time (shorter is better)".to_owned(),
    bars: &[(Panels::Cells, ms_per_mib)],
    notes: growth,
    ..Mode::CALLS
};

fn ms_per_mib(row: &Row) -> Option<f64> {
    Some(row.p50_us()? / 1e3 / (row.load.body_bytes as f64 / MIB))
}

/// Whether the time of ours grows with the size and no more.
fn growth(rows: &[Row]) -> Notes {
    let mut ours = rows.iter().filter(|row| row.is_ours());
    let (first, last) = (ours.next(), ours.next_back());
    let growth = first.zip(last).and_then(|(first, last)| {
        let is_largest = last.load.body_bytes == SIZES_MIB[SIZES_MIB.len() - 1] << 20;
        is_largest.then_some(ms_per_mib(last)? / ms_per_mib(first)?)
    });
    let mut notes = Notes::default();
    if let Some(growth) = growth {
        let what = format!(
            "time per MiB of the largest body at most {} that of the smallest: ",
            ratio(GROWTH_MAX)
        );
        notes.add_target(&what, growth <= GROWTH_MAX);
    }
    notes
}

const SIZES_MIB: [usize; 5] = [1, 2, 4, 8, 10];
const MIB: f64 = (1 << 20) as f64;

/// Largest growth that counts as linear: caches get colder with size.
const GROWTH_MAX: f64 = 1.5;

/// `--streaming`: items of one stream, each way.
pub(crate) const STREAMING: Mode = Mode {
    subjects: &[OURS, TONIC, FRAMES],
    inapplicable: &["--in-flight"],
    groups: streams,
    table: |_| "one stream".to_owned(),
    columns: &[
        Column::Text("from", |row| match row.job {
            Job::Stream(Direction::Down) => "server".to_owned(),
            Job::Stream(Direction::Both) => "both".to_owned(),
            _ => "client".to_owned(),
        }),
        Column::Text("item", |row| readable_bytes(row.load.body_bytes)),
        Column::Number("items/s", Row::per_s),
        Column::Number("MiB/s", Row::bulk_mib_per_s),
        Column::Ours("ours: rate", Row::per_s),
    ],
    fields: &[&[
        ("items_per_s", Row::per_s),
        ("mib_per_s", Row::bulk_mib_per_s),
    ]],
    figure: |_| "items per second through one stream".to_owned(),
    notes: rpc_targets::stream_notes,
    ..Mode::CALLS
};

fn streams(options: &Options, subjects: &[Subject]) -> Vec<Vec<Row>> {
    let sizes = match &options.payload[..] {
        [] => &[32, 1 << 10, 64 << 10][..],
        asked => asked,
    };
    let mut groups = Vec::new();
    for (direction, field, sender) in [
        (Direction::Down, "down", "server"),
        (Direction::Up, "up", "client"),
        (Direction::Both, "both", "client and back"),
    ] {
        for item_bytes in sizes {
            let row = |subject: &Subject| {
                let load = options.measuring.load(*item_bytes, 1);
                let cell = format!("{} from the {sender}", readable_bytes(*item_bytes));
                Row::new(*subject, cell, load, Job::Stream(direction))
                    .with("direction", field)
                    .with("item_bytes", *item_bytes)
            };
            groups.push(subjects.iter().map(row).collect());
        }
    }
    groups
}

/// `--connections N`: memory of idle connections.
pub(crate) const CONNECTIONS: Mode = Mode {
    // The other irpc opens a stream at once.
    subjects: &[OURS, RPCNET_0_1_0, TONIC, TARPC_TLS, TARPC, QUINN, IRPC_RPC],
    inapplicable: &["--payload", "--in-flight", "--seconds", "--warm-up"],
    prepare: |options, setup| {
        let count = options.connections();
        println!("{count} idle connections, opened one after the other");
        setup
    },
    groups: |options, subjects| {
        let count = options.connections();
        let row = |subject| {
            let load = options.measuring.load(1024, 1);
            let cell = format!("{count} connections");
            Row::new(subject, cell, load, Job::Connections { count }).with("connections", count)
        };
        vec![subjects.iter().copied().map(row).collect()]
    },
    table: |_| "RSS per connection".to_owned(),
    columns: &[
        Column::Number("server KiB", server_kib),
        Column::Number("client KiB", client_kib),
        Column::Number("open µs", open_us),
    ],
    fields: &[&[
        ("server_bytes_per_connection", |row| {
            Some(server_kib(row)? * 1024.0)
        }),
        ("client_bytes_per_connection", |row| {
            Some(client_kib(row)? * 1024.0)
        }),
        ("open_us", open_us),
    ]],
    figure: |_| "KiB of resident memory per idle connection (shorter is better)".to_owned(),
    bars: &[
        (Panels::One("server"), server_kib),
        (Panels::One("client"), client_kib),
    ],
    ..Mode::CALLS
};

fn server_kib(row: &Row) -> Option<f64> {
    row.median(|it| it.server_rss_bytes as f64 / it.count as f64 / 1024.0)
}

fn client_kib(row: &Row) -> Option<f64> {
    row.median(|it| it.client_rss_bytes as f64 / it.count as f64 / 1024.0)
}

/// Time to open one, each after the other.
fn open_us(row: &Row) -> Option<f64> {
    row.median(|it| it.seconds * 1e6 / it.count as f64)
}

/// `--reconnect`: time to the first reply of a connection.
pub(crate) const RECONNECT: Mode = Mode {
    subjects: &[OURS],
    inapplicable: &[
        "--payload",
        "--in-flight",
        "--subject",
        "--peers",
        "--seconds",
        "--warm-up",
    ],
    prepare: |options, setup| {
        let count = reconnects(options);
        println!("{count} connections a round, one after the other");
        setup
    },
    groups: |options, _| vec![handshakes(options).to_vec()],
    table: |_| "first reply".to_owned(),
    name: |row| &row.cell,
    columns: &[
        P50,
        P99,
        Column::First("of a full handshake's", Row::p50_us),
    ],
    fields: &[&[
        ("first_reply_p50_us", Row::p50_us),
        ("first_reply_p99_us", Row::p99_us),
    ]],
    figure: |_| "µs to the first reply, median (shorter is better)".to_owned(),
    bars: &[(
        Panels::One("from the beginning of a connection"),
        Row::p50_us,
    )],
    ..Mode::CALLS
};

/// The full handshake first: what the others are held against.
fn handshakes(options: &Options) -> [Row; 3] {
    let count = reconnects(options);
    [
        (Handshake::Full, "full", "full handshake"),
        (Handshake::Resumed, "resumed", "resumed"),
        (Handshake::Early, "early", "0-RTT"),
    ]
    .map(|(handshake, field, name)| {
        let load = options.measuring.load(32, 1);
        let job = Job::Reconnect { handshake, count };
        Row::new(ALL[0], name.to_owned(), load, job)
            .with("handshake", field)
            .with("connections", count)
    })
}

fn reconnects(options: &Options) -> usize {
    if options.measuring.quick { 50 } else { 500 }
}

/// `--floods`: a well-behaved client beside floods.
pub(crate) const FLOODS: Mode = Mode {
    subjects: &[OURS],
    inapplicable: &["--payload", "--subject", "--peers"],
    groups: |options, _| vec![floods(options).to_vec()],
    name: |row| &row.cell,
    columns: &[
        IN_FLIGHT,
        RATE,
        P50,
        P99,
        Column::First("of its normal rate", Row::per_s),
    ],
    figure: |_| "calls beside floods of the server".to_owned(),
    bars: &[(
        Panels::One("calls per second of a well-behaved client"),
        Row::per_s,
    )],
    notes: kept_rates,
    ..Mode::CALLS
};

/// A row for each kind of flood; none comes first, as the others are compared with it.
fn floods(options: &Options) -> [Row; 4] {
    let in_flight = options.in_flight_or(&[64])[0];
    [
        (None, "none"),
        (Some(FloodKind::Handshakes), "handshakes"),
        (Some(FloodKind::Idle), "idle"),
        (Some(FloodKind::Trickle), "trickle"),
    ]
    .map(|(flood, name)| {
        let load = options.measuring.load(32, in_flight);
        let row = Row::calls(ALL[0], load).with("flood", name);
        Row {
            cell: name.to_owned(),
            flood,
            ..row
        }
    })
}

/// Whether the rate beside each flood is a good part of the normal one.
fn kept_rates(rows: &[Row]) -> Notes {
    let normal = rows.first().and_then(Row::per_s);
    let mut notes = Notes::default();
    for row in rows.iter().filter(|row| row.flood.is_some()) {
        if let (Some(rate), Some(normal)) = (row.per_s(), normal) {
            let share = ratio(RATE_SHARE_MIN);
            let what = format!("{}: at least {share} of its normal rate: ", row.cell);
            notes.add_target(&what, rate / normal >= RATE_SHARE_MIN);
        }
    }
    notes
}

const RATE_SHARE_MIN: f64 = 0.5;

#[cfg(test)]
mod tests {
    use xtask_load::Report;

    use super::*;
    use crate::bench::tests::{json, parse, report, row};

    #[test]
    fn growth_is_that_of_the_time_per_mib() {
        let rows = |micros| {
            [
                row(OURS, (1 << 20, 1), 10, 1000.0),
                row(OURS, (10 << 20, 1), 10, micros),
            ]
        };
        let text = SIZES.report(&rows(15_000.0));
        assert!(text.contains("1.50x") && text.contains(": met"), "{text}");
        assert!(SIZES.report(&rows(16_000.0)).contains("MISSED"));
    }

    #[test]
    fn rates_are_medians_of_items_and_bytes() {
        let options = parse(&["--payload", "1MiB"]).unwrap();
        let mut row = streams(&options, &ALL[..1]).concat().remove(1);
        row.reports = [100, 300, 200]
            .map(|count| Report {
                count,
                seconds: 0.5,
                bulk_bytes: count << 20,
                ..Report::default()
            })
            .to_vec();
        let json = json(&row, STREAMING.fields);
        assert_eq!(json["items_per_s"], 400.0);
        assert_eq!(
            (&json["mib_per_s"], &json["rounds"]),
            (&400.0.into(), &3.into())
        );
        assert_eq!(
            (&json["direction"], &json["item_bytes"]),
            (&"up".into(), &(1 << 20).into())
        );
        assert!(STREAMING.report(&[row]).contains("client"));
    }

    #[test]
    fn figures_are_of_one_connection() {
        let mut row = row(OURS, (1024, 1), 1, 1.0);
        row.reports = [100, 409_600, 1_000_000]
            .map(|server_rss_bytes| Report {
                count: 100,
                client_rss_bytes: 204_800,
                server_rss_bytes,
                seconds: 0.1,
                ..Report::default()
            })
            .to_vec();
        assert_eq!(server_kib(&row), Some(4.0));
        assert_eq!(client_kib(&row), Some(2.0));
        assert_eq!(open_us(&row).unwrap().round(), 1000.0);
        assert!(CONNECTIONS.report(&[row]).contains("4.00"));
    }

    #[test]
    fn the_others_are_compared_with_a_full_handshake() {
        let mut rows = handshakes(&Options::default());
        for (row, p50_us) in rows.iter_mut().zip([1000.0, 500.0, 250.0]) {
            row.reports.push(report(500, p50_us));
        }
        let text = RECONNECT.report(&rows);
        assert!(text.contains("0.25x") && text.contains("1.00x"), "{text}");
        let json = json(&rows[2], RECONNECT.fields);
        assert_eq!(json["handshake"], "early");
        assert_eq!(json["first_reply_p50_us"], 250.0);
    }

    #[test]
    fn each_flood_is_compared_with_the_normal_rate() {
        let mut rows = floods(&Options::default());
        for (row, calls) in rows.iter_mut().zip([100, 100, 50, 49]) {
            row.reports.push(report(calls, 1.0));
        }
        let text = FLOODS.report(&rows);
        for note in [
            "idle: at least 0.50x of its normal rate: met",
            "trickle: at least 0.50x of its normal rate: MISSED",
        ] {
            assert!(text.contains(note), "{text}");
        }
        assert!(!text.contains("none: at least"), "{text}");
    }
}
