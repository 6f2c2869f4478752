//! `bench rpc --loss`: small calls while datagrams are lost.

use std::error::Error;

use xtask_load::Relay;
use xtask_report::{Bar, Panel, draw_bars, format_table, number, ratio};

use super::{
    client_process::BenchSetup,
    grid::Cell,
    network::{Namespaces, Network},
    options::Options,
    rows::{Conditions, Row},
    rpc,
    subjects::{self, ISOLATED, OURS, QUINN},
};

/// Measures; a call that fails fails the run.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let subjects = subjects::select_among(options, &[OURS, ISOLATED, QUINN])?;
    let in_flight = match &options.in_flight[..] {
        [] if options.measuring.quick => &[1, 64, 4096],
        [] => &[1, 64, 512, 4096][..],
        asked => asked,
    };
    let cells: Vec<Cell> = in_flight
        .iter()
        .map(|in_flight| Cell {
            payload_bytes: PAYLOAD_BYTES,
            in_flight: *in_flight,
        })
        .collect();
    let network = match Namespaces::make(LOSS_PER_MILLE) {
        Ok(namespaces) => Network::Namespaces(namespaces),
        Err(error) => {
            eprintln!("no network namespaces, so a relay loses the datagrams: {error}");
            Network::Relay(Relay {
                loss_per_mille: LOSS_PER_MILLE,
                link: None,
            })
        }
    };
    let between = match &network {
        Network::Namespaces(_) => "between network namespaces",
        _ => "through a relay in the client's process",
    };
    let setup = BenchSetup::new(options, &subjects)?.with_network(network);
    println!("1 % loss each way, {between}");
    rpc::print_conditions(options, &setup);
    let conditions = Conditions {
        loss_percent: Some(f64::from(LOSS_PER_MILLE) / 10.0),
        ..Conditions::default()
    };
    let rows: Vec<Row> = rpc::measure(options, &setup, &subjects, &cells)
        .await?
        .into_iter()
        .map(|row| row.with(conditions))
        .collect();
    print!("{}", report(&rows, &cells));
    rpc::write_files(options, &rows, || figure(&rows, &cells))
}

/// The table, and whether shared streams are no worse than a stream for each call.
fn report(rows: &[Row], cells: &[Cell]) -> String {
    let heading = [
        "32 B",
        "in flight",
        "calls/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "ours: p99",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let mut targets_text = String::new();
    for cell in cells {
        let p99_of = |subject| {
            let row = rows
                .iter()
                .find(|row| row.subject == subject && row.is_of(*cell));
            row.and_then(|row| row.figures)
                .map(|figures| figures.p99_us)
        };
        for row in rows.iter().filter(|row| row.is_of(*cell)) {
            let Some(figures) = row.figures else { continue };
            let mut line = vec![row.subject.to_owned(), row.in_flight.to_string()];
            line.extend(
                [
                    figures.calls_per_s,
                    figures.p50_us,
                    figures.p99_us,
                    figures.p999_us,
                ]
                .map(number),
            );
            if let Some(ours) = p99_of(OURS).filter(|_| row.subject != OURS) {
                line.push(ratio(ours / figures.p99_us));
            }
            lines.push(line);
        }
        if let (Some(ours), Some(isolated)) = (p99_of(OURS), p99_of(ISOLATED)) {
            let met = if ours <= isolated { "met" } else { "MISSED" };
            targets_text += &format!(
                "{} in flight: p99 no worse than a stream for each call: {}, {met}\n",
                cell.in_flight,
                ratio(ours / isolated)
            );
        }
    }
    format!("{}\n{targets_text}no call failed\n", format_table(&lines))
}

fn figure(rows: &[Row], cells: &[Cell]) -> String {
    let panel = |cell: &Cell| Panel {
        title: format!("{} in flight", cell.in_flight),
        bars: rows
            .iter()
            .filter(|row| row.is_of(*cell))
            .map(|row| Bar {
                label: row.subject.to_owned(),
                value: row.figures.map(|figures| figures.p99_us),
                ours: row.subject == OURS,
            })
            .collect(),
    };
    let panels: Vec<Panel> = cells.iter().map(panel).collect();
    draw_bars(
        "p99 in µs at 1 % loss, echo of 32 B (shorter is better)",
        &panels,
    )
}

const PAYLOAD_BYTES: usize = 32;
const LOSS_PER_MILLE: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::tests::row;

    #[test]
    fn shared_streams_are_compared_with_isolated_ones() {
        let cell = Cell {
            payload_bytes: 32,
            in_flight: 64,
        };
        let rows = |ours| {
            [
                row(OURS, (32, 64), 10, ours),
                row(ISOLATED, (32, 64), 10, 50.0),
            ]
        };
        assert!(report(&rows(50.0), &[cell]).contains("1.00x, met"));
        assert!(report(&rows(60.0), &[cell]).contains("1.20x, MISSED"));
    }
}
