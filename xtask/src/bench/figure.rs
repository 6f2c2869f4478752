//! Figure of calls per second.

use xtask_report::{Bar, Panel, draw_bars};

use super::{
    grid::{Cell, readable_bytes},
    rows::Row,
    subjects::OURS,
};

/// Calls per second of the smallest payload, a panel for each number in flight.
pub(crate) fn calls(rows: &[Row], cells: &[Cell]) -> String {
    let smallest = cells
        .iter()
        .map(|cell| cell.payload_bytes)
        .min()
        .unwrap_or_default();
    let panels: Vec<Panel> = cells
        .iter()
        .filter(|cell| cell.payload_bytes == smallest)
        .map(|cell| Panel {
            title: format!("{} in flight", cell.in_flight),
            bars: rows
                .iter()
                .filter(|row| row.is_of(*cell))
                .map(|row| Bar {
                    label: row.subject.to_owned(),
                    value: row.figures.map(|figures| figures.calls_per_s),
                    ours: row.subject.starts_with(OURS) && !row.subject.ends_with("0.1.0"),
                })
                .collect(),
        })
        .collect();
    let title = format!("calls per second, echo of {}", readable_bytes(smallest));
    draw_bars(&title, &panels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::tests::row;

    #[test]
    fn a_figure_has_a_bar_for_each_row() {
        let mut failed = row("rpcnet-0.1.0", (32, 64), 1, 1.0);
        failed.figures = None;
        let rows = [
            row("rpcnet", (32, 64), 400_000, 50.0),
            row("tarpc-tcp", (32, 64), 100_000, 100.0),
            failed,
            row("rpcnet", (1024, 64), 300_000, 50.0),
        ];
        let cells = [32, 1024].map(|payload_bytes| Cell {
            payload_bytes,
            in_flight: 64,
        });
        let svg = calls(&rows, &cells);
        assert_eq!(svg.matches("#94A3B8").count(), 2);
        assert_eq!(svg.matches("#C2410C").count(), 1);
        assert!(svg.contains("width=\"420\"") && svg.contains("width=\"105\""));
        assert!(svg.contains("failed"));
    }
}
