//! Partition: the network is divided, and heals.

use std::time::Duration;

use rpcnet_swim::PartitionStatus;
use xtask_report::draw_bars_or;

use super::split_brain;
use crate::{
    cluster_setup::{
        SEEDS, SafetyViolation, check_safety, secs, settled_cluster_without_seeds,
        wait_for_recovery,
    },
    detector::Cluster,
    measure::{Aggregate, Measure, Sample},
    options::Extent,
    render::{panels_by_case, table},
    row::Column,
    scenario::{Case, Scenario, Trial},
};

/// Partition that heals. All members should find each other again without their seeds, which are
/// gone. Meanwhile at most one side may serve, however small the other one is.
pub(crate) static PARTITION: Scenario = Scenario {
    name: "partition",
    help: "Partition of the network, which heals",
    title: "the network is divided, and heals",
    detectors: &["swim", "lifeguard-a5", "memberlist", "rpcnet"],
    seeds: (1, 5),
    cases,
    table: |cells| table(&COLUMNS, cells),
    checks: |_| Vec::new(),
    figure: |_, cells| {
        let title = "s from the end of a partition until views are full";
        draw_bars_or(
            title,
            &panels_by_case(cells, &[("", "healed_p50_s")]),
            "never",
        )
    },
};

static MEASURES: [Measure; 3] = [
    // Of the members cut off from half of all or more, those that report it at the end.
    Measure::median("detected_percent"),
    // From the healing until all views are right.
    Measure::new("healed_p50_s", Aggregate::Median, "healed_s"),
    Measure::new("healed_max_s", Aggregate::Max, "healed_s"),
];

static COLUMNS: [Column; 7] = [
    Column::new("case", "case"),
    Column::new("detected %", "detected_percent"),
    Column::new("healed p50 s", "healed_p50_s"),
    Column::new("max s", "healed_max_s").or("all_serve_max_s"),
    Column::new("both served p50 s", "both_served_p50_s"),
    Column::new("p99 s", "both_served_p99_s"),
    Column::new("wrongly refused %", "refused_percent"),
];

fn cases(extent: Extent) -> Vec<Case> {
    let lengths: &[(usize, u64)] = extent.pick(&[(64, 60)], &[(128, 60), (128, 600), (1_000, 60)]);
    let case = |nodes: usize, seconds: u64, shape: &'static str| {
        let label = format!("{shape} of {nodes} for {seconds} s");
        let run = move |trial: &Trial<'_>| run(trial, shape, seconds);
        Case::new(nodes, label, &MEASURES, run)
            .with_seconds(60.0 + seconds as f64)
            .with_seeds_max(if nodes >= 1_000 { 1 } else { u64::MAX })
            .with_field("shape", shape)
            .with_field("partitioned_s", seconds)
            .with_target("full views after it", 5.0, "s", |row| {
                row.number("healed_p50_s")
            })
    };
    let shapes = |(nodes, seconds): &(usize, u64)| SHAPES.map(|it| case(*nodes, *seconds, it));
    let sides = split_brain::cases(extent.pick(SPLIT_BRAIN_GRID_QUICK, SPLIT_BRAIN_GRID));
    lengths.iter().flat_map(shapes).chain(sides).collect()
}

/// A division of some shape, and how long it takes all to find each other after it.
fn run(trial: &Trial<'_>, shape: &str, seconds: u64) -> Result<Sample, SafetyViolation> {
    let mut cluster = settled_cluster_without_seeds(trial)?;
    let mut nodes: Vec<usize> = (SEEDS..cluster.len()).collect();
    trial.rng().shuffle(&mut nodes);
    let cut_off = partition_network(&mut cluster, shape, &nodes);
    cluster.run_for(secs(seconds));
    check_safety(&cluster)?;
    let reports = |node: &&usize| {
        let engine = cluster.engine(**node);
        let is_quiet = |status| {
            matches!(
                status,
                PartitionStatus::Healthy | PartitionStatus::Suspected
            )
        };
        engine.is_some_and(|it| !is_quiet(it.partition_status()))
    };
    let detected = cut_off.iter().filter(reports).count();
    let detected_percent = 100.0 * (detected as f64 / cut_off.len() as f64);
    cluster.network().heal();
    let healed_s = wait_for_recovery(&mut cluster, trial, RECOVERY_TIMEOUT)?;
    Ok(Sample::default()
        .with("detected_percent", detected_percent)
        .with("healed_s", healed_s))
}

/// Divides the network and gives those that reach half of all or less.
fn partition_network<'a>(cluster: &mut Cluster, shape: &str, nodes: &'a [usize]) -> &'a [usize] {
    let (half, third) = (nodes.len() / 2, nodes.len() / 3);
    let isolate = |cluster: &mut Cluster, nodes: &[usize], group| {
        cluster.network().isolate(nodes.iter().copied(), group);
    };
    match shape {
        HALVES => {
            isolate(cluster, &nodes[..half], 1);
            nodes
        }
        THIRDS => {
            isolate(cluster, &nodes[..third], 1);
            isolate(cluster, &nodes[third..2 * third], 2);
            nodes
        }
        ONE_ISOLATED => {
            isolate(cluster, &nodes[..1], 1);
            &nodes[..1]
        }
        _ => {
            cluster
                .network()
                .cut_between(&nodes[..half], &nodes[half..]);
            nodes
        }
    }
}

const HALVES: &str = "halves";
const ONE_ISOLATED: &str = "one alone";
const THIRDS: &str = "thirds";
const ONE_WAY: &str = "halves, one way,";
const SHAPES: [&str; 4] = [HALVES, ONE_ISOLATED, THIRDS, ONE_WAY];
/// Members, and the smaller sides in percent of them.
const SPLIT_BRAIN_GRID: &[(usize, &[usize])] = &[
    (3, &[33]),
    (5, &[20, 40]),
    (16, &[1, 13, 25, 49]),
    (64, &[1, 4, 10, 25, 40, 49]),
    (128, &[1, 2, 5, 10, 25, 40, 49]),
    (500, &[1, 5, 25, 49]),
    (1_000, &[1, 5, 25, 49]),
];
const SPLIT_BRAIN_GRID_QUICK: &[(usize, &[usize])] = &[(5, &[40]), (64, &[4, 25])];
/// Longest wait for full views after the partition.
const RECOVERY_TIMEOUT: Duration = secs(120);
