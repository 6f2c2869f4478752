//! Placement of members in processes, and the choice of members to kill.

use std::{error::Error, ops::Range};

/// Members by number, in a row over the processes. The first of them are the seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Numbers of the members of each process.
    pub(crate) numbers: Vec<Range<usize>>,
    /// The process of a single member that is killed with it, if any are.
    pub(crate) single_member_process: Option<usize>,
    /// Members that are dropped, of each process.
    pub(crate) dropped: Vec<Vec<usize>>,
}

impl Placement {
    /// `nodes` members in `processes`, of which `kill` go.
    pub(crate) fn new(nodes: usize, processes: usize, kill: usize) -> Result<Self, Box<dyn Error>> {
        let alone = usize::from(kill > 0);
        if kill * 3 > nodes {
            return Err(
                format!("of {nodes} members {kill} cannot be killed: at most a third").into(),
            );
        }
        let shared = nodes - alone;
        // The first process has the seeds, and of its others some go.
        let of_each = kill.saturating_sub(1).div_ceil(processes);
        if shared / processes < SEEDS + of_each {
            return Err(format!("{nodes} members are too few for {processes} processes").into());
        }
        let bounds: Vec<usize> = (0..=processes).map(|at| shared * at / processes).collect();
        let mut numbers: Vec<_> = bounds.windows(2).map(|pair| pair[0]..pair[1]).collect();
        // The others of those killed in turn, none of them a seed.
        let mut dropped = vec![Vec::new(); processes];
        for at in 0..kill.saturating_sub(1) {
            let process = at % processes;
            let last = numbers[process].end - 1;
            dropped[process].push(last - at / processes);
        }
        if alone == 1 {
            numbers.push(shared..nodes);
            dropped.push(Vec::new());
        }
        Ok(Self {
            single_member_process: (alone == 1).then_some(processes),
            numbers,
            dropped,
        })
    }

    pub(crate) fn members_max(&self) -> usize {
        self.numbers
            .iter()
            .map(Range::len)
            .max()
            .unwrap_or_default()
    }

    pub(crate) fn killed(&self) -> usize {
        self.dropped.concat().len() + usize::from(self.single_member_process.is_some())
    }

    pub(crate) fn nodes(&self) -> usize {
        self.numbers.iter().map(Range::len).sum()
    }
}

/// Members that all others are told of.
pub(crate) const SEEDS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_has_one_process_and_no_seed_is_killed() {
        for (nodes, processes, kill) in [
            (1_000, 4, 10),
            (100, 4, 3),
            (13, 3, 3),
            (50, 1, 16),
            (12, 4, 0),
        ] {
            let placement = Placement::new(nodes, processes, kill).unwrap();
            let all: Vec<_> = placement.numbers.iter().cloned().flatten().collect();
            assert_eq!(all, (0..nodes).collect::<Vec<_>>());
            assert_eq!(placement.nodes(), nodes);
            let dropped: Vec<_> = placement.dropped.concat();
            assert_eq!(placement.killed(), kill);
            assert!(dropped.iter().all(|number| *number >= SEEDS), "{dropped:?}");
            for (numbers, dropped) in placement.numbers.iter().zip(&placement.dropped) {
                assert!(dropped.iter().all(|number| numbers.contains(number)));
                assert!(dropped.len() < numbers.len());
            }
        }
    }

    #[test]
    fn too_few_members_are_refused() {
        assert!(Placement::new(10, 4, 1).is_err());
        assert!(Placement::new(12, 3, 3).is_err());
        assert!(Placement::new(30, 4, 11).is_err());
        assert!(Placement::new(30, 4, 10).is_ok());
    }
}
