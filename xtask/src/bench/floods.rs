//! `bench rpc --floods`: a well-behaved client beside floods.

use xtask_report::ratio;

use super::{
    flood_process::FloodKind,
    mode::{Column, IN_FLIGHT, Mode, P50, P99, Panels, RATE},
    options::Options,
    rows::Row,
    subjects::{ALL, OURS},
    targets::status,
};

pub(crate) const MODE: Mode = Mode {
    subjects: &[OURS],
    groups: |options, _| vec![rows(options).to_vec()],
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
    notes,
    ..Mode::CALLS
};

/// A row for each kind of flood; none comes first, as the others are compared with it.
fn rows(options: &Options) -> [Row; 4] {
    let in_flight = options.in_flight_or(&[64])[0];
    [
        None,
        Some(FloodKind::Handshakes),
        Some(FloodKind::Idle),
        Some(FloodKind::Trickle),
    ]
    .map(|flood| {
        let name = flood.map_or("none", FloodKind::name);
        let load = options.measuring.load(32, in_flight);
        let mut row = Row::calls(ALL[0], load).with("flood", name);
        row.cell = name.to_owned();
        row.flood = flood;
        row
    })
}

fn notes(rows: &[Row]) -> String {
    let normal = rows.first().and_then(Row::per_s);
    let mut text = String::new();
    for row in rows.iter().filter(|row| row.flood.is_some()) {
        if let (Some(rate), Some(normal)) = (row.per_s(), normal) {
            text += &format!(
                "{}: at least {} of its normal rate: {}\n",
                row.cell,
                ratio(RATE_SHARE_MIN),
                status(rate / normal >= RATE_SHARE_MIN)
            );
        }
    }
    text
}

const RATE_SHARE_MIN: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::report;

    #[test]
    fn each_flood_is_compared_with_the_normal_rate() {
        let mut rows = rows(&Options::default());
        for (row, calls) in rows.iter_mut().zip([100, 100, 50, 49]) {
            row.reports.push(report(calls, 1.0));
        }
        let text = MODE.report(&rows);
        for note in [
            "idle: at least 0.50x of its normal rate: met",
            "trickle: at least 0.50x of its normal rate: MISSED",
        ] {
            assert!(text.contains(note), "{text}");
        }
        assert!(!text.contains("none: at least"), "{text}");
    }
}
