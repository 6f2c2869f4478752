//! Restart: all members start again within a minute, under their names.

use std::time::Duration;

use serde::Serialize;
use xtask_report::{Axis, Chart, median, number};

use crate::{
    check::Check,
    cluster_setup::{SafetyViolation, secs, settled_cluster, wait_for_recovery},
    detector::{Detector, detectors_named},
    render::{number_or_never, series_by_detector},
    scenario::{self, Cell, Columns, Extent, Scenario, ScenarioCase as _, Trial},
};

/// Restart of all members, as when a new version is rolled out at once. Gossip about their former
/// lives must not keep the new ones out.
#[derive(Debug)]
pub(crate) struct Restart;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    within_s: u64,
}

#[derive(Debug)]
pub(crate) struct Sample {
    /// Seconds from the last start until all views are right; infinite if not within [`LIMIT`].
    right: f64,
    /// Members missing in a view, summed over the views, at the end of the wait.
    missing: usize,
    bytes: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    all_alive_p50_s: Option<f64>,
    all_alive_max_s: Option<f64>,
    missing: f64,
    sent_bytes_per_node_s: f64,
}

impl Scenario for Restart {
    type Case = Case;
    type Sample = Sample;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        "restart"
    }

    fn title(&self) -> &'static str {
        "all members start again within a minute, under their names"
    }

    fn detectors(&self) -> Vec<Detector> {
        detectors_named(&["lifeguard-a5", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let sizes: &[usize] = extent.pick(&[128, 300], &[128, 1_000, 4_500]);
        let case = |nodes: &usize| Case {
            nodes: *nodes,
            within_s: 60,
        };
        sizes.iter().map(case).collect()
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(1, 3)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<Sample, SafetyViolation> {
        let case = trial.case;
        let mut cluster = settled_cluster(trial)?;
        let mut rng = trial.rng();
        let within = 1_000 * case.within_s;
        let mut starts: Vec<(u64, usize)> = (0..case.nodes)
            .map(|node| (rng.u64(..within), node))
            .collect();
        starts.sort_unstable();
        let (begin, before) = (cluster.now(), cluster.report().sent_bytes);
        for (at, node) in starts {
            let passed = cluster.now().since(begin);
            cluster.run_for(Duration::from_millis(at).saturating_sub(passed));
            cluster.restart(node);
        }
        let right = wait_for_recovery(&mut cluster, trial, RECOVERY_TIMEOUT)?;
        let views = (0..case.nodes).filter_map(|node| cluster.engine(node));
        let seconds = cluster.now().since(begin).as_secs_f64();
        let bytes = (cluster.report().sent_bytes - before) as f64;
        Ok(Sample {
            right: right.map_or(f64::INFINITY, |it| it.as_secs_f64()),
            missing: views
                .map(|it| case.nodes.saturating_sub(it.live_count()))
                .sum(),
            bytes: bytes / case.nodes as f64 / seconds,
        })
    }

    fn figures(&self, _: &Case, samples: &[Sample]) -> Figures {
        let right = || samples.iter().map(|it| it.right);
        let finite = |seconds: &f64| seconds.is_finite();
        let of = |figure: fn(&Sample) -> f64| {
            median(samples.iter().map(figure).collect()).unwrap_or_default()
        };
        Figures {
            all_alive_p50_s: median(right().collect()).filter(finite),
            all_alive_max_s: Some(right().fold(0.0, f64::max)).filter(finite),
            missing: of(|it| it.missing as f64),
            sent_bytes_per_node_s: of(|it| it.bytes),
        }
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("all alive p50 s", |row| {
                number_or_never(row.figures.all_alive_p50_s)
            })
            .with("max s", |row| number_or_never(row.figures.all_alive_max_s))
            .with("missing", |row| number(row.figures.missing))
            .with("B/s a node", |row| {
                number(row.figures.sent_bytes_per_node_s)
            })
    }

    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let ours = cells.iter().filter(|cell| cell.is_ours());
        let alive = ours.map(|cell| {
            let what = format!("{}: all alive everywhere", cell.row.case.label());
            Check::new(what, cell.row.figures.all_alive_p50_s, 60.0, "s")
        });
        alive.collect()
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        Chart {
            title: "All start again within a minute".to_owned(),
            x: Axis::logarithmic("nodes"),
            y: Axis::linear("s from the last start until all are alive everywhere"),
            series: series_by_detector(
                cells.iter(),
                |row| row.nodes as f64,
                |row| row.figures.all_alive_p50_s,
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
        100.0 + self.nodes as f64
    }

    fn label(&self) -> String {
        format!("{} nodes", self.nodes)
    }

    fn seeds_max(&self) -> u64 {
        if self.nodes > 1_000 { 1 } else { u64::MAX }
    }
}

/// Longest wait for the views to become right.
const RECOVERY_TIMEOUT: Duration = secs(180);
