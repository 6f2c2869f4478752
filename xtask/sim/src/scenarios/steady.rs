//! Cost of the steady state.

use rpcnet_swim_sim::Traffic;

use crate::{
    check::Target,
    cluster_setup::{SafetyViolation, check_safety, secs, settled_cluster},
    measure::{Aggregate, Measure, Sample},
    options::Extent,
    render::{chart_over_nodes, table},
    row::Column,
    scenario::{Case, Scenario, Trial},
};

/// Steady state: no member joins, leaves or is late.
pub(crate) static STEADY: Scenario = Scenario {
    name: "steady",
    help: "Cost of the steady state",
    title: "cost of the steady state",
    detectors: &["swim", "lifeguard-a5", "memberlist", "rpcnet"],
    seeds: (1, 3),
    cases,
    table: |cells| table(&COLUMNS, cells),
    checks: |_| Vec::new(),
    figure: |_, cells| {
        let y = "bytes sent, a node and second";
        chart_over_nodes(
            "Cost of the steady state",
            y,
            "sent_bytes_per_node_s",
            cells,
        )
        .draw()
    },
};

static MEASURES: [Measure; 4] = [
    Measure::median("sent_per_node_s"),
    Measure::median("sent_bytes_per_node_s"),
    // Rate of the node that sends most.
    Measure::median("sent_bytes_busiest_s"),
    Measure::new("suspicions", Aggregate::WholeSum, "suspicions"),
];

static COLUMNS: [Column; 4] = [
    Column::new("msg/s", "sent_per_node_s"),
    Column::new("B/s a node", "sent_bytes_per_node_s"),
    Column::new("busiest", "sent_bytes_busiest_s"),
    Column::plain("suspicions", "suspicions"),
];

fn cases(extent: Extent) -> Vec<Case> {
    let sizes: &[usize] = extent.pick(&[16, 128], &[16, 128, 512, 1_000]);
    // As long as it takes until each has synchronized some times.
    let seconds = extent.pick(180, 360);
    let case = |nodes: &usize| {
        let run = move |trial: &Trial<'_>| run(trial, seconds);
        let mut case = Case::new(*nodes, format!("{nodes} nodes"), &MEASURES, run)
            .with_seconds(seconds as f64)
            .with_field("seconds", seconds);
        let bound = BYTES_MAX.iter().find(|(of, _)| of == nodes);
        case.targets.extend(bound.map(|(nodes, at_most)| Target {
            description: format!("bytes sent, a node of {nodes}"),
            at_most: *at_most,
            unit: "B/s",
            figure: |row| row.number("sent_bytes_per_node_s"),
        }));
        case
    };
    sizes.iter().map(case).collect()
}

fn run(trial: &Trial<'_>, seconds: u64) -> Result<Sample, SafetyViolation> {
    let mut cluster = settled_cluster(trial)?;
    let nodes = cluster.len();
    let before: Vec<Traffic> = (0..nodes).map(|node| cluster.traffic(node)).collect();
    let suspicions = cluster.report().suspicions;
    cluster.run_for(secs(seconds));
    check_safety(&cluster)?;
    // Rates of each node.
    let rates = |count: fn(&Traffic) -> u64| -> Vec<f64> {
        let since = |(node, before)| count(&cluster.traffic(node)) - count(before);
        let counts = before.iter().enumerate().map(since);
        counts.map(|count| count as f64 / seconds as f64).collect()
    };
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / nodes as f64;
    let bytes = rates(|it| it.sent_bytes);
    let suspicions = cluster.report().suspicions - suspicions;
    Ok(Sample::default()
        .with("sent_per_node_s", mean(&rates(|it| it.sent)))
        .with("sent_bytes_per_node_s", mean(&bytes))
        .with(
            "sent_bytes_busiest_s",
            bytes.into_iter().fold(0.0, f64::max),
        )
        .with("suspicions", suspicions as f64))
}

/// Bytes that a node may send a second, by the number of nodes.
const BYTES_MAX: [(usize, f64); 2] = [(128, 300.0), (1_000, 420.0)];
