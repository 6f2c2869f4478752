//! Grid of payloads and numbers of calls in flight.

use super::options::Options;

/// Cell of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) payload_bytes: usize,
    pub(crate) in_flight: usize,
}

/// The cells that the options ask for.
///
/// Payloads from 64 KiB are measured with 1 and 64 calls in flight, since 512 calls of 1 MiB, there
/// and back, are more memory than a usual machine has; 4,096 calls are those of 32 B alone.
/// What is asked for by both payload and number is measured whatever it is.
pub(crate) fn select(options: &Options) -> Vec<Cell> {
    let (payloads, in_flight) = (&options.payload, &options.in_flight);
    let grid = if options.measuring.quick { QUICK } else { FULL };
    let cell = |payload_bytes, in_flight| Cell {
        payload_bytes,
        in_flight,
    };
    if !payloads.is_empty() && !in_flight.is_empty() {
        return payloads
            .iter()
            .flat_map(|bytes| in_flight.iter().map(|calls| cell(*bytes, *calls)))
            .collect();
    }
    if !payloads.is_empty() {
        let numbers = |bytes| {
            let row = FULL.iter().rfind(|(from, _)| *from <= bytes);
            row.map_or(FULL[0].1, |(_, numbers)| *numbers)
        };
        return payloads
            .iter()
            .flat_map(|bytes| numbers(*bytes).iter().map(|calls| cell(*bytes, *calls)))
            .collect();
    }
    grid.iter()
        .flat_map(|(bytes, numbers)| numbers.iter().map(|calls| cell(*bytes, *calls)))
        .filter(|cell| in_flight.is_empty() || in_flight.contains(&cell.in_flight))
        .collect()
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
    use crate::bench::options::tests::parse;

    fn cells(arguments: &[&str]) -> Vec<(usize, usize)> {
        let cells = select(&parse(arguments).unwrap());
        cells
            .iter()
            .map(|it| (it.payload_bytes, it.in_flight))
            .collect()
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
}
