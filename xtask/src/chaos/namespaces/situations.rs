//! Situations: faults between hosts, and the checks of their effects.

use std::{net::Ipv4Addr, ops::RangeInclusive, time::Duration};

use rustix::process::Signal;

use super::{
    HOSTS,
    faults::{Direction, Fault},
    hosts::HostNames,
    views::{Check, check},
};
use crate::chaos::named::Named;

/// Fault between hosts and what must hold meanwhile and afterwards. Between these steps all hosts
/// start that do not run yet, calls begin to flow, and, later, all views become whole again.
#[derive(Debug, Clone)]
pub(crate) struct Situation {
    /// Name on the command line.
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// Names that the hosts know.
    pub(crate) names: HostNames,
    /// How nodes are started.
    pub(crate) launch: Launch,
    /// Hosts behind a narrow path, which do not start with the others.
    pub(crate) late: &'static [usize],
    /// Steps before most hosts start.
    pub(crate) before: &'static [Step],
    /// Steps while calls flow.
    pub(crate) steps: &'static [Step],
    pub(crate) recovered_within: Duration,
    pub(crate) after: &'static [Step],
}

/// Start of nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch {
    pub(crate) seeds: Seeds,
    /// Large tags make the record of a member large.
    pub(crate) large_tags: bool,
    /// The wall clock of the process is behind by this.
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
    /// Starts nodes at once, and waits until they have started.
    Launch(RangeInclusive<usize>, Launch),
    /// No start has waited for a seed that does not answer.
    StartsAreQuick,
    /// Marks the begin of the fault, from which on notices are evaluated.
    BeginFault,
    Network(Fault),
    EndFault,
    /// Changes the address of a host.
    Readdress(usize, Ipv4Addr),
    /// Sends a signal to the process of a host.
    Signal(usize, Signal),
    /// Kills the process of a host.
    Kill(usize),
    /// Lets seconds pass, fewer in the quick form.
    Wait(u64, u64),
    /// Lets seconds pass, counted from the begin of the fault, fewer in the quick form.
    WaitSinceFault(u64, u64),
    /// These hosts may be held failed.
    MayFail(&'static [usize]),
    /// These hosts may hold others failed.
    MayReportFailures(&'static [usize]),
    /// The check passes within so many seconds; then the fault is detected.
    Detected(u64, Check),
    /// The check passes now, by what was told since the fault began.
    ExpectSinceFault(Check),
    /// The check passes now, by what was told just now.
    ExpectNow(Check),
    /// The check passes within so many seconds, by what is told since the fault ended.
    ExpectWithin(u64, Check),
    /// Prints how many packets the network has dropped.
    PrintDropped,
    /// The clock of a host is behind.
    ClockIsBehind(usize, Duration),
    /// The first node alone has sent few datagrams.
    IsCalmAlone,
    /// A cluster without news sends few datagrams, for so many seconds, fewer in the quick form.
    IsCalm(u64, u64),
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

/// Steps while all packets of a host are lost in one direction.
const fn one_way(direction: Direction) -> [Step; 6] {
    [
        Step::Network(Fault::Loss {
            host: FAULTY_HOST,
            percent: 100,
            direction,
        }),
        Step::BeginFault,
        FAULTY_HOST_FAILED,
        Step::Wait(20, 3),
        // No flip between suspect and recovered.
        Step::ExpectNow(check(
            "the host stays out while it is unreachable",
            &[FAULTY_HOST],
            |it| it.others_hold_failed(),
        )),
        Step::EndFault,
    ]
}

const FAULTY_HOST_FAILED: Step = Step::Detected(
    20,
    check("the others hold h05 failed", &[FAULTY_HOST], |it| {
        it.others_hold_failed()
    }),
);

/// A situation in which nothing happens.
const CALM: Situation = Situation {
    name: "",
    description: "",
    names: HostNames::Usual,
    launch: Launch {
        seeds: Seeds::Usual,
        large_tags: false,
        clock_back: Duration::ZERO,
    },
    late: &[],
    before: &[],
    steps: &[Step::BeginFault],
    recovered_within: Duration::from_secs(10),
    after: &[],
};

const CLOCK_BACK: Launch = Launch {
    clock_back: Duration::from_secs(30 * 60),
    ..CALM.launch
};
const LARGE_TAGS: Launch = Launch {
    large_tags: true,
    ..CALM.launch
};
const WRONG_SEEDS: Launch = Launch {
    seeds: Seeds::Wrong,
    ..CALM.launch
};

/// All situations, in the order in which they run.
const SITUATIONS: &[Situation] = &[
    Situation {
        name: "loss",
        description: "20 % of the packets of one host are lost",
        steps: &[
            Step::Network(Fault::Loss {
                host: FAULTY_HOST,
                percent: 20,
                direction: Direction::Both,
            }),
            Step::BeginFault,
            Step::Wait(60, 8),
            Step::EndFault,
        ],
        ..CALM
    },
    Situation {
        name: "loss-inbound",
        description: "all packets to one host are lost",
        steps: &one_way(Direction::Inbound),
        ..CALM
    },
    Situation {
        name: "loss-outbound",
        description: "all packets from one host are lost",
        steps: &one_way(Direction::Outbound),
        ..CALM
    },
    Situation {
        name: "cut",
        description: "two hosts are cut off from the others",
        steps: &[
            Step::Network(Fault::Cut { side: SMALL_SIDE }),
            Step::BeginFault,
            Step::Detected(
                15,
                check(
                    "the small side refuses under keep_majority",
                    SMALL_SIDE,
                    |it| it.refuse(),
                ),
            ),
            Step::Detected(
                20,
                check("the others hold h11 and h12 failed", SMALL_SIDE, |it| {
                    it.others_hold_failed()
                }),
            ),
            Step::Wait(15, 2),
            Step::ExpectSinceFault(check(
                "the large side serves all the time",
                SMALL_SIDE,
                |it| it.others_never_refused(),
            )),
            // The small side may hold the others failed, as it cannot reach them.
            Step::MayReportFailures(SMALL_SIDE),
            Step::EndFault,
        ],
        after: &[Step::ExpectWithin(
            10,
            check("all serve after the cut", &[], |it| it.others_serve()),
        )],
        ..CALM
    },
    Situation {
        name: "mtu",
        description: "three hosts behind a path of 1,280 bytes join late",
        launch: LARGE_TAGS,
        late: &[HOSTS - 2, HOSTS - 1, HOSTS],
        steps: &[
            Step::BeginFault,
            Step::Launch(HOSTS - 2..=HOSTS, LARGE_TAGS),
        ],
        recovered_within: Duration::from_secs(3),
        after: &[Step::PrintDropped],
        ..CALM
    },
    Situation {
        name: "address",
        description: "the address of a host changes",
        steps: &[
            Step::Readdress(FAULTY_HOST, Ipv4Addr::new(10, 77, 0, 200)),
            // It may be held failed meanwhile.
            Step::MayFail(&[FAULTY_HOST]),
        ],
        recovered_within: Duration::from_secs(30),
        ..CALM
    },
    Situation {
        name: "freeze",
        description: "a process is stopped for a while",
        steps: &[
            Step::Signal(FAULTY_HOST, Signal::STOP),
            Step::BeginFault,
            FAULTY_HOST_FAILED,
            Step::WaitSinceFault(30, 12),
            Step::Signal(FAULTY_HOST, Signal::CONT),
        ],
        ..CALM
    },
    Situation {
        name: "clock",
        description: "a process is restarted with a clock half an hour behind",
        steps: &[
            Step::Kill(FAULTY_HOST),
            Step::BeginFault,
            Step::MayFail(&[FAULTY_HOST]),
            Step::Launch(FAULTY_HOST..=FAULTY_HOST, CLOCK_BACK),
        ],
        recovered_within: Duration::from_secs(20),
        after: &[Step::ClockIsBehind(FAULTY_HOST, CLOCK_BACK.clock_back)],
        ..CALM
    },
    Situation {
        name: "seeds",
        description: "seeds name the node itself, a name that does not resolve, and one that rotates",
        names: HostNames::Rotating(&[[1, 3, 4], [3, 4, 1], [4, 1, 3], [6, 7, 8]]),
        launch: WRONG_SEEDS,
        // It goes on looking for the others.
        before: &[
            Step::Launch(1..=1, WRONG_SEEDS),
            Step::Wait(10, 3),
            Step::IsCalmAlone,
        ],
        steps: &[Step::StartsAreQuick, Step::BeginFault, Step::IsCalm(15, 4)],
        ..CALM
    },
    Situation {
        name: "names",
        description: "each host's own name is 127.0.1.1, and seeds are names",
        names: HostNames::OwnLoopback,
        launch: Launch {
            seeds: Seeds::Names,
            ..CALM.launch
        },
        steps: &[Step::StartsAreQuick, Step::BeginFault],
        ..CALM
    },
];

/// The host that something happens to, if it is one; no seed, and not the client.
const FAULTY_HOST: usize = 5;
/// Hosts that are no majority.
const SMALL_SIDE: &[usize] = &[HOSTS - 1, HOSTS];
