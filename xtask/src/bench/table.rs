//! Table of calls.

use std::fmt::Write;

use xtask_report::{format_table, number, ratio};

use super::{
    grid::{Cell, readable_bytes},
    rows::Row,
    subjects::OURS,
};

/// The rows, a table for each cell's payload; the last columns say how ours compares with a peer.
pub(crate) fn calls(rows: &[Row], cells: &[Cell]) -> String {
    let mut text = String::new();
    let mut payloads: Vec<usize> = cells.iter().map(|cell| cell.payload_bytes).collect();
    payloads.dedup();
    for bytes in payloads {
        let heading = [
            &readable_bytes(bytes),
            "in flight",
            "calls/s",
            "CPU µs/call",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "ours: rate",
            "p50",
            "CPU",
        ];
        let mut lines = vec![heading.map(str::to_owned).to_vec()];
        let mut notes = String::new();
        for cell in cells.iter().filter(|cell| cell.payload_bytes == bytes) {
            let of_cell = || rows.iter().filter(|row| row.is_of(*cell));
            let ours = of_cell()
                .find(|row| row.subject == OURS)
                .and_then(|row| row.figures);
            for row in of_cell() {
                let mut line = vec![row.subject.to_owned(), row.in_flight.to_string()];
                if let Some(figures) = row.figures {
                    line.extend([
                        number(figures.calls_per_s),
                        number(figures.cpu_us_per_call),
                        number(figures.p50_us),
                        number(figures.p99_us),
                        number(figures.p999_us),
                    ]);
                    if let Some(ours) = ours.filter(|_| row.subject != OURS) {
                        line.extend([
                            ratio(ours.calls_per_s / figures.calls_per_s),
                            ratio(ours.p50_us / figures.p50_us),
                            ratio(ours.cpu_us_per_call / figures.cpu_us_per_call),
                        ]);
                    }
                } else if let Some(reason) = &row.failed {
                    line.push("failed".to_owned());
                    let _ = writeln!(
                        notes,
                        "  {} failed at {} in flight: {reason}",
                        row.subject, row.in_flight
                    );
                }
                lines.push(line);
            }
        }
        text += &format_table(&lines);
        text += &notes;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::tests::row;

    #[test]
    fn ours_is_compared_with_each_peer() {
        let cell = Cell {
            payload_bytes: 32,
            in_flight: 64,
        };
        let mut failed = row("rpcnet-0.1.0", (32, 64), 1, 1.0);
        (failed.figures, failed.failed) = (None, Some("it hangs".to_owned()));
        let rows = [
            row("rpcnet", (32, 64), 400_000, 50.0),
            row("tarpc-tcp", (32, 64), 100_000, 100.0),
            failed,
        ];
        let text = calls(&rows, &[cell]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("32 B"), "{text}");
        assert!(
            lines[1].contains("400,000") && !lines[1].contains('x'),
            "{text}"
        );
        assert!(lines[2].contains("4.00x  0.50x  1.00x"), "{text}");
        assert!(lines[3].ends_with("failed"), "{text}");
        assert!(lines[4].contains("it hangs"), "{text}");
    }
}
