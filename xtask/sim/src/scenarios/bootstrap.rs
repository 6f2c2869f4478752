//! Bootstrap: time until views are full, for members that start at once or one by one under loss.

use std::{collections::BTreeSet, time::Duration};

use rpcnet_swim::Time;
use rpcnet_swim_sim::Link;
use serde::Serialize;
use xtask_report::{Axis, Chart, draw_bars_or, median, number};

use crate::{
    check::Check,
    cluster_setup::{
        SafetyViolation, all_views_full, check_safety, limit_checks, secs, wait_for_recovery,
    },
    detector::{Cluster, Detector, detectors_named},
    render::{number_or_never, panel_by_detector, series_by_detector},
    scenario::{self, Cell, Columns, Extent, Scenario, ScenarioCase as _, Trial},
};

/// A seed, and 10 s later all others at once (Suresh et al. 2018, Rapid, section 7); or 17 one
/// by one while 10 % of all messages are lost (Das et al. 2002, SWIM, figure 4).
#[derive(Debug)]
pub(crate) struct Bootstrap;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    loss_percent: f64,
    /// Time between two starts.
    gap_ms: u64,
    /// Least time from the first start of the others until the end.
    #[serde(skip)]
    seconds: u64,
}

#[derive(Debug)]
pub(crate) struct Sample {
    /// Seconds from the last start until all count all; infinite if never.
    full: f64,
    /// The smallest number of members in a view at the end.
    smallest_view: usize,
    /// Different sizes that members saw meanwhile, looked at every second.
    distinct_sizes: usize,
    bytes: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    full_views_p50_s: Option<f64>,
    full_views_max_s: Option<f64>,
    /// The smallest number of members in a view at the end, of all runs.
    members_held: usize,
    distinct_sizes: f64,
    sent_bytes_per_node: f64,
}

impl Scenario for Bootstrap {
    type Case = Case;
    type Sample = Sample;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        "bootstrap"
    }

    fn title(&self) -> &'static str {
        "time from the last start until views are full"
    }

    fn detectors(&self) -> Vec<Detector> {
        detectors_named(&["lifeguard-a5", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let sizes: &[usize] = extent.pick(&[128, 500], &[128, 500, 1_000, 2_000]);
        let at_once = |nodes: &usize| Case {
            nodes: *nodes,
            loss_percent: 0.0,
            gap_ms: 0,
            seconds: 0,
        };
        let one_by_one = Case {
            nodes: 17,
            loss_percent: 10.0,
            gap_ms: 5_000,
            seconds: 175,
        };
        sizes.iter().map(at_once).chain([one_by_one]).collect()
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(1, 5)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<Sample, SafetyViolation> {
        let case = trial.case;
        let mut cluster = Cluster::with_detector(trial.seed, trial.detector.clone());
        cluster.network().default = Link::lan().with_loss(case.loss_percent / 100.0);
        let seed = cluster.add("n0", trial.config(), Vec::new());
        cluster.run_for(secs(10));
        let seeds = vec![cluster.addr(seed)];
        let begin = cluster.now();
        for node in 1..case.nodes {
            cluster.run_for(Duration::from_millis(case.gap_ms));
            cluster.add(format!("n{node}"), trial.config(), seeds.clone());
        }
        limit_checks(&mut cluster);
        let (full, sizes) = wait_for_full_views(&mut cluster);
        check_safety(&cluster)?;
        // Whether it stays so.
        let end = begin + secs(case.seconds);
        let rest = end.since(cluster.now()).max(secs(10));
        cluster.run_for(rest);
        let views = (0..case.nodes).filter_map(|node| cluster.engine(node));
        let sample = Sample {
            full,
            smallest_view: views.map(|it| it.live_count()).min().unwrap_or_default(),
            distinct_sizes: sizes,
            bytes: cluster.report().sent_bytes as f64 / case.nodes as f64,
        };
        cluster.network().default = Link::lan();
        wait_for_recovery(&mut cluster, trial, Duration::ZERO)?;
        Ok(sample)
    }

    fn figures(&self, _: &Case, samples: &[Sample]) -> Figures {
        let full = || samples.iter().map(|it| it.full);
        let finite = |seconds: &f64| seconds.is_finite();
        let of = |figure: fn(&Sample) -> f64| {
            median(samples.iter().map(figure).collect()).unwrap_or_default()
        };
        Figures {
            full_views_p50_s: median(full().collect()).filter(finite),
            full_views_max_s: Some(full().fold(0.0, f64::max)).filter(finite),
            members_held: samples
                .iter()
                .map(|it| it.smallest_view)
                .min()
                .unwrap_or_default(),
            distinct_sizes: of(|it| it.distinct_sizes as f64),
            sent_bytes_per_node: of(|it| it.bytes),
        }
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("case", |row| row.case.label())
            .with("full views p50 s", |row| {
                number_or_never(row.figures.full_views_p50_s)
            })
            .with("max s", |row| number_or_never(row.figures.full_views_max_s))
            .with("held", |row| row.figures.members_held.to_string())
            .with("sizes seen", |row| number(row.figures.distinct_sizes))
            .with("KB a node", |row| {
                number(row.figures.sent_bytes_per_node / 1e3)
            })
    }

    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let mut checks = Vec::new();
        for cell in cells.iter().filter(|cell| cell.is_ours()) {
            let (case, figures) = (&cell.row.case, &cell.row.figures);
            checks.push(if case.loss_percent > 0.0 {
                let missing = case.nodes - figures.members_held.min(case.nodes);
                let what = format!("{}: missing in a view at the end", case.label());
                Check::new(what, missing as f64, 0.0, "")
            } else {
                let what = format!("{}: full views", case.label());
                Check::new(what, figures.full_views_p50_s, 15.0, "s")
            });
        }
        checks
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        let at_once = || cells.iter().filter(|cell| cell.row.case.gap_ms == 0);
        if at_once().next().is_none() {
            let panel = panel_by_detector("one by one", cells.iter(), |row| {
                row.figures.full_views_p50_s
            });
            return draw_bars_or(self.title(), &[panel], "never");
        }
        Chart {
            title: "All but a seed start at once".to_owned(),
            x: Axis::logarithmic("nodes"),
            y: Axis::linear("s until views are full, median"),
            series: series_by_detector(
                at_once(),
                |row| row.nodes as f64,
                |row| row.figures.full_views_p50_s,
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
        // To join costs as much as to do nothing for long.
        self.seconds as f64 + 20.0 + self.nodes as f64
    }

    fn label(&self) -> String {
        match self.gap_ms {
            0 => format!("{} at once", self.nodes),
            _ => format!("{} one by one, {} % lost", self.nodes, self.loss_percent),
        }
    }

    fn seeds_max(&self) -> u64 {
        if self.nodes > 1_000 { 3 } else { u64::MAX }
    }
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

/// Interval at which views are read.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Longest wait for full views.
const FULL_VIEWS_TIMEOUT: Duration = secs(300);
