//! Bootstrap: time until views are full, for members that start at once or one by one under loss.

use std::{collections::BTreeSet, time::Duration};

use rpcnet_swim::Time;
use rpcnet_swim_sim::Link;
use xtask_report::{draw_bars_or, number};

use crate::{
    cluster_setup::{
        SafetyViolation, all_views_full, check_safety, limit_checks, secs, wait_for_recovery,
    },
    detector::Cluster,
    experiment::Cell,
    measure::{Aggregate, Measure, Sample},
    options::Extent,
    render::{chart_over_nodes, panel, table},
    row::Column,
    scenario::{Case, Scenario, Trial},
};

/// A seed, and 10 s later all others at once (Suresh et al. 2018, Rapid, section 7); or 17 one
/// by one while 10 % of all messages are lost (Das et al. 2002, SWIM, figure 4).
pub(crate) static BOOTSTRAP: Scenario = Scenario {
    name: "bootstrap",
    help: "Bootstrap of members that start at once, or one by one: time until views are full",
    title: "time from the last start until views are full",
    detectors: &["lifeguard-a5", "rpcnet"],
    seeds: (1, 5),
    cases,
    table: |cells| table(&COLUMNS, cells),
    checks: |_| Vec::new(),
    figure,
};

static MEASURES: [Measure; 5] = [
    // From the last start until all count all.
    Measure::new("full_views_p50_s", Aggregate::Median, "full_views_s"),
    Measure::new("full_views_max_s", Aggregate::Max, "full_views_s"),
    // The smallest number of members in a view at the end, of all runs.
    Measure::new("members_held", Aggregate::WholeMin, "members_held"),
    // Different sizes that members saw meanwhile, looked at every second.
    Measure::median("distinct_sizes"),
    Measure::median("sent_bytes_per_node"),
];

static COLUMNS: [Column; 6] = [
    Column::new("case", "case"),
    Column::new("full views p50 s", "full_views_p50_s"),
    Column::new("max s", "full_views_max_s"),
    Column::plain("held", "members_held"),
    Column::new("sizes seen", "distinct_sizes"),
    Column::with_text("KB a node", "sent_bytes_per_node", |it| number(it / 1e3)),
];

fn cases(extent: Extent) -> Vec<Case> {
    let sizes: &[usize] = extent.pick(&[128, 500], &[128, 500, 1_000, 2_000, LARGEST]);
    let at_once = |nodes: &usize| {
        let case = case(*nodes, format!("{nodes} at once"), 0.0, 0, 0)
            .with_seeds_max(match *nodes {
                ..=1_000 => u64::MAX,
                LARGEST => 1,
                _ => 3,
            })
            .with_target("full views", 15.0, "s", |row| {
                row.number("full_views_p50_s")
            });
        match *nodes {
            LARGEST => case.for_ours_alone(),
            _ => case,
        }
    };
    let label = "17 one by one, 10 % lost".to_owned();
    let missing = "missing in a view at the end";
    let one_by_one = case(17, label, 10.0, 5_000, 175).with_target(missing, 0.0, "", |row| {
        let missing = row.number("nodes")? - row.number("members_held")?;
        Some(missing.max(0.0))
    });
    sizes.iter().map(at_once).chain([one_by_one]).collect()
}

/// Members that start with this gap, and are watched for so many seconds from the first start on.
fn case(nodes: usize, label: String, loss_percent: f64, gap_ms: u64, seconds: u64) -> Case {
    let run = move |trial: &Trial<'_>| {
        let gap = Duration::from_millis(gap_ms);
        run(trial, loss_percent / 100.0, gap, secs(seconds))
    };
    Case::new(nodes, label, &MEASURES, run)
        // To join costs as much as to do nothing for long.
        .with_seconds(seconds as f64 + 20.0 + nodes as f64)
        .with_field("loss_percent", loss_percent)
        .with_field("gap_ms", gap_ms)
}

fn run(
    trial: &Trial<'_>,
    loss: f64,
    gap: Duration,
    watched: Duration,
) -> Result<Sample, SafetyViolation> {
    let mut cluster = Cluster::with_detector(trial.seed, trial.detector.clone());
    cluster.network().default = Link::lan().with_loss(loss);
    let seed = cluster.add("n0", trial.config(), Vec::new());
    cluster.run_for(secs(10));
    let seeds = vec![cluster.addr(seed)];
    let begin = cluster.now();
    for node in 1..trial.nodes {
        cluster.run_for(gap);
        cluster.add(format!("n{node}"), trial.config(), seeds.clone());
    }
    limit_checks(&mut cluster);
    let (full_views_s, distinct_sizes) = wait_for_full_views(&mut cluster);
    check_safety(&cluster)?;
    // Whether it stays so.
    let rest = (begin + watched).since(cluster.now()).max(secs(10));
    cluster.run_for(rest);
    let views = (0..trial.nodes).filter_map(|node| cluster.engine(node));
    let smallest_view = views.map(|it| it.live_count()).min().unwrap_or_default();
    let sample = Sample::default()
        .with("full_views_s", full_views_s)
        .with("members_held", smallest_view as f64)
        .with("distinct_sizes", distinct_sizes as f64)
        .with(
            "sent_bytes_per_node",
            cluster.report().sent_bytes as f64 / trial.nodes as f64,
        );
    cluster.network().default = Link::lan();
    wait_for_recovery(&mut cluster, trial, Duration::ZERO)?;
    Ok(sample)
}

fn figure(title: &str, cells: &[Cell]) -> String {
    let is_at_once = |cell: &&Cell| cell.number("gap_ms") == Some(0.0);
    if !cells.iter().any(|cell| is_at_once(&cell)) {
        let panel = panel("one by one".to_owned(), cells, "full_views_p50_s");
        return draw_bars_or(title, &[panel], "never");
    }
    chart_over_nodes(
        "All but a seed start at once",
        "s until views are full, median",
        "full_views_p50_s",
        cells.iter().filter(is_at_once),
    )
    .draw()
}

/// Lets time pass until all count all. The seconds that it took, or infinity, and how many
/// different sizes were seen.
fn wait_for_full_views(cluster: &mut Cluster) -> (f64, usize) {
    let begin: Time = cluster.now();
    let mut sizes = BTreeSet::new();
    let mut looks = 0;
    loop {
        if looks % 10 == 0 {
            let views = (0..cluster.len()).filter_map(|node| cluster.engine(node));
            sizes.extend(views.map(|engine| engine.live_count()));
        }
        let passed = cluster.now().since(begin);
        if all_views_full(cluster) {
            return (passed.as_secs_f64(), sizes.len());
        }
        if passed >= FULL_VIEWS_TIMEOUT || cluster.report().failure.is_some() {
            return (f64::INFINITY, sizes.len());
        }
        cluster.run_for(POLL_INTERVAL);
        looks += 1;
    }
}

/// Members of the largest cluster.
const LARGEST: usize = 10_000;
/// Interval at which views are read.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Longest wait for full views.
const FULL_VIEWS_TIMEOUT: Duration = secs(300);
