//! Calls in a closed loop, over a grid of payloads and numbers of calls in flight.

use super::{
    floor,
    mode::{CPU, Column, IN_FLIGHT, Mode, OURS_CPU, OURS_P50, OURS_RATE, P50, P99, P999, RATE},
    options::Options,
    rows::{CALLS, Row},
    rpc_targets,
    subjects::Subject,
};

pub(crate) const MODE: Mode = Mode {
    groups: |options, subjects| {
        let cells = select(options).into_iter();
        cells.map(|cell| group(options, subjects, cell)).collect()
    },
    table: |row| readable_bytes(row.load.body_bytes),
    columns: &[
        IN_FLIGHT,
        RATE,
        CPU,
        P50,
        P99,
        P999,
        Column::Ratio("of floor: rate", floor::rate),
        Column::Ratio("p50", floor::p50),
        Column::Ratio("CPU", floor::cpu),
        OURS_RATE,
        OURS_P50,
        OURS_CPU,
    ],
    fields: &[
        CALLS,
        &[
            ("rate_of_floor", floor::rate),
            ("p50_of_floor", floor::p50),
            ("cpu_of_floor", floor::cpu),
        ],
    ],
    figure: |rows| {
        let payload = rows.first().map_or(0, |row| row.load.body_bytes);
        format!("calls per second, echo of {}", readable_bytes(payload))
    },
    stands_out: |row| !row.subject.is_peer(),
    notes: rpc_targets::notes,
    ..Mode::CALLS
};

/// A cell of calls in a closed loop, with the subjects that are measured in it.
pub(crate) fn group(
    options: &Options,
    subjects: &[Subject],
    (payload_bytes, in_flight): (usize, usize),
) -> Vec<Row> {
    let load = options.measuring.load(payload_bytes, in_flight);
    let subjects = subjects.iter().filter(|it| it.takes(payload_bytes));
    subjects.map(|subject| Row::calls(*subject, load)).collect()
}

/// The cells that the options ask for: payloads and calls in flight.
///
/// Payloads from 64 KiB are measured with 1 and 64 calls in flight, since 512 calls of 1 MiB, there
/// and back, are more memory than a usual machine has; 4,096 calls are those of 32 B alone.
/// What is asked for by both payload and number is measured whatever it is.
fn select(options: &Options) -> Vec<(usize, usize)> {
    let grid = match options.payload[..] {
        [] if options.measuring.quick => QUICK,
        _ => FULL,
    };
    let payloads = match &options.payload[..] {
        [] => grid.iter().map(|(bytes, _)| *bytes).collect(),
        asked => asked.to_vec(),
    };
    let asked = options.in_flight_or(&[]);
    let mut cells = Vec::new();
    for bytes in payloads {
        let row = grid.iter().rfind(|(from, _)| *from <= bytes);
        let usual = row.unwrap_or(&grid[0]).1;
        let is_asked = |calls: &&usize| asked.is_empty() || asked.contains(calls);
        if !asked.is_empty() && !options.payload.is_empty() {
            cells.extend(asked.iter().map(|calls| (bytes, *calls)));
        } else {
            cells.extend(usual.iter().filter(is_asked).map(|calls| (bytes, *calls)));
        }
    }
    cells
}

/// A number of bytes, short.
pub(crate) fn readable_bytes(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

const FULL: &[(usize, &[usize])] = &[
    (32, &[1, 64, 512, 4096]),
    (1 << 10, &[1, 64, 512]),
    (64 << 10, &[1, 64]),
    (1 << 20, &[1, 64]),
];

const QUICK: &[(usize, &[usize])] = &[
    (32, &[1, 64, 512]),
    (1 << 10, &[64]),
    (64 << 10, &[64]),
    (1 << 20, &[1]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::{failed, parse, row};

    fn cells(arguments: &[&str]) -> Vec<(usize, usize)> {
        select(&parse(arguments).unwrap())
    }

    #[test]
    fn the_grid_is_cut_down_by_filters() {
        assert_eq!(cells(&[]).len(), 11);
        assert_eq!(cells(&["--in-flight", "512"]), [(32, 512), (1 << 10, 512)]);
        assert_eq!(cells(&["--payload", "1MiB"]), [(1 << 20, 1), (1 << 20, 64)]);
        assert_eq!(cells(&["--payload", "100"]).len(), 4);
        assert_eq!(cells(&["--payload", "8"]).len(), 4);
        assert_eq!(
            cells(&["--payload", "1MiB", "--in-flight", "512"]),
            [(1 << 20, 512)]
        );
        assert!(cells(&["--quick"]).len() < cells(&[]).len());
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (32, "32 B"),
            (1536, "1536 B"),
            (65536, "64 KiB"),
            (10 << 20, "10 MiB"),
        ] {
            assert_eq!(readable_bytes(bytes), text);
        }
    }

    #[test]
    fn ours_is_compared_with_each_peer() {
        let rows = [
            row("rpcnet", (32, 64), 400_000, 50.0),
            row("tarpc-tcp", (32, 64), 100_000, 100.0),
            failed("it hangs", (32, 64)),
            row("tarpc-tcp", (1024, 64), 300_000, 50.0),
        ];
        let text = MODE.report(&rows);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("32 B"), "{text}");
        assert!(
            lines[1].contains("400,000") && !lines[1].contains('x'),
            "{text}"
        );
        assert!(lines[2].contains("4.00x  0.50x  1.00x"), "{text}");
        assert!(lines[3].ends_with("failed"), "{text}");
        assert!(lines[4].contains("at 64 in flight: it hangs"), "{text}");
        assert!(lines[6].starts_with("1 KiB"), "{text}");
        assert!(!lines[7].contains('x'), "{text}");
    }

    #[test]
    fn a_figure_has_a_bar_for_each_row_of_the_first_payload() {
        let rows = [
            row("rpcnet", (32, 64), 400_000, 50.0),
            row("tarpc-tcp", (32, 64), 100_000, 100.0),
            failed("it hangs", (32, 64)),
            row("rpcnet", (1024, 64), 300_000, 50.0),
        ];
        let svg = MODE.draw(&rows);
        assert_eq!(svg.matches("#94A3B8").count(), 2);
        assert_eq!(svg.matches("#C2410C").count(), 1);
        assert!(svg.contains("width=\"420\"") && svg.contains("width=\"105\""));
        assert!(svg.contains("failed"));
    }
}
