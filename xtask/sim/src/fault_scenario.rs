//! Scenarios with a fault of some members, or of the network of all, that ends.

use std::time::Duration;

use rpcnet_swim::MemberState;
use rpcnet_swim_sim::{Link, OpenDirection};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use xtask_report::{draw_bars, median, number};

use crate::{
    check::Check,
    cluster_setup::{SafetyViolation, check_safety, secs, settled_cluster, wait_for_recovery},
    detector::{Cluster, Detector, detectors_named},
    fault_impact::{FaultImpact, FaultImpactFigures, ImpactMeter},
    render::{number_or_never, panel_by_detector},
    scenario::{Cell, Columns, Extent, Scenario, ScenarioCase, Trial},
};

/// Scenario that consists of one kind of fault, as data.
#[derive(Debug)]
pub(crate) struct FaultScenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) cases: fn(Extent) -> Vec<Case>,
    /// Targets of one cell of rpcnet's.
    pub(crate) checks: fn(&Cell<Self>) -> Vec<Check>,
    /// Figures that the SVG shows.
    pub(crate) panels: [FigurePanel; 2],
}

/// Fault, the number of faulty members, and the fields that tell its row apart.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) fault: Fault,
    pub(crate) faulty: usize,
    /// Virtual time that a run takes, about.
    pub(crate) seconds: f64,
    pub(crate) label: String,
    /// Fields of the row beside the number of nodes.
    pub(crate) fields: Vec<(&'static str, Value)>,
}

/// Fault with its duration.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Members receive nothing for a while, everything for a while, over and over.
    Flapping {
        deaf: Duration,
        hearing: Duration,
        cycles: u64,
    },
    /// Sockets of which one direction hangs.
    HalfBlocked { open: OpenDirection, time: Duration },
    /// Members lose a share of what comes in.
    IngressLoss { share: f64, time: Duration },
    /// Every link loses a share of what is sent.
    LinkLoss { share: f64, time: Duration },
    /// Slow processes: each message takes time.
    Slow {
        per_message: Duration,
        time: Duration,
    },
    /// Processes stop for a while, on links that lose a share.
    Stall { loss_share: f64, time: Duration },
}

impl Fault {
    /// Injects the fault and lets its time pass. The caller heals the network and resumes the
    /// processes.
    fn inject(self, cluster: &mut Cluster, faulty: &[usize]) {
        match self {
            Self::Flapping {
                deaf,
                hearing,
                cycles,
            } => {
                for (loss, time) in (0..cycles).flat_map(|_| [(1.0, deaf), (0.0, hearing)]) {
                    for node in faulty {
                        cluster.network().set_ingress_loss(*node, loss);
                    }
                    cluster.run_for(time);
                }
            }
            Self::HalfBlocked { open, time } => {
                faulty
                    .iter()
                    .for_each(|node| cluster.half_block(*node, open));
                cluster.run_for(time);
            }
            Self::IngressLoss { share, time } => {
                for node in faulty {
                    cluster.network().set_ingress_loss(*node, share);
                }
                cluster.run_for(time);
            }
            Self::LinkLoss { share, time } => {
                cluster.network().default = Link::lan().with_loss(share);
                cluster.run_for(time);
            }
            Self::Slow { per_message, time } => {
                faulty
                    .iter()
                    .for_each(|node| cluster.slow(*node, per_message));
                cluster.run_for(time);
            }
            Self::Stall { loss_share, time } => {
                cluster.network().default = Link::lan().with_loss(loss_share);
                cluster.run_for(secs(5));
                faulty.iter().for_each(|node| cluster.stall(*node));
                cluster.run_for(time);
                faulty.iter().for_each(|node| cluster.resume(*node));
                // The consequences of the stall show now.
                cluster.run_for(secs(60));
            }
        }
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (field, value) in &self.fields {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

impl ScenarioCase for Case {
    fn nodes(&self) -> usize {
        NODES
    }

    fn seconds(&self) -> f64 {
        self.seconds
    }

    fn label(&self) -> String {
        self.label.clone()
    }
}

/// Figure of a row, with a title.
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

#[derive(Debug)]
pub(crate) struct Sample {
    impact: FaultImpact,
    /// Share of the views of faulty members, by healthy ones, that hold them failed when the fault
    /// ends.
    removed_share: f64,
    /// Seconds from the end of the fault until all views are right; infinite if not within
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

impl Scenario for FaultScenario {
    type Case = Case;
    type Sample = Sample;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }

    fn detectors(&self) -> Vec<Detector> {
        detectors_named(&["swim", "lifeguard-a5", "lifeguard-a2", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        (self.cases)(extent)
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(2, 5)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<Sample, SafetyViolation> {
        let mut cluster = settled_cluster(trial)?;
        let nodes = cluster.len();
        let chosen = trial.rng().choose_multiple(0..nodes, trial.case.faulty);
        let mut faulty = vec![false; nodes];
        chosen.iter().for_each(|node| faulty[*node] = true);
        let meter = ImpactMeter::new(&cluster);
        trial.case.fault.inject(&mut cluster, &chosen);
        check_safety(&cluster)?;
        let impact = meter.read(&cluster, &faulty);
        let removed_share = removed_share(&cluster, &faulty);
        cluster.network().heal();
        cluster.network().default = Link::lan();
        chosen.iter().for_each(|node| cluster.resume(*node));
        let recovered = wait_for_recovery(&mut cluster, trial, RECOVERY_TIMEOUT)?;
        Ok(Sample {
            impact,
            removed_share,
            recovery_s: recovered.map_or(f64::INFINITY, |it| it.as_secs_f64()),
        })
    }

    fn figures(&self, _: &Case, samples: &[Sample]) -> Figures {
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
        ours.flat_map(self.checks).collect()
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
        for (title, value) in self.panels {
            for label in &labels {
                let of_case = cells.iter().filter(|cell| cell.row.case.label() == *label);
                panels.push(panel_by_detector(
                    format!("{label}: {title}"),
                    of_case,
                    |row| value(&row.figures),
                ));
            }
        }
        draw_bars(self.title, &panels)
    }
}

impl Cell<FaultScenario> {
    /// Check that no view held a healthy member failed, in any run.
    pub(crate) fn no_false_failures(&self) -> Check {
        Check::new(
            format!("{}: healthy members held failed", self.row.case.label()),
            self.row.figures.impact.false_failed_healthy_of_all_seeds as f64,
            0.0,
            "",
        )
    }

    /// Check that a healthy view shows few transitions of a faulty member.
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
            let view = cluster.view_of(observer, subject);
            pairs += 1;
            removed += u32::from(view.is_none_or(|it| it.state == MemberState::Failed));
        }
    }
    f64::from(removed) / f64::from(pairs.max(1))
}

/// Longest wait for the views to become right again.
const RECOVERY_TIMEOUT: Duration = secs(120);
/// Members of every cluster.
pub(crate) const NODES: usize = 128;
