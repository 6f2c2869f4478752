//! Targets, and whether they are met.

use xtask_report::{format_table, ratio};

use super::{
    grid::{Cell, readable_bytes},
    rows::{Figures, Row},
    subjects::{BULK, OURS},
};

/// A bound for how ours compares with a peer in one cell.
#[derive(Debug, Clone, Copy)]
struct Target {
    ours: &'static str,
    peer: &'static str,
    cell: Cell,
    figure: Figure,
    bound: f64,
}

/// Figure that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    /// Median latency: at most so many times the peer's.
    P50,
    /// CPU time of a call: at most so many times the peer's.
    Cpu,
    /// Calls per second: at least so many times the peer's.
    Rate,
}

impl Target {
    const fn new(
        peer: &'static str,
        payload_bytes: usize,
        in_flight: usize,
        figure: Figure,
        bound: f64,
    ) -> Self {
        Self {
            ours: OURS,
            peer,
            cell: Cell {
                payload_bytes,
                in_flight,
            },
            figure,
            bound,
        }
    }

    /// Target of another variant of rpcnet.
    const fn of(mut self, ours: &'static str) -> Self {
        self.ours = ours;
        self
    }

    /// Ratio of rpcnet to the peer, if both were measured.
    fn measured(&self, rows: &[Row]) -> Option<f64> {
        let of = |subject| -> Option<Figures> {
            let mut rows = rows.iter();
            rows.find(|row| row.subject == subject && row.is_of(self.cell))?
                .figures
        };
        let (ours, peer) = (of(self.ours)?, of(self.peer)?);
        Some(match self.figure {
            Figure::P50 => ours.p50_us / peer.p50_us,
            Figure::Cpu => ours.cpu_us_per_call / peer.cpu_us_per_call,
            Figure::Rate => ours.calls_per_s / peer.calls_per_s,
        })
    }

    fn is_met(&self, measured: f64) -> bool {
        match self.figure {
            Figure::P50 | Figure::Cpu => measured <= self.bound,
            Figure::Rate => measured >= self.bound,
        }
    }
}

/// Table of the targets that were measured: bound, figure, met or not. Empty if none was.
pub(crate) fn report(rows: &[Row]) -> String {
    let mut lines = vec![
        ["against", "cell", "target", "measured", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut missed = 0;
    for target in TARGETS {
        let Some(measured) = target.measured(rows) else {
            continue;
        };
        let what = match target.figure {
            Figure::P50 => "p50 at most",
            Figure::Cpu => "CPU at most",
            Figure::Rate => "calls/s at least",
        };
        let met = target.is_met(measured);
        missed += usize::from(!met);
        lines.push(vec![
            target.peer.to_owned(),
            format!(
                "{} x {}",
                readable_bytes(target.cell.payload_bytes),
                target.cell.in_flight
            ),
            format!("{what} {}", ratio(target.bound)),
            ratio(measured),
            if met { "met" } else { "MISSED" }.to_owned(),
        ]);
    }
    if lines.len() == 1 {
        return String::new();
    }
    let total = lines.len() - 1;
    format!(
        "{}{} of {total} targets met\n",
        format_table(&lines),
        total - missed
    )
}

const TARGETS: &[Target] = &[
    Target::new("rpcnet-0.1.0", 32, 1, Figure::P50, 0.6),
    Target::new("rpcnet-0.1.0", 32, 64, Figure::Rate, 10.0),
    Target::new("rpcnet-0.1.0", 32, 512, Figure::Rate, 15.0),
    Target::new("tonic-tls", 32, 1, Figure::P50, 0.45),
    Target::new("tonic-tls", 32, 64, Figure::Rate, 10.0),
    Target::new("tonic-tls", 32, 512, Figure::Rate, 10.0),
    Target::new("tarpc-tcp", 32, 1, Figure::P50, 1.0),
    Target::new("tarpc-tcp", 32, 64, Figure::Rate, 2.0),
    Target::new("tarpc-tcp", 32, 512, Figure::Rate, 2.0),
    Target::new("quinn-stream", 32, 1, Figure::P50, 0.9),
    Target::new("quinn-stream", 32, 64, Figure::Rate, 4.0),
    Target::new("quinn-stream", 32, 512, Figure::Rate, 5.0),
    Target::new("tarpc-tcp", 32, 512, Figure::Cpu, 0.5),
    Target::new("tarpc-tcp", 1 << 10, 64, Figure::Rate, 1.0),
    Target::new("quinn-stream", 64 << 10, 64, Figure::Rate, 0.9),
    Target::new("quinn-stream", 1 << 20, 64, Figure::Rate, 0.9),
    Target::new("tonic-tls", 64 << 10, 64, Figure::Rate, 0.8).of(BULK),
    Target::new("tonic-tls", 1 << 20, 64, Figure::Rate, 0.8).of(BULK),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::tests::row;

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
