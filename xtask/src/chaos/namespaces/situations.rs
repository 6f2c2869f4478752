//! Situations: faults between hosts, and the checks of their effects.

use std::{net::Ipv4Addr, ops::RangeInclusive, time::Duration};

use rustix::process::Signal;

use super::{
    HOSTS,
    faults::{Direction, Fault},
};
use crate::chaos::named::Named;

/// Fault between hosts and what must hold meanwhile and afterwards.
#[derive(Debug, Clone)]
pub(crate) struct Situation {
    /// Name on the command line.
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// Names that the hosts know.
    pub(crate) names: Names,
    pub(crate) steps: &'static [Step],
}

/// Names in the `/etc/hosts` of each host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Those of all hosts.
    Usual,
    /// Those of all hosts, and its own is 127.0.1.1.
    OwnLoopback,
    /// Those of all hosts, and one that stands for these, for a moment each, over and over.
    Rotating(&'static [[usize; 3]]),
}

/// Start of nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch {
    pub(crate) seeds: Seeds,
    /// Large tags make the record of a member large.
    pub(crate) large_tags: bool,
    /// Its wall clock is behind by this.
    pub(crate) clock_back: Duration,
}

/// Seeds of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seeds {
    /// Addresses: the first node begins the cluster, two are seeds.
    Usual,
    /// The node itself, a name that does not resolve, one that rotates, and the first node.
    Wrong,
    /// Names of the first node and of the client.
    Names,
}

/// Step of a situation: what is done, or what must hold.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Starts the first of these nodes, then the others at once; all must see each other.
    Start(RangeInclusive<usize>, Launch),
    /// Starts these nodes at once, and waits until they have started.
    Launch(RangeInclusive<usize>, Launch),
    /// No start has waited for a seed that does not answer.
    StartsAreQuick,
    /// Has calls flow, and a moment of calm pass.
    Load,
    /// Sets a fault of the network.
    Network(Fault),
    /// Narrows the interfaces of these hosts.
    Mtu(&'static [usize], u16),
    /// Changes the address of a host.
    Readdress(usize, Ipv4Addr),
    /// Sends a signal to the process of a host.
    Signal(usize, Signal),
    /// Kills the process of a host.
    Kill(usize),
    /// Marks the begin of the fault, from which on notices are evaluated.
    BeginFault,
    /// Lets time pass.
    Wait(Pause),
    /// Lets time pass, counted from the begin of the fault.
    WaitSinceFault(Pause),
    /// Ends the faults of the network; from now on the cluster can recover.
    EndFault,
    /// Marks the time from which on the cluster can recover.
    BeginRecovery,
    /// These hosts may be held failed.
    MayFail(&'static [usize]),
    /// These hosts may hold others failed.
    MayReportFailures(&'static [usize]),
    /// The others hold these hosts failed soon; they are expected to.
    AreFailed(&'static [usize]),
    /// The others hold these hosts failed now: no flip between suspect and recovered.
    StayFailed(&'static [usize]),
    /// These hosts refuse to serve under `keep_majority` soon.
    Refuse(&'static [usize]),
    /// The others have not refused since the fault began.
    OthersServed(&'static [usize]),
    /// All hosts serve under `keep_majority`.
    AllServe,
    /// All views are whole again within this time, and then every worker answers calls.
    Recover(Duration),
    /// Prints how many packets the network has dropped.
    PrintDropped,
    /// The clock of this host is behind.
    ClockIsBehind(usize, Duration),
    /// The first node alone has sent few datagrams.
    IsCalmAlone,
    /// A cluster without news sends few datagrams, for this time.
    IsCalm(Pause),
}

/// Seconds that pass, and those of the quick form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pause {
    pub(crate) seconds: u64,
    pub(crate) quick_seconds: u64,
}

impl Named for Situation {
    const ALL: &'static [Self] = SITUATIONS;

    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }
}

const fn seconds(seconds: u64, quick_seconds: u64) -> Pause {
    Pause {
        seconds,
        quick_seconds,
    }
}

/// All packets in this direction are lost.
const fn one_way(direction: Direction) -> Step {
    Step::Network(Fault::Loss {
        host: VICTIM,
        percent: 100,
        direction,
    })
}

const USUAL: Launch = Launch {
    seeds: Seeds::Usual,
    large_tags: false,
    clock_back: Duration::ZERO,
};
const LARGE_TAGS: Launch = Launch {
    large_tags: true,
    ..USUAL
};
const CLOCK_BACK: Launch = Launch {
    clock_back: Duration::from_secs(30 * 60),
    ..USUAL
};
const WRONG_SEEDS: Launch = Launch {
    seeds: Seeds::Wrong,
    ..USUAL
};
const SEED_NAMES: Launch = Launch {
    seeds: Seeds::Names,
    ..USUAL
};

/// All situations, in the order in which they run.
const SITUATIONS: &[Situation] = &[
    Situation {
        name: "loss",
        description: "20 % of the packets of one host are lost",
        names: Names::Usual,
        steps: &[
            Step::Start(1..=HOSTS, USUAL),
            Step::Load,
            Step::Network(Fault::Loss {
                host: VICTIM,
                percent: 20,
                direction: Direction::Both,
            }),
            Step::BeginFault,
            Step::Wait(seconds(60, 8)),
            Step::EndFault,
            Step::Recover(RECOVERED_WITHIN),
        ],
    },
    Situation {
        name: "loss-inbound",
        description: "all packets to one host are lost",
        names: Names::Usual,
        steps: &[
            Step::Start(1..=HOSTS, USUAL),
            Step::Load,
            one_way(Direction::Inbound),
            Step::BeginFault,
            Step::AreFailed(&[VICTIM]),
            Step::Wait(seconds(20, 3)),
            Step::StayFailed(&[VICTIM]),
            Step::EndFault,
            Step::Recover(RECOVERED_WITHIN),
        ],
    },
    Situation {
        name: "loss-outbound",
        description: "all packets from one host are lost",
        names: Names::Usual,
        steps: &[
            Step::Start(1..=HOSTS, USUAL),
            Step::Load,
            one_way(Direction::Outbound),
            Step::BeginFault,
            Step::AreFailed(&[VICTIM]),
            Step::Wait(seconds(20, 3)),
            Step::StayFailed(&[VICTIM]),
            Step::EndFault,
            Step::Recover(RECOVERED_WITHIN),
        ],
    },
    Situation {
        name: "cut",
        description: "two hosts are cut off from the others",
        names: Names::Usual,
        steps: &[
            Step::Start(1..=HOSTS, USUAL),
            Step::Load,
            Step::Network(Fault::Cut { side: SMALL_SIDE }),
            Step::BeginFault,
            Step::Refuse(SMALL_SIDE),
            Step::AreFailed(SMALL_SIDE),
            Step::Wait(seconds(15, 2)),
            Step::OthersServed(SMALL_SIDE),
            // The small side may hold the others failed, as it cannot reach them.
            Step::MayReportFailures(SMALL_SIDE),
            Step::EndFault,
            Step::Recover(RECOVERED_WITHIN),
            Step::AllServe,
        ],
    },
    Situation {
        name: "mtu",
        description: "three hosts behind a path of 1,280 bytes join late",
        names: Names::Usual,
        steps: &[
            Step::Start(1..=HOSTS - LATE.len(), LARGE_TAGS),
            Step::Mtu(LATE, SMALL_MTU),
            Step::Network(Fault::Mtu {
                hosts: LATE,
                bytes: SMALL_MTU,
            }),
            Step::Load,
            Step::BeginFault,
            Step::Launch(HOSTS - LATE.len() + 1..=HOSTS, LARGE_TAGS),
            Step::BeginRecovery,
            Step::Recover(Duration::from_secs(3)),
            Step::PrintDropped,
        ],
    },
    Situation {
        name: "address",
        description: "the address of a host changes",
        names: Names::Usual,
        steps: &[
            Step::Start(1..=HOSTS, USUAL),
            Step::Load,
            Step::Readdress(VICTIM, Ipv4Addr::new(10, 77, 0, 200)),
            // It may be held failed meanwhile.
            Step::MayFail(&[VICTIM]),
            Step::BeginRecovery,
            Step::Recover(Duration::from_secs(30)),
        ],
    },
    Situation {
        name: "freeze",
        description: "a process is stopped for a while",
        names: Names::Usual,
        steps: &[
            Step::Start(1..=HOSTS, USUAL),
            Step::Load,
            Step::Signal(VICTIM, Signal::STOP),
            Step::BeginFault,
            Step::AreFailed(&[VICTIM]),
            Step::WaitSinceFault(seconds(30, 12)),
            Step::Signal(VICTIM, Signal::CONT),
            Step::BeginRecovery,
            Step::Recover(RECOVERED_WITHIN),
        ],
    },
    Situation {
        name: "clock",
        description: "a process is restarted with a clock half an hour behind",
        names: Names::Usual,
        steps: &[
            Step::Start(1..=HOSTS, USUAL),
            Step::Load,
            Step::Kill(VICTIM),
            Step::BeginFault,
            Step::MayFail(&[VICTIM]),
            Step::Launch(VICTIM..=VICTIM, CLOCK_BACK),
            Step::BeginRecovery,
            Step::Recover(Duration::from_secs(20)),
            Step::ClockIsBehind(VICTIM, CLOCK_BACK.clock_back),
        ],
    },
    Situation {
        name: "seeds",
        description: "seeds name the node itself, a name that does not resolve, and one that rotates",
        names: Names::Rotating(&[[1, 3, 4], [3, 4, 1], [4, 1, 3], [6, 7, 8]]),
        steps: &[
            Step::Launch(1..=1, WRONG_SEEDS),
            // It goes on looking for the others.
            Step::Wait(seconds(10, 3)),
            Step::IsCalmAlone,
            Step::Start(2..=HOSTS, WRONG_SEEDS),
            Step::StartsAreQuick,
            Step::Load,
            Step::BeginFault,
            Step::IsCalm(seconds(15, 4)),
            Step::BeginRecovery,
            Step::Recover(RECOVERED_WITHIN),
        ],
    },
    Situation {
        name: "names",
        description: "each host's own name is 127.0.1.1, and seeds are names",
        names: Names::OwnLoopback,
        steps: &[
            Step::Start(1..=HOSTS, SEED_NAMES),
            Step::StartsAreQuick,
            Step::Load,
            Step::BeginFault,
            Step::BeginRecovery,
            Step::Recover(RECOVERED_WITHIN),
        ],
    },
];

/// The host that something happens to, if it is one; no seed, and not the client.
const VICTIM: usize = 5;
/// Hosts that are no majority.
const SMALL_SIDE: &[usize] = &[HOSTS - 1, HOSTS];
/// Hosts that join late.
const LATE: &[usize] = &[HOSTS - 2, HOSTS - 1, HOSTS];
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);
/// The least that IPv6 asks for; what many tunnels have.
const SMALL_MTU: u16 = 1_280;
