//! Churn: members crash and new ones join, all the time.

use std::time::Duration;

use rpcnet_swim::{MemberState, Time};
use rpcnet_swim_sim::TransitionLog;
use xtask_report::draw_bars_or;

use crate::{
    cluster_setup::{
        SafetyViolation, check_safety, first_transitions, secs, settled_cluster, wait_for_recovery,
    },
    detector::Cluster,
    measure::{Aggregate, Measure, Sample},
    options::Extent,
    render::{panels_by_case, table},
    row::Column,
    scenario::{Case, Scenario, Trial},
};

/// Churn: each member that crashes is replaced by one of another name at another address.
pub(crate) static CHURN: Scenario = Scenario {
    name: "churn",
    help: "Churn: members crash and new ones join, all the time",
    title: "members crash and new ones join, all the time",
    detectors: &["swim", "lifeguard-a5", "lifeguard-a2", "rpcnet"],
    seeds: (1, 5),
    cases,
    table: |cells| table(&COLUMNS, cells),
    checks: |_| Vec::new(),
    figure: |_, cells| {
        let fields = [
            (
                "s until all know of a crash, median",
                "crash_all_know_p50_s",
            ),
            (
                "s until all know of a newcomer, median",
                "join_all_know_p50_s",
            ),
        ];
        let panels = panels_by_case(cells, &fields);
        draw_bars_or("10 % of all members replaced a minute", &panels, "never")
    },
};

static MEASURES: [Measure; 7] = [
    Measure::new("crashes", Aggregate::Count, "crash_known_s"),
    Measure::new("crash_all_know_p50_s", Aggregate::Median, "crash_known_s"),
    Measure::new("crash_all_know_p99_s", Aggregate::P99, "crash_known_s"),
    Measure::new("join_all_know_p50_s", Aggregate::Median, "join_known_s"),
    Measure::new("join_all_know_p99_s", Aggregate::P99, "join_known_s"),
    // Failures held of members that were up, in all views of all runs.
    Measure::new("false_failed", Aggregate::WholeSum, "false_failed"),
    Measure::median("sent_bytes_per_node_s"),
];

static COLUMNS: [Column; 7] = [
    Column::plain("crashes", "crashes"),
    Column::new("known p50 s", "crash_all_know_p50_s"),
    Column::new("p99 s", "crash_all_know_p99_s"),
    Column::new("joined p50 s", "join_all_know_p50_s"),
    Column::new("p99 s", "join_all_know_p99_s"),
    Column::plain("false failed", "false_failed"),
    Column::new("B/s a node", "sent_bytes_per_node_s"),
];

fn cases(extent: Extent) -> Vec<Case> {
    let sizes: &[usize] = extent.pick(&[128], &[128, 512]);
    let seconds = extent.pick(120, 300);
    let case = |nodes: &usize| {
        let run = move |trial: &Trial<'_>| run(trial, seconds);
        Case::new(*nodes, format!("{nodes} nodes"), &MEASURES, run)
            .with_seconds(3.0 * seconds as f64)
            .with_field("replaced_percent_per_minute", REPLACED_PERCENT_PER_MINUTE)
            .with_field("seconds", seconds)
            .with_target("members up and held failed", 0.0, "", |row| {
                row.number("false_failed")
            })
    };
    sizes.iter().map(case).collect()
}

/// Join or crash of a member.
#[derive(Debug, Clone, Copy)]
struct MembershipChange {
    at: Time,
    node: usize,
    joined: bool,
}

fn run(trial: &Trial<'_>, seconds: u64) -> Result<Sample, SafetyViolation> {
    let mut rng = trial.rng();
    let mut cluster = settled_cluster(trial)?;
    cluster.log_transitions(TransitionLog::All);
    let replaced_per_s = trial.nodes as f64 * REPLACED_PERCENT_PER_MINUTE / 100.0 / 60.0;
    let gap = Duration::from_secs_f64(1.0 / replaced_per_s);
    let (begin, before) = (cluster.now(), cluster.report().sent_bytes);
    let mut changes = Vec::new();
    let mut up: Vec<usize> = (0..trial.nodes).collect();
    while cluster.now().since(begin) < secs(seconds) {
        let node = up.swap_remove(rng.usize(..up.len()));
        cluster.crash(node);
        changes.push(MembershipChange {
            at: cluster.now(),
            node,
            joined: false,
        });
        cluster.run_for(gap / 2);
        let seeds = rng.choose_multiple(up.iter().copied(), 3);
        let seeds = seeds.into_iter().map(|node| cluster.addr(node)).collect();
        let node = cluster.add(format!("n{}", cluster.len()), trial.config(), seeds);
        changes.push(MembershipChange {
            at: cluster.now(),
            node,
            joined: true,
        });
        up.push(node);
        cluster.run_for(gap / 2);
        check_safety(&cluster)?;
    }
    let seconds = cluster.now().since(begin).as_secs_f64();
    let bytes = (cluster.report().sent_bytes - before) as f64;
    // The last ones become known.
    cluster.run_for(SETTLE_TIME);
    wait_for_recovery(&mut cluster, trial, Duration::ZERO)?;
    Ok(Sample::default()
        .with_all("crash_known_s", spread_times(&cluster, &changes, false))
        .with_all("join_known_s", spread_times(&cluster, &changes, true))
        .with("false_failed", cluster.report().false_failures as f64)
        .with(
            "sent_bytes_per_node_s",
            bytes / trial.nodes as f64 / seconds,
        ))
}

/// Seconds until all members that stayed up knew, of each join or of each crash; infinite if not
/// all did by the end.
fn spread_times(cluster: &Cluster, changes: &[MembershipChange], came: bool) -> Vec<f64> {
    let state = match came {
        true => MemberState::Alive,
        false => MemberState::Failed,
    };
    let spread = |change: &MembershipChange| {
        let since = |other: &&MembershipChange| other.at > change.at && other.joined;
        let newer: Vec<usize> = changes.iter().filter(since).map(|it| it.node).collect();
        let observers = (0..cluster.len())
            .filter(|node| cluster.is_up(*node) && *node != change.node && !newer.contains(node));
        let learnt = first_transitions(cluster.transitions(), change.node, state, change.at);
        let learnt_by = |observer| {
            let found = learnt.iter().find(|(by, _)| *by == observer);
            found.map_or(f64::INFINITY, |(_, seconds)| *seconds)
        };
        observers.map(learnt_by).fold(0.0, f64::max)
    };
    // A member that went at once again need not be known.
    let is_due = |it: &&MembershipChange| it.joined == came && (!came || cluster.is_up(it.node));
    changes.iter().filter(is_due).map(spread).collect()
}

/// Time after the last change.
const SETTLE_TIME: Duration = secs(60);
/// Share of the members that are replaced.
const REPLACED_PERCENT_PER_MINUTE: f64 = 10.0;
