//! Fault scenarios: flapping, half-blocked sockets, loss on links or of what comes in, slow and
//! stalled processes. Some members, or the network of all, have a fault that ends.

use std::time::Duration;

use rpcnet_swim::MemberState;
use rpcnet_swim_sim::{Link, OpenDirection};
use xtask_report::draw_bars;

use crate::{
    cluster_setup::{
        SafetyViolation, check_safety, choose_faulty, secs, settled_cluster, wait_for_recovery,
    },
    detector::Cluster,
    experiment::Cell,
    fault_impact::ImpactMeter,
    measure::{Aggregate, Measure, Sample},
    render::{panels_by_case, table},
    row::Column,
    scenario::{Case, Scenario, Trial},
};

/// 1 % of the members lose all that comes in for 20 s, then nothing for 20 s (Suresh et al. 2018,
/// Rapid, section 7). They should be held failed and stay so, and no healthy member should be.
pub(crate) static FLIPFLOP: Scenario = Scenario {
    name: "flipflop",
    help: "Flapping members: they receive nothing for 20 s, then everything for 20 s, and so on",
    title: "members receive nothing for 20 s, then everything for 20 s, and so on",
    cases: |extent| {
        let seconds = extent.pick(160, 600);
        let case = |faulty: &usize| {
            let label = format!("{faulty} of {NODES} for {seconds} s");
            let inject = move |cluster: &mut Cluster, faulty: &[usize]| {
                for loss in (0..seconds / 40).flat_map(|_| [1.0, 0.0]) {
                    lose_ingress(cluster, faulty, loss);
                    cluster.run_for(secs(20));
                }
            };
            fault(label, *faulty, seconds as f64, inject)
                .with_field("faulty", *faulty)
                .with_field("receiving_nothing_s", 20)
                .with_field("receiving_all_s", 20)
                .with_field("seconds", seconds)
        };
        let all: &[_] = extent.pick(&[2], &[2, 12]);
        all.iter().map(case).map(with_few_transitions).collect()
    },
    figure: |title, cells| figure(title, cells, [FALSE_FAILURES, TRANSITIONS]),
    ..FAULT
};

/// Members that can send and not receive, or the reverse. They should be held failed, and no
/// healthy member should be.
pub(crate) static HALF_BLOCKED: Scenario = Scenario {
    name: "half-blocked",
    help: "Half-blocked sockets: one direction hangs",
    title: "half-blocked sockets: one direction hangs",
    cases: |extent| {
        let seconds = extent.pick(60, 150);
        let case = |(faulty, direction): (usize, &'static str)| {
            let label = format!("{faulty} of {NODES} can only {direction}");
            let open = match direction {
                "send" => OpenDirection::SendOnly,
                _ => OpenDirection::ReceiveOnly,
            };
            let inject = move |cluster: &mut Cluster, faulty: &[usize]| {
                faulty
                    .iter()
                    .for_each(|node| cluster.half_block(*node, open));
                cluster.run_for(secs(seconds));
            };
            fault(label, faulty, seconds as f64, inject)
                .with_field("half_blocked", faulty)
                .with_field("direction_left", direction)
                .with_field("seconds", seconds)
        };
        let counts: &[_] = extent.pick(&[4], &[4, 32]);
        let both = |count: &usize| ["send", "receive"].map(|direction| (*count, direction));
        counts.iter().flat_map(both).map(case).collect()
    },
    figure: |title, cells| figure(title, cells, [FALSE_FAILURES, TRANSITIONS]),
    ..FAULT
};

/// Loss on every link. No member is faulty: each that is held failed is so wrongly.
pub(crate) static LOSS: Scenario = Scenario {
    name: "loss",
    help: "Loss on every link",
    title: "loss on every link",
    cases: |extent| {
        let seconds = extent.pick(60, 300);
        let case = |percent: &f64| {
            let (label, share) = (format!("{percent} % lost"), percent / 100.0);
            let inject = move |cluster: &mut Cluster, _: &[usize]| {
                cluster.network().default = Link::lan().with_loss(share);
                cluster.run_for(secs(seconds));
            };
            let case = fault(label, 0, seconds as f64 * (1.0 + percent / 5.0), inject)
                .with_field("loss_percent", *percent)
                .with_field("seconds", seconds);
            match *percent == 30.0 {
                true => case.with_target("bytes sent a node", 10.0, "KB/s", |row| {
                    Some(row.number("sent_bytes_per_node_s")? / 1e3)
                }),
                false => case,
            }
        };
        let all: &[_] = extent.pick(&[10.0, 30.0], &[10.0, 30.0, 50.0]);
        all.iter().map(case).collect()
    },
    ..FAULT
};

/// 1 % of the members lose 80 % of what comes in, and can send (Suresh et al. 2018, Rapid,
/// section 7).
pub(crate) static ONE_WAY: Scenario = Scenario {
    name: "one-way",
    help: "Inbound loss: some members lose most of what they are sent",
    title: "members lose most of what they are sent",
    cases: |extent| {
        let seconds = extent.pick(160, 600);
        let case = |percent: &f64| {
            let label = format!("2 of {NODES} lose {percent} % for {seconds} s");
            let share = percent / 100.0;
            let inject = move |cluster: &mut Cluster, faulty: &[usize]| {
                lose_ingress(cluster, faulty, share);
                cluster.run_for(secs(seconds));
            };
            fault(label, 2, seconds as f64, inject)
                .with_field("faulty", 2)
                .with_field("ingress_loss_percent", *percent)
                .with_field("seconds", seconds)
        };
        let all: &[_] = extent.pick(&[80.0], &[50.0, 80.0, 95.0, 100.0]);
        all.iter().map(case).map(with_few_transitions).collect()
    },
    figure: |title, cells| figure(title, cells, [FALSE_FAILURES, TRANSITIONS]),
    ..FAULT
};

/// Slow processes: each message takes time, as on an overloaded machine. Their queues grow
/// until what they receive is long past: then they must not hold the others failed.
pub(crate) static SLOW: Scenario = Scenario {
    name: "slow",
    help: "Slow processes: each message takes time",
    title: "slow processes: each message takes time",
    cases: |extent| {
        let seconds = extent.pick(60, 150);
        let case = |(slow, ms): &(usize, u64)| {
            let label = format!("{slow} of {NODES} at {ms} ms a message");
            let per_message = Duration::from_millis(*ms);
            let inject = move |cluster: &mut Cluster, slow: &[usize]| {
                slow.iter()
                    .for_each(|node| cluster.slow(*node, per_message));
                cluster.run_for(secs(seconds));
            };
            fault(label, *slow, seconds as f64, inject)
                .with_field("slow", *slow)
                .with_field("per_message_ms", *ms)
                .with_field("seconds", seconds)
        };
        let all: &[_] = extent.pick(&[(8, 250)], &[(8, 25), (8, 100), (8, 250), (32, 250)]);
        all.iter().map(case).collect()
    },
    ..FAULT
};

/// Processes that stop for a while, as in a pause for garbage or on a busy machine. Stalled members
/// may be held failed meanwhile; when they go on they must not hold the others failed for what they
/// missed.
pub(crate) static STALL: Scenario = Scenario {
    name: "stall",
    help: "Stalled processes: they stop for a while",
    title: "stalled processes: they stop for a while",
    cases: |extent| {
        let case = |(stalled, stalled_s, percent): &(usize, u64, f64)| {
            let label = format!("{stalled} of {NODES} for {stalled_s} s, {percent} % lost");
            let (share, time) = (percent / 100.0, secs(*stalled_s));
            let seconds = (65.0 + *stalled_s as f64) * (1.0 + percent / 5.0);
            let inject = move |cluster: &mut Cluster, stalled: &[usize]| {
                cluster.network().default = Link::lan().with_loss(share);
                cluster.run_for(secs(5));
                stalled.iter().for_each(|node| cluster.stall(*node));
                cluster.run_for(time);
                stalled.iter().for_each(|node| cluster.resume(*node));
                // The consequences of the stall show now.
                cluster.run_for(secs(60));
            };
            fault(label, *stalled, seconds, inject)
                .with_field("stalled", *stalled)
                .with_field("stalled_s", *stalled_s)
                .with_field("loss_percent", *percent)
        };
        let all: &[_] = extent.pick(
            &[(16, 30, 20.0)],
            &[(16, 2, 0.0), (16, 30, 0.0), (16, 30, 20.0), (64, 30, 0.0)],
        );
        all.iter().map(case).collect()
    },
    ..FAULT
};

/// Base of the fault scenarios.
const FAULT: Scenario = Scenario {
    name: "",
    help: "",
    title: "",
    detectors: &["swim", "lifeguard-a5", "lifeguard-a2", "rpcnet"],
    seeds: (2, 5),
    cases: |_| Vec::new(),
    table: |cells| table(&COLUMNS, cells),
    checks: |_| Vec::new(),
    figure: |title, cells| figure(title, cells, [FALSE_FAILURES, SENT_BYTES]),
};

/// Members are healthy or faulty by what the scenario does to them.
static MEASURES: [Measure; 10] = [
    Measure::median("false_failed_healthy"),
    Measure::median("false_failed_healthy_at_healthy"),
    Measure::new(
        "false_failed_healthy_of_all_seeds",
        Aggregate::WholeSum,
        "false_failed_healthy",
    ),
    Measure::median("failed_faulty"),
    Measure::median("transitions_per_faulty"),
    Measure::median("suspicions"),
    Measure::median("sent_per_node_s"),
    Measure::median("sent_bytes_per_node_s"),
    // Views of faulty members, by healthy ones, that hold them failed when the fault ends.
    Measure::median("removed_percent"),
    // From the end of the fault until all views are right.
    Measure::median("recovered_p50_s"),
];

static COLUMNS: [Column; 9] = [
    Column::new("case", "case"),
    Column::new("healthy failed", "false_failed_healthy"),
    Column::new("at healthy", "false_failed_healthy_at_healthy"),
    Column::new("faulty failed", "failed_faulty"),
    Column::new("transitions", "transitions_per_faulty"),
    Column::new("removed %", "removed_percent"),
    Column::new("right after s", "recovered_p50_s"),
    Column::new("msg/s", "sent_per_node_s"),
    Column::new("B/s a node", "sent_bytes_per_node_s"),
];

/// Case of a fault of so many members. `inject` lets its time pass too; afterwards the network is
/// healed and the processes are resumed.
fn fault(
    label: String,
    faulty: usize,
    seconds: f64,
    inject: impl Fn(&mut Cluster, &[usize]) + Send + Sync + 'static,
) -> Case {
    Case::new(NODES, label, &MEASURES, move |trial| {
        run(trial, faulty, &inject)
    })
    .with_seconds(seconds)
    .with_target("healthy members held failed", 0.0, "", |row| {
        row.number("false_failed_healthy_of_all_seeds")
    })
}

/// The same with a bound of the transitions of a faulty member in a healthy view.
fn with_few_transitions(case: Case) -> Case {
    case.with_target("transitions of a faulty one", 3.0, "", |row| {
        row.number("transitions_per_faulty")
    })
}

fn run(
    trial: &Trial<'_>,
    faulty: usize,
    inject: &dyn Fn(&mut Cluster, &[usize]),
) -> Result<Sample, SafetyViolation> {
    let mut cluster = settled_cluster(trial)?;
    let (chosen, faulty) = choose_faulty(trial, faulty);
    let meter = ImpactMeter::new(&cluster);
    inject(&mut cluster, &chosen);
    check_safety(&cluster)?;
    let impact = meter.read(&cluster, &faulty);
    let removed_percent = 100.0 * removed_share(&cluster, &faulty);
    cluster.network().heal();
    cluster.network().default = Link::lan();
    chosen.iter().for_each(|node| cluster.resume(*node));
    let recovered_s = wait_for_recovery(&mut cluster, trial, RECOVERY_TIMEOUT)?;
    Ok(impact
        .with("removed_percent", removed_percent)
        .with("recovered_p50_s", recovered_s))
}

/// Makes members lose a share of what comes in.
fn lose_ingress(cluster: &mut Cluster, faulty: &[usize], share: f64) {
    for node in faulty {
        cluster.network().set_ingress_loss(*node, share);
    }
}

fn removed_share(cluster: &Cluster, faulty: &[bool]) -> f64 {
    let of = |is: bool| (0..faulty.len()).filter(move |node| faulty[*node] == is);
    let pairs = of(true).flat_map(|subject| of(false).map(move |observer| (observer, subject)));
    let is_removed = |(observer, subject): &(usize, usize)| {
        let view = cluster.view_of(*observer, *subject);
        view.is_none_or(|it| it.state == MemberState::Failed)
    };
    let removed = pairs.clone().filter(is_removed).count();
    removed as f64 / pairs.count().max(1) as f64
}

/// Field, with a title, in a panel for each case.
type FieldPanels = (&'static str, &'static str);

fn figure(title: &str, cells: &[Cell], fields: [FieldPanels; 2]) -> String {
    let panels = fields.map(|field| panels_by_case(cells, &[field]));
    draw_bars(title, &panels.concat())
}

const FALSE_FAILURES: FieldPanels = (
    "healthy members held failed, in all views (fewer is better)",
    "false_failed_healthy",
);
const SENT_BYTES: FieldPanels = (
    "bytes sent, a node and second (fewer is better)",
    "sent_bytes_per_node_s",
);
const TRANSITIONS: FieldPanels = (
    "failures and returns of a faulty member, in a healthy view (fewer is better)",
    "transitions_per_faulty",
);

/// Longest wait for the views to become right again.
const RECOVERY_TIMEOUT: Duration = secs(120);
/// Members of every cluster.
const NODES: usize = 128;
