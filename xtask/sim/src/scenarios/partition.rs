//! Partition: the network is divided, and heals.

use std::time::Duration;

use rpcnet_swim::PartitionStatus;
use serde::Serialize;
use xtask_report::{draw_bars_or, median, number};

use crate::{
    check::Check,
    cluster_setup::{
        SEEDS, SafetyViolation, check_safety, secs, settled_cluster_without_seeds,
        wait_for_recovery,
    },
    detector::{Cluster, Detector, OURS, detectors_named},
    render::{number_or_never, panel_by_detector},
    scenario::{self, Cell, Columns, Extent, Scenario, ScenarioCase as _, Trial},
    scenarios::split_brain,
};

/// Partition that heals. All members should find each other again without their seeds, which are
/// gone. Meanwhile at most one side may serve, however small the other one is.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    split_brain_runs: split_brain::SharedRuns,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Case {
    Heals(Division),
    Serves(split_brain::Case),
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Division {
    #[serde(skip)]
    nodes: usize,
    shape: &'static str,
    partitioned_s: u64,
}

#[derive(Debug)]
pub(crate) enum Sample {
    Heals(Healing),
    Serves(split_brain::Sample),
}

#[derive(Debug)]
pub(crate) struct Healing {
    /// Share of the members cut off from half of all or more that report it at the end.
    detected: f64,
    /// Seconds from the healing until all views are right; infinite if not within [`LIMIT`].
    healed: f64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Figures {
    Heals(HealingFigures),
    Serves(split_brain::Figures),
}

#[derive(Debug, Serialize)]
pub(crate) struct HealingFigures {
    detected_percent: f64,
    healed_p50_s: Option<f64>,
    healed_max_s: Option<f64>,
}

impl Scenario for Partition {
    type Case = Case;
    type Sample = Sample;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        "partition"
    }

    fn title(&self) -> &'static str {
        "the network is divided, and heals"
    }

    fn detectors(&self) -> Vec<Detector> {
        detectors_named(&["swim", "lifeguard-a5", "memberlist", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let mut cases = Vec::new();
        let lengths: &[(usize, u64)] =
            extent.pick(&[(64, 60)], &[(128, 60), (128, 600), (1_000, 60)]);
        for (nodes, partitioned_s) in lengths.iter().copied() {
            cases.extend(SHAPES.map(|shape| {
                Case::Heals(Division {
                    nodes,
                    shape,
                    partitioned_s,
                })
            }));
        }
        let sides = split_brain::cases(extent.pick(SPLIT_BRAIN_GRID_QUICK, SPLIT_BRAIN_GRID));
        cases.extend(sides.into_iter().map(Case::Serves));
        cases
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(1, 5)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<Sample, SafetyViolation> {
        match trial.case {
            Case::Heals(case) => run_partition(&trial.with_case(case)).map(Sample::Heals),
            Case::Serves(case) => self
                .split_brain_runs
                .sample(&trial.with_case(case))
                .map(Sample::Serves),
        }
    }

    fn figures(&self, _: &Case, samples: &[Sample]) -> Figures {
        let sides = samples.iter().filter_map(|it| match it {
            Sample::Serves(sample) => Some(*sample),
            Sample::Heals(_) => None,
        });
        let sides: Vec<_> = sides.collect();
        if !sides.is_empty() {
            return Figures::Serves(split_brain::figures(&sides));
        }
        let heals = samples.iter().filter_map(|it| match it {
            Sample::Heals(sample) => Some(sample),
            Sample::Serves(_) => None,
        });
        let heals: Vec<_> = heals.collect();
        let healed = || heals.iter().map(|it| it.healed);
        let finite = |seconds: &f64| seconds.is_finite();
        let detected = heals.iter().map(|it| 100.0 * it.detected);
        Figures::Heals(HealingFigures {
            detected_percent: median(detected.collect()).unwrap_or_default(),
            healed_p50_s: median(healed().collect()).filter(finite),
            healed_max_s: Some(healed().fold(0.0, f64::max)).filter(finite),
        })
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("case", |row| row.case.label())
            .with("detected %", |row| match &row.figures {
                Figures::Heals(figures) => number(figures.detected_percent),
                Figures::Serves(_) => String::new(),
            })
            .with("healed p50 s", |row| match &row.figures {
                Figures::Heals(figures) => number_or_never(figures.healed_p50_s),
                Figures::Serves(_) => String::new(),
            })
            .with("max s", |row| match &row.figures {
                Figures::Heals(figures) => number_or_never(figures.healed_max_s),
                Figures::Serves(figures) => number_or_never(figures.all_serve_max_s),
            })
            .with("both served p50 s", |row| match &row.figures {
                Figures::Heals(_) => String::new(),
                Figures::Serves(figures) => number_or_never(figures.both_served_p50_s),
            })
            .with("p99 s", |row| match &row.figures {
                Figures::Heals(_) => String::new(),
                Figures::Serves(figures) => number_or_never(figures.both_served_p99_s),
            })
            .with("wrongly refused %", |row| match &row.figures {
                Figures::Heals(_) => String::new(),
                Figures::Serves(figures) => number(figures.refused_percent),
            })
    }

    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let ours = cells.iter().filter(|cell| cell.is_ours());
        let checks = ours.map(|cell| match (&cell.row.case, &cell.row.figures) {
            (Case::Serves(case), Figures::Serves(figures)) => split_brain::checks(case, figures),
            (case, figures) => {
                let what = format!("{}: full views after it", case.label());
                vec![Check::new(what, figures.healed_p50_s(), 5.0, "s")]
            }
        });
        checks.flatten().collect()
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        let heals = || {
            let heals = |cell: &&Cell<Self>| matches!(cell.row.case, Case::Heals(_));
            cells.iter().filter(heals)
        };
        let mut labels: Vec<String> = heals().map(|cell| cell.row.case.label()).collect();
        labels.dedup();
        let panels = labels.iter().map(|label| {
            let of_case = heals().filter(|cell| cell.row.case.label() == *label);
            panel_by_detector(label, of_case, |row| row.figures.healed_p50_s())
        });
        draw_bars_or(
            "s from the end of a partition until views are full",
            &panels.collect::<Vec<_>>(),
            "never",
        )
    }
}

impl Figures {
    fn healed_p50_s(&self) -> Option<f64> {
        match self {
            Self::Heals(figures) => figures.healed_p50_s,
            Self::Serves(_) => None,
        }
    }
}

impl scenario::ScenarioCase for Case {
    fn nodes(&self) -> usize {
        match self {
            Self::Heals(case) => case.nodes(),
            Self::Serves(case) => case.nodes(),
        }
    }

    fn seconds(&self) -> f64 {
        match self {
            Self::Heals(case) => case.seconds(),
            Self::Serves(case) => case.seconds(),
        }
    }

    fn seeds_max(&self) -> u64 {
        match self {
            Self::Heals(case) => case.seeds_max(),
            Self::Serves(case) => case.seeds_max(),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Heals(case) => case.label(),
            Self::Serves(case) => case.label(),
        }
    }

    /// Rivals have no policies.
    fn is_for(&self, detector: &str) -> bool {
        matches!(self, Self::Heals(_)) || detector == OURS
    }
}

impl scenario::ScenarioCase for Division {
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

/// A division of some shape, and how long it takes all to find each other after it.
fn run_partition(trial: &Trial<'_, Division>) -> Result<Healing, SafetyViolation> {
    let mut cluster = settled_cluster_without_seeds(trial)?;
    let mut nodes: Vec<usize> = (SEEDS..cluster.len()).collect();
    trial.rng().shuffle(&mut nodes);
    let cut_off = partition_network(&mut cluster, trial.case.shape, &nodes);
    cluster.run_for(secs(trial.case.partitioned_s));
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
    let detected = detected as f64 / cut_off.len() as f64;
    cluster.network().heal();
    let healed = wait_for_recovery(&mut cluster, trial, RECOVERY_TIMEOUT)?;
    Ok(Healing {
        detected,
        healed: healed.map_or(f64::INFINITY, |it| it.as_secs_f64()),
    })
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
