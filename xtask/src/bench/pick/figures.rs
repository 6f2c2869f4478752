//! Figures of `bench pick`: medians over the rounds.

use serde::Serialize;
use xtask_pick::{Reading, Work};
use xtask_report::median;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Cell {
    pub(crate) strategy: &'static str,
    pub(crate) workers: usize,
    pub(crate) threads: usize,
    pub(crate) work: Work,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    /// Time of a thread for a pick, or for a call's share of balancing, as `work` says.
    pub(crate) ns_per_pick: f64,
    /// Allocations of all rounds, not the median: there are to be none.
    pub(crate) allocations_per_pick: f64,
    pub(crate) rounds: usize,
    #[serde(skip)]
    readings: Vec<Reading>,
}

impl Row {
    pub(crate) fn new(cell: Cell, readings: Vec<Reading>) -> Self {
        let allocations: f64 = readings.iter().map(|it| it.allocations).sum();
        Self {
            cell,
            ns_per_pick: median(readings.iter().map(|it| it.ns).collect()).unwrap_or(f64::NAN),
            allocations_per_pick: allocations / readings.len() as f64,
            rounds: readings.len(),
            readings,
        }
    }
}

pub(crate) fn find<'a>(
    rows: &'a [Row],
    strategy: &str,
    workers: usize,
    threads: usize,
    work: Work,
) -> Option<&'a Row> {
    let asked = (strategy, workers, threads, work);
    let mut rows = rows.iter();
    rows.find(|Row { cell, .. }| (cell.strategy, cell.workers, cell.threads, cell.work) == asked)
}

/// Speed-up of two threads over one; `None` if not both were measured.
pub(crate) fn speed_up(rows: &[Row], strategy: &str, workers: usize) -> Option<f64> {
    let of = |threads| find(rows, strategy, workers, threads, Work::Pick);
    Some(2.0 * time_ratio(of(1)?, of(2)?)?)
}

/// How many times as long a peer takes as one of ours, a thread alone; `None` if not both were
/// measured.
pub(crate) fn peer_ratio(
    rows: &[Row],
    (ours, peer): (&str, &str),
    work: Work,
    workers: usize,
) -> Option<f64> {
    let of = |strategy| find(rows, strategy, workers, 1, work);
    time_ratio(of(peer)?, of(ours)?)
}

/// Median ratio of the times within a round.
fn time_ratio(one: &Row, other: &Row) -> Option<f64> {
    let rounds = one.readings.iter().zip(&other.readings);
    median(rounds.map(|(one, other)| one.ns / other.ns).collect())
}

/// Distinct values among the cells of the rows, in the order they were measured in.
pub(crate) fn distinct<T: PartialEq>(rows: &[Row], of: impl Fn(&Cell) -> T) -> Vec<T> {
    let mut values = Vec::new();
    for row in rows {
        let value = of(&row.cell);
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::pick::tests::rounds;

    #[test]
    fn a_row_is_the_median_of_its_rounds_and_has_all_allocations() {
        let rounds = rounds(
            "random",
            Work::Pick,
            3,
            &[(10.0, 11.0), (30.0, 12.0), (20.0, 10.0)],
        );
        let mut readings = rounds[0].readings.clone();
        readings[2].allocations = 0.3;
        let row = Row::new(rounds[0].cell, readings);
        assert_eq!((row.ns_per_pick, rounds[1].ns_per_pick), (20.0, 11.0));
        let json = serde_json::to_value(&row).unwrap();
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
        let mut rows = rounds(
            "random",
            Work::Pick,
            3,
            &[(10.0, 10.0), (20.0, 20.0), (10.0, 20.0)],
        );
        assert_eq!(speed_up(&rows, "random", 3), Some(2.0));
        assert_eq!(speed_up(&rows, "random", 30), None);
        let peer = rounds(
            "pingora-random",
            Work::Pick,
            3,
            &[(40.0, 1.0), (80.0, 1.0), (40.0, 1.0)],
        );
        rows.extend(peer);
        let pair = ("random", "pingora-random");
        assert_eq!(peer_ratio(&rows, pair, Work::Pick, 3), Some(4.0));
        assert_eq!(peer_ratio(&rows, pair, Work::Call, 3), None);
    }
}
