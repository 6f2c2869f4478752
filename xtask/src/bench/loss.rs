//! `bench rpc --loss`: small calls while datagrams are lost.

use xtask_load::Relay;
use xtask_report::ratio;

use super::{
    grid,
    mode::{IN_FLIGHT, Mode, OURS_P99, P50, P99, P999, Panels, RATE},
    network::{Namespaces, Network},
    rows::Row,
    subjects::{ISOLATED, OURS, QUINN},
    targets::Notes,
};

pub(crate) const MODE: Mode = Mode {
    subjects: &[OURS, ISOLATED, QUINN],
    inapplicable: &["--payload"],
    prepare: |_, setup| {
        let (network, between) = match Namespaces::make(LOSS_PER_MILLE) {
            Ok(namespaces) => (
                Network::Namespaces(namespaces),
                "between network namespaces",
            ),
            Err(error) => {
                eprintln!("no network namespaces, so a relay loses the datagrams: {error}");
                let relay = Relay {
                    loss_per_mille: LOSS_PER_MILLE,
                    link: None,
                };
                let between = "through a relay in the client's process";
                (Network::Relay(relay), between)
            }
        };
        println!("1 % loss each way, {between}");
        setup.with_network(network)
    },
    groups: |options, subjects| {
        let default: &[usize] = match options.measuring.quick {
            true => &[1, 64, 4096],
            false => &[1, 64, 512, 4096],
        };
        let group = |in_flight| {
            let rows = grid::group(options, subjects, (32, in_flight)).into_iter();
            let loss = f64::from(LOSS_PER_MILLE) / 10.0;
            rows.map(|row| row.with("loss_percent", loss)).collect()
        };
        let in_flight = options.in_flight_or(default).into_iter();
        in_flight.map(group).collect()
    },
    columns: &[IN_FLIGHT, RATE, P50, P99, P999, OURS_P99],
    figure: |_| "p99 in µs at 1 % loss, echo of 32 B (shorter is better)".to_owned(),
    bars: &[(Panels::Cells, Row::p99_us)],
    notes,
    ..Mode::CALLS
};

/// Whether shared streams are no worse than a stream for each call.
fn notes(rows: &[Row]) -> Notes {
    let mut notes = Notes::default();
    for ours in rows.iter().filter(|row| row.is_ours()) {
        let in_cell = |row: &&Row| row.subject.name == ISOLATED && row.cell == ours.cell;
        let isolated = rows.iter().find(in_cell).and_then(Row::p99_us);
        if let (Some(ours_us), Some(isolated_us)) = (ours.p99_us(), isolated) {
            let what = format!(
                "{}: p99 no worse than a stream for each call: {}, ",
                ours.cell,
                ratio(ours_us / isolated_us)
            );
            notes.add_target(&what, ours_us <= isolated_us);
        }
    }
    notes.add_text(no_call_failed(rows));
    notes
}

/// Last line of a mode in which a call that fails ends the run.
pub(crate) fn no_call_failed(rows: &[Row]) -> &'static str {
    match rows.iter().all(|row| row.failed.is_none()) {
        true => "no call failed\n",
        false => "",
    }
}

const LOSS_PER_MILLE: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::row;

    #[test]
    fn shared_streams_are_compared_with_isolated_ones() {
        let rows = |ours| {
            [
                row(OURS, (32, 64), 10, ours),
                row(ISOLATED, (32, 64), 10, 50.0),
            ]
        };
        assert!(MODE.report(&rows(50.0)).contains("1.00x, met"));
        assert!(MODE.report(&rows(60.0)).contains("1.20x, MISSED"));
    }
}
