//! `bench rpc --sizes`: growth of the time of a call with the size of its body.

use xtask_report::ratio;

use super::{
    grid::{self, readable_bytes},
    mode::{Column, Mode, Panels},
    rows::Row,
    targets::status,
};

pub(crate) const MODE: Mode = Mode {
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
    notes,
    ..Mode::CALLS
};

fn ms_per_mib(row: &Row) -> Option<f64> {
    Some(row.p50_us()? / 1e3 / (row.load.body_bytes as f64 / MIB))
}

/// Whether the time of ours grows with the size and no more.
fn notes(rows: &[Row]) -> String {
    let mut ours = rows.iter().filter(|row| row.is_ours());
    let (first, last) = (ours.next(), ours.next_back());
    let growth = first.zip(last).and_then(|(first, last)| {
        let is_largest = last.load.body_bytes == SIZES_MIB[SIZES_MIB.len() - 1] << 20;
        is_largest.then_some(ms_per_mib(last)? / ms_per_mib(first)?)
    });
    growth.map_or_else(String::new, |growth| {
        format!(
            "time per MiB of the largest body at most {} that of the smallest: {}\n",
            ratio(GROWTH_MAX),
            status(growth <= GROWTH_MAX)
        )
    })
}

const SIZES_MIB: [usize; 5] = [1, 2, 4, 8, 10];
const MIB: f64 = (1 << 20) as f64;

/// Largest growth that counts as linear: caches get colder with size.
const GROWTH_MAX: f64 = 1.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{subjects::OURS, tests::row};

    #[test]
    fn growth_is_that_of_the_time_per_mib() {
        let rows = |micros| {
            [
                row(OURS, (1 << 20, 1), 10, 1000.0),
                row(OURS, (10 << 20, 1), 10, micros),
            ]
        };
        let text = MODE.report(&rows(15_000.0));
        assert!(text.contains("1.50x") && text.contains(": met"), "{text}");
        assert!(MODE.report(&rows(16_000.0)).contains("MISSED"));
    }
}
