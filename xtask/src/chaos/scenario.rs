//! What goes wrong.

use clap::ValueEnum;

/// One kind of trouble.
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
}

/// Which calls may fail that are not idempotent. Those that are never may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayFail {
    /// None.
    None,
    /// Those that were with the worker that is in trouble; nobody knows whether they ran.
    WithTheVictim,
    /// So too, because its handler panicked, and few once that is known.
    InTheVictimsHandler,
}

impl Scenario {
    pub(crate) const ALL: [Self; 5] = [
        Self::Kill,
        Self::Stop,
        Self::Rolling,
        Self::Drain,
        Self::Panic,
    ];

    /// As on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("no scenario is hidden");
        value.get_name().to_owned()
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Kill => "a worker is killed",
            Self::Stop => "a worker is stopped for a while",
            Self::Rolling => "every worker in turn is asked to end, and started again",
            Self::Drain => "half of the workers drain, and come back",
            Self::Panic => "one worker's handlers always panic",
        }
    }

    pub(crate) fn may_fail(self) -> MayFail {
        match self {
            Self::Kill | Self::Stop => MayFail::WithTheVictim,
            Self::Rolling | Self::Drain => MayFail::None,
            Self::Panic => MayFail::InTheVictimsHandler,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_all() {
        assert_eq!(Scenario::ALL, Scenario::value_variants());
        assert_eq!(Scenario::Rolling.name(), "rolling");
    }
}
