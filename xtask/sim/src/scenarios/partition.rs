//! The network is divided, and heals.

use std::time::Duration;

use rpcnet_swim::{
    PartitionStatus,
    sim::{Cluster, Detector},
};
use serde::Serialize;
use xtask_report::{draw_or, median, number};

use crate::{
    check::Check,
    detector::these,
    scenario::{self, Case as _, Cell, Columns, Extent, Scenario, Trial},
    show::{bars, or_never},
    stage::{SEEDS, Unsafe, expect_safe, recovered, secs, settled_without_seeds},
};

/// When it heals all should find each other again, without anybody's help: their seeds are gone.
#[derive(Debug)]
pub(crate) struct Partition;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    shape: &'static str,
    partitioned_s: u64,
}

#[derive(Debug)]
pub(crate) struct Sample {
    /// Of the members that are cut off from half of all or more, those that report it at the end.
    detected: f64,
    /// Seconds from the healing until all views are right; infinite if not within [`LIMIT`].
    healed: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    detected_percent: f64,
    healed_p50_s: Option<f64>,
    healed_max_s: Option<f64>,
}

impl Scenario for Partition {
    type Case = Case;
    type Sample = Sample;
    type Figures = Figures;

    const NAME: &'static str = "partition";
    const TITLE: &'static str = "the network is divided, and heals";

    fn detectors(&self) -> Vec<Detector> {
        these(&["swim", "lifeguard-a5", "memberlist", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let mut cases = Vec::new();
        let lengths: &[(usize, u64)] =
            extent.pick(&[(64, 60)], &[(128, 60), (128, 600), (1_000, 60)]);
        for (nodes, partitioned_s) in lengths.iter().copied() {
            cases.extend(SHAPES.map(|shape| Case {
                nodes,
                shape,
                partitioned_s,
            }));
        }
        cases
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(1, 5)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<Sample, Unsafe> {
        let mut cluster = settled_without_seeds(trial)?;
        let mut nodes: Vec<usize> = (SEEDS..cluster.len()).collect();
        trial.rng().shuffle(&mut nodes);
        let cut_off = divide(&mut cluster, trial.case.shape, &nodes);
        cluster.run_for(secs(trial.case.partitioned_s));
        expect_safe(&cluster)?;
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
        let detected = detected as f64 / cut_off.len() as f64;
        cluster.network().heal();
        let healed = recovered(&mut cluster, trial, LIMIT)?;
        Ok(Sample {
            detected,
            healed: healed.map_or(f64::INFINITY, |it| it.as_secs_f64()),
        })
    }

    fn figures(&self, _: &Case, samples: &[Sample]) -> Figures {
        let healed = || samples.iter().map(|it| it.healed);
        let finite = |seconds: &f64| seconds.is_finite();
        let detected = samples.iter().map(|it| 100.0 * it.detected);
        Figures {
            detected_percent: median(detected.collect()).unwrap_or_default(),
            healed_p50_s: median(healed().collect()).filter(finite),
            healed_max_s: Some(healed().fold(0.0, f64::max)).filter(finite),
        }
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("case", |row| row.case.label())
            .with("detected %", |row| number(row.figures.detected_percent))
            .with("healed p50 s", |row| or_never(row.figures.healed_p50_s))
            .with("max s", |row| or_never(row.figures.healed_max_s))
    }

    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let ours = cells.iter().filter(|cell| cell.is_ours());
        let healed = ours.map(|cell| {
            let what = format!("{}: full views after it", cell.row.case.label());
            Check::new(what, cell.row.figures.healed_p50_s, 5.0, "s")
        });
        healed.collect()
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        let mut labels: Vec<String> = cells.iter().map(|cell| cell.row.case.label()).collect();
        labels.dedup();
        let panels = labels.iter().map(|label| {
            let of_case = cells.iter().filter(|cell| cell.row.case.label() == *label);
            bars(label, of_case, |row| row.figures.healed_p50_s)
        });
        draw_or(
            "s from the end of a partition until all know all",
            &panels.collect::<Vec<_>>(),
            "never",
        )
    }
}

impl scenario::Case for Case {
    fn nodes(&self) -> usize {
        self.nodes
    }

    fn seconds(&self) -> f64 {
        60.0 + self.partitioned_s as f64
    }

    fn seeds_max(&self) -> u64 {
        if self.nodes >= 1_000 { 1 } else { u64::MAX }
    }

    fn label(&self) -> String {
        format!(
            "{} of {} for {} s",
            self.shape, self.nodes, self.partitioned_s
        )
    }
}

/// Divides the network and gives those that reach half of all or less.
fn divide<'a>(cluster: &mut Cluster, shape: &str, nodes: &'a [usize]) -> &'a [usize] {
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
        LONE => {
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
const LONE: &str = "one alone";
const THIRDS: &str = "thirds";
const ONE_WAY: &str = "halves, one way,";
const SHAPES: [&str; 4] = [HALVES, LONE, THIRDS, ONE_WAY];
/// So long is waited for them to find each other.
const LIMIT: Duration = secs(120);
