//! `bench rpc --reconnect`: time to the first reply of a connection.

use xtask_load::{Handshake, Job};

use super::{
    mode::{Column, Mode, P50, P99, Panels},
    options::Options,
    rows::Row,
    subjects::{ALL, OURS},
};

pub(crate) const MODE: Mode = Mode {
    subjects: &[OURS],
    prepare: |options, setup| {
        let count = connections(options);
        println!("{count} connections a round, one after the other");
        setup
    },
    groups: |options, _| vec![rows(options).to_vec()],
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
fn rows(options: &Options) -> [Row; 3] {
    let count = connections(options);
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

/// Connections of a round.
fn connections(options: &Options) -> usize {
    if options.measuring.quick { 50 } else { 500 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::{json, report};

    #[test]
    fn the_others_are_compared_with_a_full_handshake() {
        let mut rows = rows(&Options::default());
        for (row, p50_us) in rows.iter_mut().zip([1000.0, 500.0, 250.0]) {
            row.reports.push(report(500, p50_us));
        }
        let text = MODE.report(&rows);
        assert!(text.contains("0.25x") && text.contains("1.00x"), "{text}");
        let json = json(&rows[2], MODE.fields);
        assert_eq!(json["handshake"], "early");
        assert_eq!(json["first_reply_p50_us"], 250.0);
    }
}
