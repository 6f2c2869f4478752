//! Scenarios: faults of workers and attacks on them.

use clap::ValueEnum;

use super::{node::Role, protocol::WorkerBehaviour};

/// Kind of fault or attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A worker is killed (SIGKILL).
    Kill,
    /// A worker is stopped for ten seconds, or a third of the run (SIGSTOP, SIGCONT).
    Stop,
    /// Every worker in turn is asked to end (SIGTERM), drains, ends, and is started again.
    Rolling,
    /// Half of the workers drain at the same time, and come back later.
    Drain,
    /// One worker's handlers always panic.
    Panic,
    /// One worker is of an older version: it does not know one of the methods, and cannot read the
    /// requests of the other.
    Old,
    /// One worker takes a hundred times as long.
    Slow,
    /// Two processes with good certificates hold as much as they can of every worker: one does not
    /// take what it is sent, the other makes calls that take long.
    Greedy,
    /// A process with a good certificate breaks the rules of the protocol at every worker.
    Liar,
}

/// Failures that are allowed of calls that are not idempotent. Idempotent calls never fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedFailures {
    /// None.
    None,
    /// Calls in flight at the faulty worker, of which no caller can know whether they ran.
    AtVictim,
    /// Calls whose handler panicked at the faulty worker, and few once it is ejected.
    PanicAtVictim,
}

impl Scenario {
    pub(crate) const ALL: [Self; 9] = [
        Self::Kill,
        Self::Stop,
        Self::Rolling,
        Self::Drain,
        Self::Panic,
        Self::Old,
        Self::Slow,
        Self::Greedy,
        Self::Liar,
    ];

    /// Name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("no scenario is hidden");
        value.get_name().to_owned()
    }

    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Kill => "a worker is killed",
            Self::Stop => "a worker is stopped for a while",
            Self::Rolling => "every worker in turn is asked to end, and started again",
            Self::Drain => "half of the workers drain, and come back",
            Self::Panic => "one worker's handlers always panic",
            Self::Old => "one worker is of an older version, and rejects every call at once",
            Self::Slow => "one worker takes 100 times as long",
            Self::Greedy => "two members hold what they can of every worker",
            Self::Liar => "a member breaks the rules of the protocol at every worker",
        }
    }

    pub(crate) fn allowed_failures(self) -> AllowedFailures {
        match self {
            Self::Kill | Self::Stop => AllowedFailures::AtVictim,
            Self::Rolling | Self::Drain => AllowedFailures::None,
            Self::Panic => AllowedFailures::PanicAtVictim,
            // Refused before they ran, calls go elsewhere; slow is not failed; and what one peer
            // holds, or breaks of its own connections, is no reason to refuse another's calls.
            Self::Old | Self::Slow | Self::Greedy | Self::Liar => AllowedFailures::None,
        }
    }

    /// Behaviour of the first worker.
    pub(crate) const fn victim_behaviour(self) -> WorkerBehaviour {
        match self {
            Self::Panic => WorkerBehaviour::Panics,
            Self::Old => WorkerBehaviour::Old,
            Self::Slow => WorkerBehaviour::Slow,
            _ => WorkerBehaviour::Good,
        }
    }

    /// Attacker of the workers.
    pub(crate) const fn attacker(self) -> Option<Role> {
        match self {
            Self::Greedy => Some(Role::Greedy),
            Self::Liar => Some(Role::Liar),
            _ => None,
        }
    }

    /// Second attacker, from half a second after the load begins.
    pub(crate) const fn late_attacker(self) -> Option<Role> {
        match self {
            Self::Greedy => Some(Role::Keyed),
            _ => None,
        }
    }

    /// Whether the director's calls are to be answered about as fast as they are due.
    pub(crate) const fn keeps_rate(self) -> bool {
        matches!(self, Self::Old | Self::Slow | Self::Greedy | Self::Liar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_scenario() {
        assert_eq!(Scenario::ALL, Scenario::value_variants());
        assert_eq!(Scenario::Rolling.name(), "rolling");
    }
}
