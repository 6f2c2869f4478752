//! Restart: all members start again within a minute, under their names.

use std::time::Duration;

use crate::{
    cluster_setup::{SafetyViolation, secs, settled_cluster, wait_for_recovery},
    measure::{Aggregate, Measure, Sample},
    options::Extent,
    render::{chart_over_nodes, table},
    row::Column,
    scenario::{Case, Scenario, Trial},
};

/// Restart of all members, as when a new version is rolled out at once. Gossip about their former
/// lives must not keep the new ones out.
pub(crate) static RESTART: Scenario = Scenario {
    name: "restart",
    help: "Restart of all members within a minute, under their names",
    title: "all members start again within a minute, under their names",
    detectors: &["lifeguard-a5", "rpcnet"],
    seeds: (1, 3),
    cases,
    table: |cells| table(&COLUMNS, cells),
    checks: |_| Vec::new(),
    figure: |_, cells| {
        let y = "s from the last start until all are alive everywhere";
        chart_over_nodes(
            "All start again within a minute",
            y,
            "all_alive_p50_s",
            cells,
        )
        .draw()
    },
};

static MEASURES: [Measure; 4] = [
    // From the last start until all views are right.
    Measure::new("all_alive_p50_s", Aggregate::Median, "all_alive_s"),
    Measure::new("all_alive_max_s", Aggregate::Max, "all_alive_s"),
    // Members missing in a view, summed over the views, at the end of the wait.
    Measure::median("missing"),
    Measure::median("sent_bytes_per_node_s"),
];

static COLUMNS: [Column; 4] = [
    Column::new("all alive p50 s", "all_alive_p50_s"),
    Column::new("max s", "all_alive_max_s"),
    Column::new("missing", "missing"),
    Column::new("B/s a node", "sent_bytes_per_node_s"),
];

fn cases(extent: Extent) -> Vec<Case> {
    let sizes: &[usize] = extent.pick(&[128, 300], &[128, 1_000, 4_500]);
    let case = |nodes: &usize| {
        Case::new(*nodes, format!("{nodes} nodes"), &MEASURES, run)
            .with_seconds(100.0 + *nodes as f64)
            .with_seeds_max(if *nodes > 1_000 { 1 } else { u64::MAX })
            .with_field("within_s", WITHIN_S)
            .with_target("all alive everywhere", 60.0, "s", |row| {
                row.number("all_alive_p50_s")
            })
    };
    sizes.iter().map(case).collect()
}

fn run(trial: &Trial<'_>) -> Result<Sample, SafetyViolation> {
    let nodes = trial.nodes;
    let mut cluster = settled_cluster(trial)?;
    let mut rng = trial.rng();
    let start = |node| (rng.u64(..1_000 * WITHIN_S), node);
    let mut starts: Vec<(u64, usize)> = (0..nodes).map(start).collect();
    starts.sort_unstable();
    let (begin, before) = (cluster.now(), cluster.report().sent_bytes);
    for (at, node) in starts {
        let passed = cluster.now().since(begin);
        cluster.run_for(Duration::from_millis(at).saturating_sub(passed));
        cluster.restart(node);
    }
    let all_alive_s = wait_for_recovery(&mut cluster, trial, RECOVERY_TIMEOUT)?;
    let views = (0..nodes).filter_map(|node| cluster.engine(node));
    let missing: usize = views.map(|it| nodes.saturating_sub(it.live_count())).sum();
    let seconds = cluster.now().since(begin).as_secs_f64();
    let bytes = (cluster.report().sent_bytes - before) as f64;
    Ok(Sample::default()
        .with("all_alive_s", all_alive_s)
        .with("missing", missing as f64)
        .with("sent_bytes_per_node_s", bytes / nodes as f64 / seconds))
}

/// Time within which all start again.
const WITHIN_S: u64 = 60;
/// Longest wait for the views to become right.
const RECOVERY_TIMEOUT: Duration = secs(180);
