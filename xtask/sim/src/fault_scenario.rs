//! Scenarios in which something befalls some members, or the network of all, and ends.

use std::time::Duration;

use rpcnet_swim::{MemberState, sim::Link};
use serde::Serialize;
use xtask_report::{draw_bars, median, number};

use crate::{
    check::Check,
    cluster_setup::{SafetyViolation, check_safety, secs, settled_cluster, wait_for_recovery},
    detector::{Cluster, Detector, detectors_named},
    fault_impact::{FaultImpact, FaultImpactFigures, ImpactMeter},
    render::{number_or_never, panel_by_detector},
    scenario::{Cell, Columns, Extent, Scenario, ScenarioCase, Trial},
};

/// What befalls whom.
pub(crate) trait FaultScenario: Sync + Sized {
    type Case: ScenarioCase;

    const NAME: &'static str;
    const TITLE: &'static str;

    fn detectors(&self) -> Vec<Detector> {
        detectors_named(&["swim", "lifeguard-a5", "lifeguard-a2", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Self::Case>;

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(2, 5)
    }

    /// How many members are faulty.
    fn faulty_count(&self, case: &Self::Case) -> usize;

    /// Makes the trouble and lets its time pass. It ends by itself: the network heals, and all
    /// plights are over.
    fn inject(&self, case: &Self::Case, cluster: &mut Cluster, faulty: &[usize]);

    /// What is held against our targets, of one cell of ours.
    fn checks(&self, cell: &Cell<InjectFault<Self>>) -> Vec<Check>;

    /// What the figure shows, with a title for it.
    fn figure_panels(&self) -> Vec<FigurePanel> {
        vec![FALSE_FAILURES, SENT_BYTES]
    }
}

/// One figure of a row, with a title.
pub(crate) type FigurePanel = (&'static str, fn(&Figures) -> Option<f64>);

pub(crate) const FALSE_FAILURES: FigurePanel = (
    "healthy members held failed, in all views (fewer is better)",
    |figures| Some(figures.impact.false_failed_healthy),
);
pub(crate) const SENT_BYTES: FigurePanel = (
    "bytes sent, a node and second (fewer is better)",
    |figures| Some(figures.impact.sent_bytes_per_node_s),
);
pub(crate) const TRANSITIONS: FigurePanel = (
    "failures and returns of a faulty member, in a healthy view (fewer is better)",
    |figures| Some(figures.impact.transitions_per_faulty),
);

/// An affliction as a scenario.
#[derive(Debug)]
pub(crate) struct InjectFault<A>(pub(crate) A);

#[derive(Debug)]
pub(crate) struct Sample {
    impact: FaultImpact,
    /// Of the views that healthy members have of faulty ones, the share that holds them failed
    /// when the trouble ends.
    removed_share: f64,
    /// Seconds from the end of the trouble until all views are right; infinite if not within
    /// [`RECOVERY_TIMEOUT`].
    recovery_s: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    #[serde(flatten)]
    pub(crate) impact: FaultImpactFigures,
    pub(crate) removed_percent: f64,
    pub(crate) recovered_p50_s: Option<f64>,
}

impl<A: FaultScenario> Scenario for InjectFault<A> {
    type Case = A::Case;
    type Sample = Sample;
    type Figures = Figures;

    const NAME: &'static str = A::NAME;
    const TITLE: &'static str = A::TITLE;

    fn detectors(&self) -> Vec<Detector> {
        self.0.detectors()
    }

    fn cases(&self, extent: Extent) -> Vec<A::Case> {
        self.0.cases(extent)
    }

    fn seeds(&self, extent: Extent) -> u64 {
        self.0.seeds(extent)
    }

    fn run(&self, trial: &Trial<'_, A::Case>) -> Result<Sample, SafetyViolation> {
        let mut cluster = settled_cluster(trial)?;
        let nodes = cluster.len();
        let chosen = trial
            .rng()
            .choose_multiple(0..nodes, self.0.faulty_count(trial.case));
        let mut faulty = vec![false; nodes];
        chosen.iter().for_each(|node| faulty[*node] = true);
        let meter = ImpactMeter::new(&cluster);
        self.0.inject(trial.case, &mut cluster, &chosen);
        check_safety(&cluster)?;
        let toll = meter.read(&cluster, &faulty);
        let removed = removed_share(&cluster, &faulty);
        cluster.network().heal();
        cluster.network().default = Link::lan();
        chosen.iter().for_each(|node| cluster.resume(*node));
        let recovered = wait_for_recovery(&mut cluster, trial, RECOVERY_TIMEOUT)?;
        Ok(Sample {
            impact: toll,
            removed_share: removed,
            recovery_s: recovered.map_or(f64::INFINITY, |it| it.as_secs_f64()),
        })
    }

    fn figures(&self, _: &A::Case, samples: &[Sample]) -> Figures {
        let of = |figure: fn(&Sample) -> f64| {
            median(samples.iter().map(figure).collect()).unwrap_or_default()
        };
        Figures {
            impact: FaultImpactFigures::of(samples.iter().map(|sample| &sample.impact)),
            removed_percent: 100.0 * of(|it| it.removed_share),
            recovered_p50_s: Some(of(|it| it.recovery_s)).filter(|it| it.is_finite()),
        }
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("case", |row| row.case.label())
            .with("healthy failed", |row| {
                number(row.figures.impact.false_failed_healthy)
            })
            .with("at healthy", |row| {
                number(row.figures.impact.false_failed_healthy_at_healthy)
            })
            .with("faulty failed", |row| {
                number(row.figures.impact.failed_faulty)
            })
            .with("transitions", |row| {
                number(row.figures.impact.transitions_per_faulty)
            })
            .with("removed %", |row| number(row.figures.removed_percent))
            .with("right after s", |row| {
                number_or_never(row.figures.recovered_p50_s)
            })
            .with("msg/s", |row| number(row.figures.impact.sent_per_node_s))
            .with("B/s a node", |row| {
                number(row.figures.impact.sent_bytes_per_node_s)
            })
    }

    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let ours = cells.iter().filter(|cell| cell.is_ours());
        ours.flat_map(|cell| self.0.checks(cell)).collect()
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        let mut labels: Vec<String> = Vec::new();
        for cell in cells {
            let label = cell.row.case.label();
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        let mut panels = Vec::new();
        for (title, value) in self.0.figure_panels() {
            for label in &labels {
                let of_case = cells.iter().filter(|cell| cell.row.case.label() == *label);
                panels.push(panel_by_detector(
                    format!("{label}: {title}"),
                    of_case,
                    |row| value(&row.figures),
                ));
            }
        }
        draw_bars(A::TITLE, &panels)
    }
}

impl<A: FaultScenario> Cell<InjectFault<A>> {
    /// That no healthy member was held failed by anybody, in any run.
    pub(crate) fn no_false_failures(&self) -> Check {
        Check::new(
            format!("{}: healthy members held failed", self.row.case.label()),
            self.row.figures.impact.false_failed_healthy_of_all_seeds as f64,
            0.0,
            "",
        )
    }

    /// That few transitions are seen of a faulty one.
    pub(crate) fn few_transitions(&self, at_most: f64) -> Check {
        Check::new(
            format!("{}: transitions of a faulty one", self.row.case.label()),
            self.row.figures.impact.transitions_per_faulty,
            at_most,
            "",
        )
    }
}

fn removed_share(cluster: &Cluster, faulty: &[bool]) -> f64 {
    let of = |is: bool| (0..faulty.len()).filter(move |node| faulty[*node] == is);
    let mut pairs = 0;
    let mut removed = 0;
    for subject in of(true) {
        for observer in of(false) {
            let sight = cluster.view_of(observer, subject);
            pairs += 1;
            removed += u32::from(sight.is_none_or(|it| it.state == MemberState::Failed));
        }
    }
    f64::from(removed) / f64::from(pairs.max(1))
}

/// So long is waited for the views to become right again.
const RECOVERY_TIMEOUT: Duration = secs(120);
