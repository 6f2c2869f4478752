//! Targets of calls and streams beside peers.

use xtask_load::Job;

use super::{
    grid::readable_bytes,
    rows::{Figure, Placement, Row},
    subjects::{BULK, OURS, QUINN, RPCNET_0_1_0, TARPC, TARPC_TLS, TONIC},
    targets::{Notes, Target},
};

/// Comparison of ours with another subject: its name, payload and calls in flight, figure, and
/// bound of the ratio.
type Comparison = (&'static str, (usize, usize), Compared, f64);

/// Figure that is compared: name of the bound, figure, and whether a ratio meets a bound.
type Compared = (&'static str, Figure, fn(&f64, &f64) -> bool);

/// The target, if rpcnet and the other were measured.
fn target(comparison: &Comparison, rows: &[Row]) -> Option<Target> {
    let (other, cell, (name, figure, is_met), bound) = *comparison;
    let of = |subject: &str| {
        let is_same = |row: &&Row| {
            row.subject.name == subject
                && (row.load.body_bytes, row.load.in_flight) == cell
                && matches!(row.job, Job::Closed { .. })
        };
        rows.iter().find(is_same).and_then(figure)
    };
    let measured = of(OURS)? / of(other)?;
    let cell = format!("{} x {}", readable_bytes(cell.0), cell.1);
    let what = vec![other.to_owned(), cell];
    Some(Target::ratio(what, (name, bound), measured, is_met))
}

/// Table of the targets that were measured: bound, figure, met or not. Empty if none was.
pub(crate) fn notes(rows: &[Row]) -> Notes {
    let comparisons: &[&[Comparison]] = match rows.first().map(|row| row.placement) {
        Some(Placement::Pinned) => &[PINNED, ALL],
        Some(Placement::Shared) => &[SHARED, ALL],
        Some(Placement::Other) | None => &[],
    };
    let comparisons = comparisons.iter().copied().flatten();
    let targets: Vec<_> = comparisons.filter_map(|it| target(it, rows)).collect();
    Notes::table(HEADING, &targets)
}

/// Table of the targets of streams, in each direction that was measured. Empty if none was.
pub(crate) fn stream_notes(rows: &[Row]) -> Notes {
    let mut targets = Vec::new();
    for ours in rows.iter().filter(|row| row.is_ours()) {
        let bound = STREAMS
            .iter()
            .find(|(bytes, _)| *bytes == ours.load.body_bytes);
        let is_peer = |row: &&Row| row.subject.name == TONIC && row.cell == ours.cell;
        let peer = rows.iter().find(is_peer);
        if let (Some((_, bound)), Some(ours_per_s), Some(peer_per_s)) =
            (bound, ours.per_s(), peer.and_then(Row::per_s))
        {
            let what = vec![TONIC.to_owned(), ours.cell.clone()];
            let bound = ("items/s at least", *bound);
            targets.push(Target::ratio(what, bound, ours_per_s / peer_per_s, f64::ge));
        }
    }
    Notes::table(HEADING, &targets)
}

const HEADING: &[&str] = &["against", "cell", "target", "measured", ""];

const P50: Compared = ("p50 at most", Row::p50_us, f64::le);
const CPU: Compared = ("CPU at most", Row::cpu_us_per_call, f64::le);
const RATE: Compared = ("calls/s at least", Row::per_s, f64::ge);

/// Targets with a core for each process and current-thread runtimes, beside those of all.
const PINNED: &[Comparison] = &[
    (RPCNET_0_1_0, (32, 1), P50, 0.6),
    (TONIC, (32, 1), P50, 0.45),
    (TARPC, (32, 1), P50, 0.3),
    (QUINN, (32, 1), P50, 0.9),
    (TARPC, (32, 512), CPU, 0.5),
    (TARPC, (1 << 10, 64), RATE, 1.0),
    (QUINN, (64 << 10, 64), RATE, 0.9),
    (QUINN, (1 << 20, 64), RATE, 0.9),
];

/// Targets with multi-thread runtimes on cores that the system chooses, as most services run,
/// beside those of all.
const SHARED: &[Comparison] = &[(TARPC, (32, 1), P50, 0.7)];

/// Targets of both runtimes. Large bodies are those of the default preset.
const ALL: &[Comparison] = &[
    (TARPC, (32, 64), RATE, 3.0),
    (TARPC_TLS, (32, 64), RATE, 4.0),
    (TONIC, (32, 64), RATE, 12.0),
    (QUINN, (32, 64), RATE, 3.5),
    (RPCNET_0_1_0, (32, 64), RATE, 6.0),
    (TARPC, (32, 512), RATE, 4.0),
    (TARPC_TLS, (32, 512), RATE, 5.0),
    (TONIC, (32, 512), RATE, 20.0),
    (QUINN, (32, 512), RATE, 5.0),
    (RPCNET_0_1_0, (32, 512), RATE, 10.0),
    (TONIC, (64 << 10, 64), RATE, 1.5),
    (TONIC, (1 << 20, 64), RATE, 1.5),
    (BULK, (64 << 10, 64), RATE, 0.9),
    (BULK, (1 << 20, 64), RATE, 0.9),
];

/// Targets of streams beside tonic's: bytes of an item, and the ratio of the rates.
const STREAMS: &[(usize, f64)] = &[(32, 5.0), (64 << 10, 1.5)];

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
        let met = notes(&rows(300));
        assert!(
            met.text.contains("3.00x  met") && met.text.contains("1 of 1 targets met"),
            "{met:?}"
        );
        assert_eq!(met.missed, 0);
        let missed = notes(&rows(299));
        assert!(
            missed.text.contains("MISSED") && missed.text.contains("0 of 1"),
            "{missed:?}"
        );
        assert_eq!(missed.missed, 1);
    }

    #[test]
    fn latency_and_cpu_are_better_when_lower() {
        let at = |ours, peer| {
            [
                row("rpcnet", (32, 1), 10, ours),
                row("tarpc-tcp", (32, 1), 10, peer),
            ]
        };
        assert_eq!(notes(&at(15.0, 50.0)).missed, 0);
        assert_eq!(notes(&at(16.0, 50.0)).missed, 1);
        let rows = [
            row("rpcnet", (32, 512), 400, 1.0),
            row("tarpc-tcp", (32, 512), 100, 1.0),
        ];
        // The rate is reached; CPU time is the same.
        assert!(notes(&rows).text.contains("1 of 2"));
    }

    #[test]
    fn one_call_at_a_time_has_a_target_for_each_runtime() {
        let mut rows = [
            row("rpcnet", (32, 1), 10, 35.0),
            row("tarpc-tcp", (32, 1), 10, 50.0),
        ];
        assert!(notes(&rows).text.contains("at most 0.30x"));
        rows[0].placement = Placement::Shared;
        let shared = notes(&rows);
        assert!(shared.text.contains("at most 0.70x"), "{shared:?}");
        assert_eq!(shared.missed, 0);
        rows[0].placement = Placement::Other;
        assert_eq!(notes(&rows), Notes::default());
    }

    #[test]
    fn rates_have_the_same_targets_on_both_runtimes() {
        let mut rows = [
            row("rpcnet", (32, 512), 999, 1.0),
            row("rpcnet-0.1.0", (32, 512), 100, 1.0),
            row("rpcnet", (1 << 20, 64), 149, 1.0),
            row("rpcnet-bulk", (1 << 20, 64), 149, 1.0),
            row("tonic-tls", (1 << 20, 64), 100, 1.0),
        ];
        for placement in [Placement::Pinned, Placement::Shared] {
            rows[0].placement = placement;
            let notes = notes(&rows);
            assert!(notes.text.contains("at least 10.00x"), "{notes:?}");
            assert!(notes.text.contains("1 of 3"), "{notes:?}");
            assert_eq!(notes.missed, 2);
        }
    }

    #[test]
    fn streams_are_compared_with_tonic_in_each_direction() {
        let stream = |subject, cell: &str, items| {
            let mut row = row(subject, (32, 1), items, 1.0);
            row.cell = cell.to_owned();
            row
        };
        let rows = [
            stream("rpcnet", "up", 500),
            stream("tonic-tls", "up", 100),
            stream("rpcnet", "down", 499),
            stream("tonic-tls", "down", 100),
            stream("rpcnet", "both", 499),
        ];
        let text = stream_notes(&rows).text;
        assert!(
            text.contains("4.99x  MISSED") && text.contains("1 of 2"),
            "{text}"
        );
    }

    #[test]
    fn targets_without_measurements_are_left_out() {
        let rows = [row("rpcnet", (32, 1), 10, 1.0)];
        assert_eq!(notes(&rows), Notes::default());
    }
}
