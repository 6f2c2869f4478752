//! Report of a run: counters, convergence, and the first violation.

use std::time::Duration;

use super::check::SimFailure;

/// Report of a run.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SimReport {
    /// The seed that everything was drawn from.
    pub seed: u64,
    /// Nodes at the start.
    pub nodes: usize,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Time from the end of the faults until all views were equal to the ground truth.
    pub converged_after: Option<Duration>,
    /// Longest time that it was allowed to take.
    pub convergence_bound: Duration,
    /// Inputs to engines: datagrams and timeouts.
    pub steps: u64,
    /// Checks of a whole view.
    pub checks: u64,
    /// Changes of members in views that were checked.
    pub changes_checked: u64,
    /// Declared failures whose evidence was checked.
    pub decisions_checked: u64,
    /// Most table lookups and visited index entries that one datagram took.
    pub work_max: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Bytes of them, with 28 of IPv4 and UDP headers each.
    pub sent_bytes: u64,
    /// Datagrams handed to an engine.
    pub delivered: u64,
    /// Datagrams lost by chance.
    pub lost: u64,
    /// Datagrams lost because they were larger than the path MTU.
    pub too_large: u64,
    /// Datagrams lost because too many waited for a process with a fault.
    pub overflowed: u64,
    /// Datagrams not delivered because of a cut or a partition.
    pub cut: u64,
    /// Datagrams delivered twice.
    pub duplicated: u64,
    /// Datagrams delivered after one that was sent later on the same link.
    pub overtaken: u64,
    /// Nodes that crashed.
    pub crashes: u64,
    /// Nodes that started again under the same name.
    pub restarts: u64,
    /// Nodes that started at a former node's address under another name.
    pub renames: u64,
    /// Processes that were stopped for a while.
    pub stalls: u64,
    /// Nodes whose datagrams were withheld while their timers ran.
    pub blocks: u64,
    /// Nodes of which one direction was withheld while their timers ran.
    pub half_blocks: u64,
    /// Processes that took long for each datagram for a while.
    pub slow_nodes: u64,
    /// Nodes that left.
    pub leaves: u64,
    /// Partitions of the network.
    pub partitions: u64,
    /// Single directions that were cut.
    pub one_way_cuts: u64,
    /// Partitions of which one direction stayed open.
    pub one_way_partitions: u64,
    /// Nodes that had a loss of their own for a while.
    pub lossy_nodes: u64,
    /// Changes of tags.
    pub tag_changes: u64,
    /// Changes of draining.
    pub drains: u64,
    /// Members that became suspect, summed over all views.
    pub suspicions: u64,
    /// Members that became failed, summed over all views.
    pub failures: u64,
    /// Failed members that were up, heard and heard others.
    pub false_failures: u64,
    /// Members that came back from suspicion or failure, summed over all views.
    pub recoveries: u64,
    /// Partitions that nodes reported.
    pub partitions_detected: u64,
    /// Names that two live nodes were reported to claim.
    pub name_conflicts: u64,
    /// Hash of every datagram and every event in their order: equal runs have equal ones.
    pub trace: u64,
    /// The first invariant that was broken; the run ended with it.
    pub failure: Option<SimFailure>,
}

impl SimReport {
    /// # Panics
    /// If an invariant was broken; says which one, and how to replay the run.
    pub fn expect_ok(&self) -> &Self {
        if let Some(failure) = &self.failure {
            panic!("{}", failure.with_replay(self.seed));
        }
        self
    }
}
