//! Cost of the steady state.

use rpcnet_swim_sim::Traffic;
use serde::Serialize;
use xtask_report::{Axis, Chart, median, number};

use crate::{
    check::Check,
    cluster_setup::{SafetyViolation, check_safety, secs, settled_cluster},
    detector::{Detector, detectors_named},
    render::series_by_detector,
    scenario::{self, Cell, Columns, Extent, Scenario, Trial},
};

/// Steady state: no member joins, leaves or is late.
#[derive(Debug)]
pub(crate) struct Steady;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    seconds: u64,
}

/// A node's rates, in one run.
#[derive(Debug)]
pub(crate) struct Sample {
    messages: f64,
    bytes: f64,
    /// Rate of the node that sends most.
    bytes_max: f64,
    suspicions: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    sent_per_node_s: f64,
    sent_bytes_per_node_s: f64,
    /// Rate of the node that sends most.
    sent_bytes_busiest_s: f64,
    suspicions: u64,
}

impl Scenario for Steady {
    type Case = Case;
    type Sample = Sample;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        "steady"
    }

    fn title(&self) -> &'static str {
        "cost of the steady state"
    }

    fn detectors(&self) -> Vec<Detector> {
        detectors_named(&["swim", "lifeguard-a5", "memberlist", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let sizes: &[usize] = extent.pick(&[16, 128], &[16, 128, 512, 1_000]);
        // As long as it takes until each has synchronized some times.
        let seconds = extent.pick(180, 360);
        let case = |nodes: &usize| Case {
            nodes: *nodes,
            seconds,
        };
        sizes.iter().map(case).collect()
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(1, 3)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<Sample, SafetyViolation> {
        let mut cluster = settled_cluster(trial)?;
        let nodes = cluster.len();
        let before: Vec<Traffic> = (0..nodes).map(|node| cluster.traffic(node)).collect();
        let suspicions = cluster.report().suspicions;
        cluster.run_for(secs(trial.case.seconds));
        check_safety(&cluster)?;
        let seconds = trial.case.seconds as f64;
        let of = |count: fn(&Traffic) -> u64| -> Vec<f64> {
            let since = |(node, before)| count(&cluster.traffic(node)) - count(before);
            let counts = before.iter().enumerate().map(since);
            counts.map(|count| count as f64 / seconds).collect()
        };
        let mean = |rates: Vec<f64>| rates.iter().sum::<f64>() / nodes as f64;
        Ok(Sample {
            messages: mean(of(|it| it.sent)),
            bytes: mean(of(|it| it.sent_bytes)),
            bytes_max: of(|it| it.sent_bytes).into_iter().fold(0.0, f64::max),
            suspicions: cluster.report().suspicions - suspicions,
        })
    }

    fn figures(&self, _: &Case, samples: &[Sample]) -> Figures {
        let of = |figure: fn(&Sample) -> f64| {
            median(samples.iter().map(figure).collect()).unwrap_or_default()
        };
        Figures {
            sent_per_node_s: of(|it| it.messages),
            sent_bytes_per_node_s: of(|it| it.bytes),
            sent_bytes_busiest_s: of(|it| it.bytes_max),
            suspicions: samples.iter().map(|it| it.suspicions).sum(),
        }
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("msg/s", |row| number(row.figures.sent_per_node_s))
            .with("B/s a node", |row| {
                number(row.figures.sent_bytes_per_node_s)
            })
            .with("busiest", |row| number(row.figures.sent_bytes_busiest_s))
            .with("suspicions", |row| row.figures.suspicions.to_string())
    }

    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let ours = cells.iter().filter(|cell| cell.is_ours());
        let targets = ours.filter_map(|cell| {
            let at_most = match cell.row.nodes {
                128 => 300.0,
                1_000 => 420.0,
                _ => return None,
            };
            let bytes = cell.row.figures.sent_bytes_per_node_s;
            let what = format!("bytes sent, a node of {}", cell.row.nodes);
            Some(Check::new(what, bytes, at_most, "B/s"))
        });
        targets.collect()
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        Chart {
            title: "Cost of the steady state".to_owned(),
            x: Axis::logarithmic("nodes"),
            y: Axis::linear("bytes sent, a node and second"),
            series: series_by_detector(
                cells.iter(),
                |row| row.nodes as f64,
                |row| Some(row.figures.sent_bytes_per_node_s),
            ),
        }
        .draw()
    }
}

impl scenario::ScenarioCase for Case {
    fn nodes(&self) -> usize {
        self.nodes
    }

    fn seconds(&self) -> f64 {
        self.seconds as f64
    }

    fn label(&self) -> String {
        format!("{} nodes", self.nodes)
    }
}
