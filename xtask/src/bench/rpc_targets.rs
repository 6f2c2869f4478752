//! Targets of calls beside peers, over the grid.

use xtask_report::ratio;

use super::{
    grid::readable_bytes,
    rows::{Figure, Row},
    subjects::{BULK, OURS, QUINN, TONIC},
    targets::{self, Target},
};

/// A bound for how ours compares with a peer in one cell.
#[derive(Debug)]
struct Comparison {
    ours: &'static str,
    peer: &'static str,
    payload_bytes: usize,
    in_flight: usize,
    figure: &'static Compared,
    bound: f64,
}

/// Figure that is compared.
#[derive(Debug)]
struct Compared {
    name: &'static str,
    of: Figure,
    is_met: fn(&f64, &f64) -> bool,
}

impl Comparison {
    const fn new(
        peer: &'static str,
        payload_bytes: usize,
        in_flight: usize,
        figure: &'static Compared,
        bound: f64,
    ) -> Self {
        Self {
            ours: OURS,
            peer,
            payload_bytes,
            in_flight,
            figure,
            bound,
        }
    }

    /// Comparison of another variant of rpcnet.
    const fn of(mut self, ours: &'static str) -> Self {
        self.ours = ours;
        self
    }

    /// The target, if rpcnet and the peer were measured.
    fn target(&self, rows: &[Row]) -> Option<Target> {
        let of = |subject| {
            let is_same = |row: &&Row| {
                let cell = (row.load.body_bytes, row.load.in_flight);
                row.subject.name == subject && cell == (self.payload_bytes, self.in_flight)
            };
            rows.iter().find(is_same).and_then(self.figure.of)
        };
        let measured = of(self.ours)? / of(self.peer)?;
        let payload = readable_bytes(self.payload_bytes);
        Some(Target {
            what: vec![
                self.peer.to_owned(),
                format!("{payload} x {}", self.in_flight),
            ],
            bound: format!("{} {}", self.figure.name, ratio(self.bound)),
            measured: ratio(measured),
            met: (self.figure.is_met)(&measured, &self.bound),
        })
    }
}

/// Table of the targets that were measured: bound, figure, met or not. Empty if none was.
pub(crate) fn report(rows: &[Row]) -> String {
    let targets: Vec<_> = TARGETS.iter().filter_map(|it| it.target(rows)).collect();
    targets::report(&["against", "cell", "target", "measured", ""], &targets)
}

const P50: &Compared = &Compared {
    name: "p50 at most",
    of: Row::p50_us,
    is_met: f64::le,
};
const CPU: &Compared = &Compared {
    name: "CPU at most",
    of: Row::cpu_us_per_call,
    is_met: f64::le,
};
const RATE: &Compared = &Compared {
    name: "calls/s at least",
    of: Row::per_s,
    is_met: f64::ge,
};

const TARGETS: &[Comparison] = &[
    Comparison::new("rpcnet-0.1.0", 32, 1, P50, 0.6),
    Comparison::new("rpcnet-0.1.0", 32, 64, RATE, 10.0),
    Comparison::new("rpcnet-0.1.0", 32, 512, RATE, 15.0),
    Comparison::new(TONIC, 32, 1, P50, 0.45),
    Comparison::new(TONIC, 32, 64, RATE, 10.0),
    Comparison::new(TONIC, 32, 512, RATE, 10.0),
    Comparison::new("tarpc-tcp", 32, 1, P50, 1.0),
    Comparison::new("tarpc-tcp", 32, 64, RATE, 2.0),
    Comparison::new("tarpc-tcp", 32, 512, RATE, 2.0),
    Comparison::new(QUINN, 32, 1, P50, 0.9),
    Comparison::new(QUINN, 32, 64, RATE, 4.0),
    Comparison::new(QUINN, 32, 512, RATE, 5.0),
    Comparison::new("tarpc-tcp", 32, 512, CPU, 0.5),
    Comparison::new("tarpc-tcp", 1 << 10, 64, RATE, 1.0),
    Comparison::new(QUINN, 64 << 10, 64, RATE, 0.9),
    Comparison::new(QUINN, 1 << 20, 64, RATE, 0.9),
    Comparison::new(TONIC, 64 << 10, 64, RATE, 0.8).of(BULK),
    Comparison::new(TONIC, 1 << 20, 64, RATE, 0.8).of(BULK),
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
