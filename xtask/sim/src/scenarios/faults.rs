//! Fault scenarios: flapping, half-blocked sockets, loss on links or of what comes in, slow and
//! stalled processes.

use std::time::Duration;

use rpcnet_swim_sim::OpenDirection;

use crate::{
    check::Check,
    cluster_setup::secs,
    fault_scenario::{Case, FALSE_FAILURES, Fault, FaultScenario, NODES, SENT_BYTES, TRANSITIONS},
};

/// 1 % of the members lose all that comes in for 20 s, then nothing for 20 s (Suresh et al. 2018,
/// Rapid, section 7). They should be held failed and stay so, and no healthy member should be.
pub(crate) const FLIPFLOP: FaultScenario = FaultScenario {
    name: "flipflop",
    title: "members receive nothing for 20 s, then everything for 20 s, and so on",
    cases: |extent| {
        let seconds = extent.pick(160, 600);
        let case = |faulty: &usize| Case {
            fault: Fault::Flapping {
                deaf: secs(20),
                hearing: secs(20),
                cycles: seconds / 40,
            },
            faulty: *faulty,
            seconds: seconds as f64,
            label: format!("{faulty} of {NODES} for {seconds} s"),
            fields: vec![
                ("faulty", (*faulty).into()),
                ("deaf_s", 20.into()),
                ("hearing_s", 20.into()),
                ("seconds", seconds.into()),
            ],
        };
        let all: &[_] = extent.pick(&[2], &[2, 12]);
        all.iter().map(case).collect()
    },
    checks: |cell| vec![cell.no_false_failures(), cell.few_transitions(3.0)],
    panels: [FALSE_FAILURES, TRANSITIONS],
};

/// Members that can send and not receive, or the reverse. They should be held failed, and no
/// healthy member should be.
pub(crate) const HALF_BLOCKED: FaultScenario = FaultScenario {
    name: "half-blocked",
    title: "half-blocked sockets: one direction hangs",
    cases: |extent| {
        let seconds = extent.pick(60, 150);
        let case = |(faulty, direction): (usize, &'static str)| Case {
            fault: Fault::HalfBlocked {
                open: match direction {
                    "send" => OpenDirection::SendOnly,
                    _ => OpenDirection::ReceiveOnly,
                },
                time: secs(seconds),
            },
            faulty,
            seconds: seconds as f64,
            label: format!("{faulty} of {NODES} can only {direction}"),
            fields: vec![
                ("half_blocked", faulty.into()),
                ("direction_left", direction.into()),
                ("seconds", seconds.into()),
            ],
        };
        let counts: &[_] = extent.pick(&[4], &[4, 32]);
        let both = |count: &usize| ["send", "receive"].map(|direction| (*count, direction));
        counts.iter().flat_map(both).map(case).collect()
    },
    checks: |cell| vec![cell.no_false_failures()],
    panels: [FALSE_FAILURES, TRANSITIONS],
};

/// Loss on every link. No member is faulty: each that is held failed is so wrongly.
pub(crate) const LOSS: FaultScenario = FaultScenario {
    name: "loss",
    title: "loss on every link",
    cases: |extent| {
        let seconds: u64 = extent.pick(60, 300);
        let case = |percent: &f64| Case {
            fault: Fault::LinkLoss {
                share: percent / 100.0,
                time: secs(seconds),
            },
            faulty: 0,
            seconds: (seconds as f64) * (1.0 + percent / 5.0),
            label: format!("{percent} % lost"),
            fields: vec![
                ("loss_percent", (*percent).into()),
                ("seconds", seconds.into()),
            ],
        };
        let all: &[_] = extent.pick(&[10.0, 30.0], &[10.0, 30.0, 50.0]);
        all.iter().map(case).collect()
    },
    checks: |cell| {
        let mut checks = vec![cell.no_false_failures()];
        if matches!(cell.row.case.fault, Fault::LinkLoss { share: 0.3, .. }) {
            let bytes = cell.row.figures.impact.sent_bytes_per_node_s;
            let what = format!("{}: bytes sent a node", cell.row.case.label);
            checks.push(Check::new(what, bytes / 1e3, 10.0, "KB/s"));
        }
        checks
    },
    panels: [FALSE_FAILURES, SENT_BYTES],
};

/// 1 % of the members lose 80 % of what comes in, and can send (Suresh et al. 2018, Rapid,
/// section 7).
pub(crate) const ONE_WAY: FaultScenario = FaultScenario {
    name: "one-way",
    title: "members lose most of what they are sent",
    cases: |extent| {
        let seconds = extent.pick(160, 600);
        let case = |percent: &f64| Case {
            fault: Fault::IngressLoss {
                share: percent / 100.0,
                time: secs(seconds),
            },
            faulty: 2,
            seconds: seconds as f64,
            label: format!("2 of {NODES} lose {percent} % for {seconds} s"),
            fields: vec![
                ("faulty", 2.into()),
                ("ingress_loss_percent", (*percent).into()),
                ("seconds", seconds.into()),
            ],
        };
        let all: &[_] = extent.pick(&[80.0], &[50.0, 80.0, 95.0, 100.0]);
        all.iter().map(case).collect()
    },
    checks: |cell| vec![cell.no_false_failures(), cell.few_transitions(3.0)],
    panels: [FALSE_FAILURES, TRANSITIONS],
};

/// Slow processes: each message takes time, as on an overloaded machine. Their queues grow
/// until what they receive is long past: then they must not hold the others failed.
pub(crate) const SLOW: FaultScenario = FaultScenario {
    name: "slow",
    title: "slow processes: each message takes time",
    cases: |extent| {
        let seconds = extent.pick(60, 150);
        let case = |(slow, ms): &(usize, u64)| Case {
            fault: Fault::Slow {
                per_message: Duration::from_millis(*ms),
                time: secs(seconds),
            },
            faulty: *slow,
            seconds: seconds as f64,
            label: format!("{slow} of {NODES} at {ms} ms a message"),
            fields: vec![
                ("slow", (*slow).into()),
                ("per_message_ms", (*ms).into()),
                ("seconds", seconds.into()),
            ],
        };
        let all: &[_] = extent.pick(&[(8, 250)], &[(8, 25), (8, 100), (8, 250), (32, 250)]);
        all.iter().map(case).collect()
    },
    checks: |cell| vec![cell.no_false_failures()],
    panels: [FALSE_FAILURES, SENT_BYTES],
};

/// Processes that stop for a while, as in a pause for garbage or on a busy machine. Stalled members
/// may be held failed meanwhile; when they go on they must not hold the others failed for what they
/// missed.
pub(crate) const STALL: FaultScenario = FaultScenario {
    name: "stall",
    title: "stalled processes: they stop for a while",
    cases: |extent| {
        let case = |(stalled, stalled_s, percent): &(usize, u64, f64)| Case {
            fault: Fault::Stall {
                loss_share: percent / 100.0,
                time: secs(*stalled_s),
            },
            faulty: *stalled,
            seconds: (65.0 + *stalled_s as f64) * (1.0 + percent / 5.0),
            label: format!("{stalled} of {NODES} for {stalled_s} s, {percent} % lost"),
            fields: vec![
                ("stalled", (*stalled).into()),
                ("stalled_s", (*stalled_s).into()),
                ("loss_percent", (*percent).into()),
            ],
        };
        let all: &[_] = extent.pick(
            &[(16, 30, 20.0)],
            &[(16, 2, 0.0), (16, 30, 0.0), (16, 30, 20.0), (64, 30, 0.0)],
        );
        all.iter().map(case).collect()
    },
    checks: |cell| vec![cell.no_false_failures()],
    panels: [FALSE_FAILURES, SENT_BYTES],
};
