//! Rules of the contract, and their violations.

use std::fmt;

/// A rule that a balancer has to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContractRule {
    /// A picked index lies within the view of that pick, whatever views came before.
    InRange,
    /// A pick is `None` when the view is empty or everything in it is excluded or flagged.
    NothingToPick,
    /// A pick is `Some` as long as one endpoint is allowed, whatever its load or its reported load.
    AlwaysPicks,
    /// An excluded or flagged endpoint is not picked.
    Exclusion,
    /// Picks and outcomes do not change the count of calls in flight.
    InFlight,
    /// Among idle endpoints each gets a call within a reasonable number of calls.
    NoStarvation,
    /// Each of three idle endpoints of equal speed gets between a fifth and 47 % of consecutive
    /// calls, though their latencies differ by a fifth at random and their first replies by more.
    EvenShares,
}

/// Violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContractViolation {
    /// The rule.
    pub rule: ContractRule,
    /// The seed of the balancer.
    pub seed: u64,
    /// Description of the violation.
    pub detail: String,
}

impl fmt::Display for ContractViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rule {:?} broken with seed {}: {}",
            self.rule, self.seed, self.detail
        )
    }
}

impl std::error::Error for ContractViolation {}
