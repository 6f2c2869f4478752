//! Scale: growth of each cost with the number of members.

use std::time::Duration;

use rpcnet_swim::MemberState;
use rpcnet_swim_sim::TransitionLog;
use xtask_report::Chart;

use crate::{
    check::Check,
    cluster_setup::{SafetyViolation, check_safety, secs, settled_cluster, wait_until_known},
    detector::Cluster,
    experiment::Cell,
    fault_impact::ImpactMeter,
    measure::{Measure, Sample},
    options::Extent,
    render::{chart_over_nodes, table},
    row::Column,
    scenario::{Case, Scenario, Trial},
};

/// Steady state for a while, then a crash, then a join.
pub(crate) static SCALE: Scenario = Scenario {
    name: "scale",
    help: "Growth of each cost with the number of members",
    title: "growth of each cost with the number of members",
    detectors: &["lifeguard-a5", "rpcnet"],
    seeds: (2, 5),
    cases,
    table: |cells| table(&COLUMNS, cells),
    checks,
    figure,
};

static MEASURES: [Measure; 4] = [
    Measure::median("sent_per_node_s"),
    Measure::median("sent_bytes_per_node_s"),
    Measure::median("crash_all_know_p50_s"),
    Measure::median("join_all_know_p50_s"),
];

static COLUMNS: [Column; 4] = [
    Column::new("msg/s", "sent_per_node_s"),
    Column::new("B/s a node", "sent_bytes_per_node_s"),
    Column::new("crash known s", "crash_all_know_p50_s"),
    Column::new("newcomer known s", "join_all_know_p50_s"),
];

fn cases(extent: Extent) -> Vec<Case> {
    let sizes: &[usize] = extent.pick(
        &[10, 32, 100, 320],
        &[10, 32, 100, 320, 1_000, 3_200, 10_000],
    );
    // Of the steady state: long enough that each member has synchronized.
    let seconds = extent.pick(90, 300);
    let case = |nodes: &usize| {
        let run = move |trial: &Trial<'_>| run(trial, seconds);
        Case::new(*nodes, format!("{nodes} nodes"), &MEASURES, run)
            .with_seconds(50.0 + seconds as f64)
            .with_seeds_max(match nodes {
                ..=1_000 => u64::MAX,
                1_001..=5_000 => 2,
                _ => 1,
            })
            .with_field("seconds", seconds)
    };
    sizes.iter().map(case).collect()
}

fn run(trial: &Trial<'_>, seconds: u64) -> Result<Sample, SafetyViolation> {
    let mut cluster = settled_cluster(trial)?;
    let nodes = cluster.len();
    let meter = ImpactMeter::new(&cluster);
    cluster.run_for(secs(seconds));
    let impact = meter.read(&cluster, &vec![false; nodes]);
    let per_node = |name| impact.values(name)[0] / nodes as f64 / seconds as f64;
    cluster.log_transitions(TransitionLog::All);
    let victim = trial.rng().usize(..nodes);
    cluster.crash(victim);
    let crash_known_s = all_know(&mut cluster, victim, MemberState::Failed);
    let at = cluster.addr((victim + 1) % nodes);
    let newcomer = cluster.add("newcomer", trial.config(), vec![at]);
    let join_known_s = all_know(&mut cluster, newcomer, MemberState::Alive);
    check_safety(&cluster)?;
    Ok(Sample::default()
        .with("sent_per_node_s", per_node("messages"))
        .with("sent_bytes_per_node_s", per_node("bytes"))
        .with("crash_all_know_p50_s", crash_known_s)
        .with("join_all_know_p50_s", join_known_s))
}

/// Bytes of a node grow no faster than the logarithm of the number of members.
fn checks(cells: &[Cell]) -> Vec<Check> {
    let nodes = |cell: &Cell| cell.number("nodes").unwrap_or_default();
    let mut ours = cells
        .iter()
        .filter(|cell| cell.is_ours() && nodes(cell) >= 100.0);
    let (Some(small), Some(large)) = (ours.next(), ours.next_back()) else {
        return Vec::new();
    };
    let (few, many) = (nodes(small), nodes(large));
    let bytes = |cell: &Cell| cell.number("sent_bytes_per_node_s");
    let growth = bytes(large).zip(bytes(small)).map(|(l, s)| l / s);
    let what = format!("bytes of a node from {few} to {many} nodes");
    vec![Check::new(what, growth, many.ln() / few.ln(), "times")]
}

fn figure(_: &str, cells: &[Cell]) -> String {
    let chart = |title, y, field| chart_over_nodes(title, y, field, cells);
    Chart::draw_all(
        "How each cost grows with the number of members",
        &[
            chart(
                "steady state",
                "bytes sent, a node and second",
                "sent_bytes_per_node_s",
            ),
            chart("one crashes", "s until all know", "crash_all_know_p50_s"),
            chart("one joins", "s until all know", "join_all_know_p50_s"),
        ],
    )
}

/// Seconds until all others believe this of a member, from now on.
fn all_know(cluster: &mut Cluster, subject: usize, to: MemberState) -> f64 {
    let interval = Duration::from_millis(500);
    wait_until_known(cluster, &[subject], to, interval, SPREAD_TIMEOUT)[0].1
}

/// Longest wait until all members know.
const SPREAD_TIMEOUT: Duration = secs(120);
