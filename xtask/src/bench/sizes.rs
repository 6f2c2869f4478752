//! `bench rpc --sizes`: growth of the time of a call with the size of its body.

use std::error::Error;

use xtask_report::{Bar, Panel, draw_bars, format_table, number, ratio};

use super::{
    client_process::BenchSetup,
    grid::{Cell, readable_bytes},
    options::Options,
    rows::Row,
    rpc,
    subjects::{self, OURS},
};

/// Measures one call at a time.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let subjects = subjects::select(options)?;
    let setup = BenchSetup::new(options, &subjects)?;
    rpc::print_conditions(options, &setup);
    let cells = SIZES_MIB.map(|mib| Cell {
        payload_bytes: mib << 20,
        in_flight: 1,
    });
    let rows = rpc::measure(options, &setup, &subjects, &cells).await?;
    print!("{}", report(&rows));
    rpc::write_files(options, &rows, || figure(&rows))
}

fn report(rows: &[Row]) -> String {
    let heading = [
        "1 in flight",
        "body",
        "p50 ms",
        "ms/MiB",
        "to 1 MiB",
        "server RSS MiB",
        "client RSS MiB",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for row in rows {
        let mut line = vec![row.subject.to_owned(), readable_bytes(row.payload_bytes)];
        if let (Some(figures), Some(per_mib)) = (row.figures, ms_per_mib(row)) {
            let first = rows
                .iter()
                .find(|it| it.subject == row.subject)
                .and_then(ms_per_mib);
            let growth = per_mib / first.unwrap_or(per_mib);
            line.extend([
                number(figures.p50_us / 1e3),
                number(per_mib),
                ratio(growth),
                number(figures.server_rss_bytes / MIB),
                number(figures.client_rss_bytes / MIB),
            ]);
            if row.subject == OURS && row.payload_bytes == SIZES_MIB[SIZES_MIB.len() - 1] << 20 {
                let met = if growth <= GROWTH_MAX {
                    "met"
                } else {
                    "MISSED"
                };
                notes += &format!(
                    "time per MiB of the largest body at most {} that of the smallest: {met}\n",
                    ratio(GROWTH_MAX)
                );
            }
        } else if let Some(reason) = &row.failed {
            notes += &format!(
                "{} with {}: {reason}\n",
                row.subject,
                readable_bytes(row.payload_bytes)
            );
        }
        lines.push(line);
    }
    format!("{}{notes}", format_table(&lines))
}

fn ms_per_mib(row: &Row) -> Option<f64> {
    Some(row.figures?.p50_us / 1e3 / (row.payload_bytes as f64 / MIB))
}

fn figure(rows: &[Row]) -> String {
    let panels = SIZES_MIB.map(|mib| Panel {
        title: format!("{mib} MiB"),
        bars: rows
            .iter()
            .filter(|row| row.payload_bytes == mib << 20)
            .map(|row| Bar {
                label: row.subject.to_owned(),
                value: ms_per_mib(row),
                ours: row.subject == OURS,
            })
            .collect(),
    });
    draw_bars(
        "ms per MiB of one call at a time (shorter is better)",
        &panels,
    )
}

const SIZES_MIB: [usize; 5] = [1, 2, 4, 8, 10];
const MIB: f64 = (1 << 20) as f64;

/// Largest growth that counts as linear: caches get colder with size.
const GROWTH_MAX: f64 = 1.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::tests::row;

    #[test]
    fn growth_is_that_of_the_time_per_mib() {
        let rows = |micros| {
            [
                row(OURS, (1 << 20, 1), 10, 1000.0),
                row(OURS, (10 << 20, 1), 10, micros),
            ]
        };
        let text = report(&rows(15_000.0));
        assert!(text.contains("1.50x") && text.contains(": met"), "{text}");
        assert!(report(&rows(16_000.0)).contains("MISSED"));
    }
}
