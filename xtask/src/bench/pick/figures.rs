//! Figures of `bench pick`: medians over the rounds.

use serde::Serialize;
use xtask_pick::{Reading, Work};
use xtask_report::median;

/// Measurement of a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    pub(crate) strategy: &'static str,
    pub(crate) workers: usize,
    pub(crate) threads: usize,
    pub(crate) work: Work,
    pub(crate) round: u32,
    pub(crate) reading: Reading,
}

/// A row of the results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) strategy: &'static str,
    pub(crate) workers: usize,
    pub(crate) threads: usize,
    pub(crate) work: Work,
    /// Time of a thread for a pick, or for a call's share of balancing, as `work` says.
    pub(crate) ns_per_pick: f64,
    /// Allocations of all rounds, not the median: there are to be none.
    pub(crate) allocations_per_pick: f64,
    pub(crate) rounds: usize,
}

/// A row for each strategy, number of workers and of threads, and kind of work, in the order they
/// were measured in.
pub(crate) fn rows(measured: &[Measured]) -> Vec<Row> {
    let mut rows = Vec::new();
    for first in measured.iter().filter(|it| it.round == 1) {
        let alike = || measured.iter().filter(|it| it.is_same_cell(first));
        let allocations: f64 = alike().map(|it| it.reading.allocations).sum();
        let rounds = alike().count();
        rows.push(Row {
            strategy: first.strategy,
            workers: first.workers,
            threads: first.threads,
            work: first.work,
            ns_per_pick: median(alike().map(|it| it.reading.ns).collect()).unwrap_or(f64::NAN),
            allocations_per_pick: allocations / rounds as f64,
            rounds,
        });
    }
    rows
}

/// Speed-up of two threads over one; `None` if not both were measured.
pub(crate) fn speed_up(measured: &[Measured], strategy: &str, workers: usize) -> Option<f64> {
    let of = |threads| {
        move |it: &&Measured| {
            (it.strategy, it.workers, it.threads, it.work)
                == (strategy, workers, threads, Work::Pick)
        }
    };
    let pairs = measured.iter().filter(of(1)).filter_map(|one| {
        let two = measured
            .iter()
            .filter(of(2))
            .find(|two| two.round == one.round)?;
        Some(2.0 * one.reading.ns / two.reading.ns)
    });
    median(pairs.collect())
}

/// How many times as long a peer takes as one of ours, a thread alone; `None` if not both were
/// measured.
pub(crate) fn peer_ratio(
    measured: &[Measured],
    (ours, peer): (&str, &str),
    work: Work,
    workers: usize,
) -> Option<f64> {
    let of = |strategy| {
        move |it: &&Measured| {
            (it.strategy, it.workers, it.threads, it.work) == (strategy, workers, 1, work)
        }
    };
    let pairs = measured.iter().filter(of(ours)).filter_map(|ours| {
        let peer = measured
            .iter()
            .filter(of(peer))
            .find(|peer| peer.round == ours.round)?;
        Some(peer.reading.ns / ours.reading.ns)
    });
    median(pairs.collect())
}

/// The numbers of workers, in the order they were measured in.
pub(crate) fn sizes(rows: &[Row]) -> Vec<usize> {
    let mut sizes = Vec::new();
    for row in rows {
        if !sizes.contains(&row.workers) {
            sizes.push(row.workers);
        }
    }
    sizes
}

impl Measured {
    /// But for the round.
    fn is_same_cell(&self, other: &Self) -> bool {
        (self.strategy, self.workers, self.threads, self.work)
            == (other.strategy, other.workers, other.threads, other.work)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Rounds of one thread and of two.
    pub(crate) fn rounds(
        strategy: &'static str,
        work: Work,
        workers: usize,
        ns: &[(f64, f64)],
    ) -> Vec<Measured> {
        let of = |round: usize, threads, ns| Measured {
            strategy,
            workers,
            threads,
            work,
            round: round as u32 + 1,
            reading: Reading {
                ns,
                allocations: 0.0,
            },
        };
        let rounds = ns.iter().enumerate();
        rounds
            .flat_map(|(round, (one, two))| [of(round, 1, *one), of(round, 2, *two)])
            .collect()
    }

    #[test]
    fn a_row_is_the_median_of_its_rounds_and_has_all_allocations() {
        let mut measured = rounds(
            "random",
            Work::Pick,
            3,
            &[(10.0, 11.0), (30.0, 12.0), (20.0, 10.0)],
        );
        measured[4].reading.allocations = 0.3;
        let rows = rows(&measured);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].ns_per_pick, rows[1].ns_per_pick), (20.0, 11.0));
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "strategy": "random", "workers": 3, "threads": 1, "work": "pick", "ns_per_pick": 20.0,
                "allocations_per_pick": 0.09999999999999999, "rounds": 3,
            })
        );
    }

    #[test]
    fn ratios_are_those_within_a_round() {
        // The machine is half as fast in the second round.
        let mut measured = rounds(
            "random",
            Work::Pick,
            3,
            &[(10.0, 10.0), (20.0, 20.0), (10.0, 20.0)],
        );
        assert_eq!(speed_up(&measured, "random", 3), Some(2.0));
        assert_eq!(speed_up(&measured, "random", 30), None);
        let peer = rounds(
            "pingora-random",
            Work::Pick,
            3,
            &[(40.0, 1.0), (80.0, 1.0), (40.0, 1.0)],
        );
        measured.extend(peer);
        let pair = ("random", "pingora-random");
        assert_eq!(peer_ratio(&measured, pair, Work::Pick, 3), Some(4.0));
        assert_eq!(peer_ratio(&measured, pair, Work::Call, 3), None);
    }
}
