//! What a run was like.

use std::time::Duration;

use super::check::SimFailure;

/// What happened in a run, and how it ended.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SimReport {
    /// What everything was drawn from.
    pub seed: u64,
    /// Nodes at the start.
    pub nodes: usize,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// From the end of the trouble until all views were equal to what was.
    pub converged_after: Option<Duration>,
    /// How long that was allowed to take.
    pub convergence_bound: Duration,
    /// Inputs to engines: datagrams and timeouts.
    pub steps: u64,
    /// Times that the checkers looked at a whole view.
    pub checks: u64,
    /// Changes of members in views that they looked at.
    pub changes_checked: u64,
    /// Failures declared of which they looked at the evidence.
    pub decisions_checked: u64,
    /// Most table look-ups and visited index entries that one datagram took.
    pub work_max: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes, with 28 of IPv4 and UDP headers each.
    pub sent_bytes: u64,
    /// Datagrams handed to an engine.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because they were larger than the path MTU.
    pub too_large: u64,
    /// Lost because too many waited for a process in a plight.
    pub overflowed: u64,
    /// Not delivered because of a cut or a partition.
    pub cut: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Delivered after one that was sent later on the same link.
    pub overtaken: u64,
    /// Nodes that crashed.
    pub crashes: u64,
    /// Nodes that started again under the same name.
    pub restarts: u64,
    /// Nodes that started at a former node's address under another name.
    pub renames: u64,
    /// Processes that were stopped for a while.
    pub stalls: u64,
    /// Nodes whose messages were withheld while their timers ran.
    pub blocks: u64,
    /// Nodes of which one direction was withheld while their timers ran.
    pub half_blocks: u64,
    /// Processes that took their time for each message.
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
    /// Members that came to be under suspicion, summed over all views.
    pub suspicions: u64,
    /// Members that came to be held failed, summed over all views.
    pub failures: u64,
    /// Those of them that were up, heard and heard others.
    pub false_failures: u64,
    /// Members that came back from suspicion or failure, summed over all views.
    pub recoveries: u64,
    /// Partitions that nodes reported.
    pub partitions_detected: u64,
    /// Names that two live nodes were reported to claim.
    pub name_conflicts: u64,
    /// Hash of every datagram and every event in their order: equal runs have equal ones.
    pub trace: u64,
    /// The first rule that was broken; the run ended with it.
    pub failure: Option<SimFailure>,
}

impl SimReport {
    /// # Panics
    /// If a rule was broken; says which one, and how to see it again.
    pub fn expect_ok(&self) -> &Self {
        if let Some(failure) = &self.failure {
            panic!("{}", failure.with_replay(self.seed));
        }
        self
    }
}
