//! Scenarios: faults of workers and attacks on them.

use super::{
    named::Named,
    node::Role,
    protocol::{ServiceVersion, WorkerBehaviour},
};

/// Fault or attack in a cluster of processes on this machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scenario {
    /// Name on the command line.
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// Steps, each at a share of the run's length.
    pub(crate) steps: &'static [(f64, Step)],
    /// Behaviour of the first worker, from the beginning to the last call.
    pub(crate) first_worker: WorkerBehaviour,
    /// Attacker of the workers, which begins before the load.
    pub(crate) attacker: Option<Role>,
    /// Second attacker, from half a second after the load begins.
    pub(crate) late_attacker: Option<Role>,
    pub(crate) allowed_failures: AllowedFailures,
    /// Upgrade of a typed service, which gateways of both versions call instead of the director.
    pub(crate) upgrade: Option<Upgrade>,
    /// Whether the director's calls are to be answered about as fast as they are due.
    pub(crate) keeps_rate: bool,
}

/// Step of a scenario: something that is done to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The first worker is killed (SIGKILL).
    Kill,
    /// The first worker is stopped for ten seconds, or a third of the run (SIGSTOP, SIGCONT).
    Stop,
    /// Every worker in turn is asked to end (SIGTERM), drains, ends, and is started again.
    RestartEach,
    /// The same, and each is started again as the second version of its service.
    UpgradeEach,
    /// Half of the workers drain at the same time.
    DrainHalf,
    /// They take calls again.
    ResumeHalf,
}

/// Failures that are allowed of calls that are not idempotent. Idempotent calls never fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedFailures {
    /// None.
    None,
    /// Calls in flight at the faulty worker, of which no caller can know whether they ran.
    AtFaultyNode,
    /// Calls whose handler panicked at the faulty worker, and few once it is ejected.
    PanicAtFaultyNode,
}

/// Whether the two versions of a service understand one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// They do. Gateways of both versions call from the beginning to the end.
    Compatible,
    /// They do not. The gateway of the second version begins when a worker is upgraded, and that of
    /// the first one ends before the last worker is.
    Incompatible,
}

impl Upgrade {
    /// The second version.
    pub(crate) fn next_version(self) -> ServiceVersion {
        match self {
            Self::Compatible => ServiceVersion::Compatible,
            Self::Incompatible => ServiceVersion::Incompatible,
        }
    }
}

impl Named for Scenario {
    const ALL: &'static [Self] = SCENARIOS;

    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }
}

/// A scenario in which nothing happens.
const CALM: Scenario = Scenario {
    name: "",
    description: "",
    steps: &[],
    first_worker: WorkerBehaviour::Good,
    attacker: None,
    late_attacker: None,
    allowed_failures: AllowedFailures::None,
    upgrade: None,
    keeps_rate: false,
};

/// All scenarios, in the order in which they run.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill",
        description: "a worker is killed",
        steps: &[(0.2, Step::Kill)],
        allowed_failures: AllowedFailures::AtFaultyNode,
        ..CALM
    },
    Scenario {
        name: "stop",
        description: "a worker is stopped for a while",
        steps: &[(0.2, Step::Stop)],
        allowed_failures: AllowedFailures::AtFaultyNode,
        ..CALM
    },
    Scenario {
        name: "rolling",
        description: "every worker in turn is asked to end, and started again",
        steps: &[(0.1, Step::RestartEach)],
        ..CALM
    },
    Scenario {
        name: "drain",
        description: "half of the workers drain, and come back",
        steps: &[(0.2, Step::DrainHalf), (0.6, Step::ResumeHalf)],
        ..CALM
    },
    Scenario {
        name: "panic",
        description: "one worker's handlers always panic",
        first_worker: WorkerBehaviour::Panics,
        allowed_failures: AllowedFailures::PanicAtFaultyNode,
        ..CALM
    },
    // Rejected before they ran, calls go elsewhere; slow is not failed; and what one peer holds, or
    // breaks of its own connections, is no reason to reject another's calls.
    Scenario {
        name: "old",
        description: "one worker is of an older version, and rejects every call at once",
        first_worker: WorkerBehaviour::Old,
        keeps_rate: true,
        ..CALM
    },
    Scenario {
        name: "slow",
        description: "one worker takes 100 times as long",
        first_worker: WorkerBehaviour::Slow,
        keeps_rate: true,
        ..CALM
    },
    // One does not take what it is sent, the other makes calls that take long.
    Scenario {
        name: "greedy",
        description: "two members hold what they can of every worker",
        attacker: Some(Role::Greedy),
        late_attacker: Some(Role::SlotHolder),
        keeps_rate: true,
        ..CALM
    },
    Scenario {
        name: "liar",
        description: "a member breaks the rules of the protocol at every worker",
        attacker: Some(Role::ProtocolViolator),
        keeps_rate: true,
        ..CALM
    },
    Scenario {
        name: "mixed-compatible",
        description: "all workers are upgraded to a second version that understands the first",
        steps: &[(0.1, Step::UpgradeEach)],
        upgrade: Some(Upgrade::Compatible),
        ..CALM
    },
    Scenario {
        name: "mixed-incompatible",
        description: "all workers are upgraded to a second version that does not understand it",
        steps: &[(0.1, Step::UpgradeEach)],
        upgrade: Some(Upgrade::Incompatible),
        ..CALM
    },
];
