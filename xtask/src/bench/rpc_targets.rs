//! Targets of calls beside peers, over the grid.

use super::{
    grid::readable_bytes,
    rows::{Figure, Row},
    subjects::{BULK, OURS, QUINN, TONIC},
    targets::{self, Target},
};

/// Comparison of ours with a peer: variant of rpcnet, peer, payload and calls in flight, figure,
/// and bound of the ratio.
type Comparison = (&'static str, &'static str, (usize, usize), Compared, f64);

/// Figure that is compared: name of the bound, figure, and whether a ratio meets a bound.
type Compared = (&'static str, Figure, fn(&f64, &f64) -> bool);

/// The target, if rpcnet and the peer were measured.
fn target(comparison: &Comparison, rows: &[Row]) -> Option<Target> {
    let (ours, peer, cell, (name, figure, is_met), bound) = *comparison;
    let of = |subject: &str| {
        let is_same = |row: &&Row| {
            row.subject.name == subject && (row.load.body_bytes, row.load.in_flight) == cell
        };
        rows.iter().find(is_same).and_then(figure)
    };
    let measured = of(ours)? / of(peer)?;
    let cell = format!("{} x {}", readable_bytes(cell.0), cell.1);
    let what = vec![peer.to_owned(), cell];
    Some(Target::ratio(what, (name, bound), measured, is_met))
}

/// Table of the targets that were measured: bound, figure, met or not. Empty if none was.
pub(crate) fn report(rows: &[Row]) -> String {
    let targets: Vec<_> = TARGETS.iter().filter_map(|it| target(it, rows)).collect();
    targets::report(&["against", "cell", "target", "measured", ""], &targets)
}

const P50: Compared = ("p50 at most", Row::p50_us, f64::le);
const CPU: Compared = ("CPU at most", Row::cpu_us_per_call, f64::le);
const RATE: Compared = ("calls/s at least", Row::per_s, f64::ge);

const TARGETS: &[Comparison] = &[
    (OURS, "rpcnet-0.1.0", (32, 1), P50, 0.6),
    (OURS, "rpcnet-0.1.0", (32, 64), RATE, 10.0),
    (OURS, "rpcnet-0.1.0", (32, 512), RATE, 15.0),
    (OURS, TONIC, (32, 1), P50, 0.45),
    (OURS, TONIC, (32, 64), RATE, 10.0),
    (OURS, TONIC, (32, 512), RATE, 10.0),
    (OURS, "tarpc-tcp", (32, 1), P50, 1.0),
    (OURS, "tarpc-tcp", (32, 64), RATE, 2.0),
    (OURS, "tarpc-tcp", (32, 512), RATE, 2.0),
    (OURS, QUINN, (32, 1), P50, 0.9),
    (OURS, QUINN, (32, 64), RATE, 4.0),
    (OURS, QUINN, (32, 512), RATE, 5.0),
    (OURS, "tarpc-tcp", (32, 512), CPU, 0.5),
    (OURS, "tarpc-tcp", (1 << 10, 64), RATE, 1.0),
    (OURS, QUINN, (64 << 10, 64), RATE, 0.9),
    (OURS, QUINN, (1 << 20, 64), RATE, 0.9),
    (BULK, TONIC, (64 << 10, 64), RATE, 0.8),
    (BULK, TONIC, (1 << 20, 64), RATE, 0.8),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::row;

    #[test]
    fn a_target_is_met_at_its_bound_and_missed_past_it() {
        let rows = |ours| {
            [
                row("rpcnet", (32, 64), ours, 1.0),
                row("tarpc-tcp", (32, 64), 100, 1.0),
            ]
        };
        let text = report(&rows(200));
        assert!(
            text.contains("2.00x  met") && text.contains("1 of 1 targets met"),
            "{text}"
        );
        let text = report(&rows(199));
        assert!(text.contains("MISSED") && text.contains("0 of 1"), "{text}");
    }

    #[test]
    fn latency_and_cpu_are_better_when_lower() {
        let at = |ours, peer| {
            [
                row("rpcnet", (32, 1), 10, ours),
                row("tarpc-tcp", (32, 1), 10, peer),
            ]
        };
        assert!(report(&at(50.0, 50.0)).contains("1 of 1"));
        assert!(report(&at(51.0, 50.0)).contains("0 of 1"));
        let rows = [
            row("rpcnet", (32, 512), 400, 1.0),
            row("tarpc-tcp", (32, 512), 100, 1.0),
        ];
        // The rate is reached; CPU time is the same.
        assert!(report(&rows).contains("1 of 2"));
    }

    #[test]
    fn targets_without_measurements_are_left_out() {
        assert_eq!(report(&[row("rpcnet", (32, 1), 10, 1.0)]), "");
    }
}
