//! Growth of each cost with the number of members.

use std::time::Duration;

use rpcnet_swim::MemberState;
use rpcnet_swim_sim::TransitionLog;
use serde::Serialize;
use xtask_report::{Axis, Chart, median};

use crate::{
    check::Check,
    cluster_setup::{SafetyViolation, check_safety, first_transitions, secs, settled_cluster},
    detector::{Cluster, Detector, detectors_named},
    fault_impact::ImpactMeter,
    render::{number_or_never, series_by_detector},
    scenario::{self, Cell, Columns, Extent, Scenario, Trial},
};

/// Steady state for a while, then a crash, then a join.
#[derive(Debug)]
pub(crate) struct Scale;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    /// Seconds of the steady state: long enough that each member has synchronized.
    seconds: u64,
}

#[derive(Debug)]
pub(crate) struct Sample {
    messages: f64,
    bytes: f64,
    /// Seconds; infinite if not within [`LIMIT`].
    crash_known: f64,
    /// Seconds; infinite if not within [`LIMIT`].
    join_known: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    sent_per_node_s: Option<f64>,
    sent_bytes_per_node_s: Option<f64>,
    crash_all_know_p50_s: Option<f64>,
    join_all_know_p50_s: Option<f64>,
}

impl Scenario for Scale {
    type Case = Case;
    type Sample = Sample;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        "scale"
    }

    fn title(&self) -> &'static str {
        "growth of each cost with the number of members"
    }

    fn detectors(&self) -> Vec<Detector> {
        detectors_named(&["lifeguard-a5", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let sizes: &[usize] = extent.pick(
            &[10, 32, 100, 320],
            &[10, 32, 100, 320, 1_000, 3_200, 10_000],
        );
        let case = |nodes: &usize| Case {
            nodes: *nodes,
            seconds: extent.pick(90, 300),
        };
        sizes.iter().map(case).collect()
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(2, 5)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<Sample, SafetyViolation> {
        let mut cluster = settled_cluster(trial)?;
        let nodes = cluster.len();
        let meter = ImpactMeter::new(&cluster);
        cluster.run_for(secs(trial.case.seconds));
        let impact = meter.read(&cluster, &vec![false; nodes]);
        let per_node = |count: u64| count as f64 / nodes as f64 / trial.case.seconds as f64;
        cluster.log_transitions(TransitionLog::All);
        let victim = trial.rng().usize(..nodes);
        cluster.crash(victim);
        let crash_known = wait_until_known(&mut cluster, victim, MemberState::Failed);
        let at = cluster.addr((victim + 1) % nodes);
        let newcomer = cluster.add("newcomer", trial.config(), vec![at]);
        let join_known = wait_until_known(&mut cluster, newcomer, MemberState::Alive);
        check_safety(&cluster)?;
        Ok(Sample {
            messages: per_node(impact.messages),
            bytes: per_node(impact.bytes),
            crash_known,
            join_known,
        })
    }

    fn figures(&self, _: &Case, samples: &[Sample]) -> Figures {
        let of = |figure: fn(&Sample) -> f64| {
            median(samples.iter().map(figure).collect()).filter(|it| it.is_finite())
        };
        Figures {
            sent_per_node_s: of(|it| it.messages),
            sent_bytes_per_node_s: of(|it| it.bytes),
            crash_all_know_p50_s: of(|it| it.crash_known),
            join_all_know_p50_s: of(|it| it.join_known),
        }
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("msg/s", |row| number_or_never(row.figures.sent_per_node_s))
            .with("B/s a node", |row| {
                number_or_never(row.figures.sent_bytes_per_node_s)
            })
            .with("crash known s", |row| {
                number_or_never(row.figures.crash_all_know_p50_s)
            })
            .with("newcomer known s", |row| {
                number_or_never(row.figures.join_all_know_p50_s)
            })
    }

    /// Bytes of a node grow no faster than the logarithm of the number of members.
    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let ours = || {
            cells
                .iter()
                .filter(|cell| cell.is_ours() && cell.row.nodes >= 100)
        };
        let (Some(small), Some(large)) = (ours().next(), ours().next_back()) else {
            return Vec::new();
        };
        let (few, many) = (small.row.nodes as f64, large.row.nodes as f64);
        if few >= many {
            return Vec::new();
        }
        let bytes = |cell: &Cell<Self>| cell.row.figures.sent_bytes_per_node_s;
        let growth = bytes(large).zip(bytes(small)).map(|(l, s)| l / s);
        let what = format!("bytes of a node from {few} to {many} nodes");
        vec![Check::new(what, growth, many.ln() / few.ln(), "times")]
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        let chart = |title: &str, y: Axis, figure: fn(&Figures) -> Option<f64>| Chart {
            title: title.to_owned(),
            x: Axis::logarithmic("nodes"),
            y,
            series: series_by_detector(
                cells.iter(),
                |row| row.nodes as f64,
                |row| figure(&row.figures),
            ),
        };
        Chart::draw_all(
            "How each cost grows with the number of members",
            &[
                chart(
                    "steady state",
                    Axis::linear("bytes sent, a node and second"),
                    |it| it.sent_bytes_per_node_s,
                ),
                chart("one crashes", Axis::linear("s until all know"), |it| {
                    it.crash_all_know_p50_s
                }),
                chart("one joins", Axis::linear("s until all know"), |it| {
                    it.join_all_know_p50_s
                }),
            ],
        )
    }
}

impl scenario::ScenarioCase for Case {
    fn nodes(&self) -> usize {
        self.nodes
    }

    fn seconds(&self) -> f64 {
        50.0 + self.seconds as f64
    }

    fn label(&self) -> String {
        format!("{} nodes", self.nodes)
    }

    fn seeds_max(&self) -> u64 {
        match self.nodes {
            ..=1_000 => u64::MAX,
            1_001..=5_000 => 2,
            _ => 1,
        }
    }
}

/// Seconds until all others believe this of a member, from now on.
fn wait_until_known(cluster: &mut Cluster, subject: usize, to: MemberState) -> f64 {
    let (begin, mark) = (cluster.now(), cluster.transitions().len());
    let others = (0..cluster.len()).filter(|node| cluster.is_up(*node) && *node != subject);
    let others = others.count();
    while cluster.now().since(begin) < SPREAD_TIMEOUT {
        cluster.run_for(Duration::from_millis(500));
        let known = first_transitions(&cluster.transitions()[mark..], subject, to, begin);
        if known.len() >= others {
            return known
                .iter()
                .map(|(_, seconds)| *seconds)
                .fold(0.0, f64::max);
        }
    }
    f64::INFINITY
}

/// Longest wait until all members know.
const SPREAD_TIMEOUT: Duration = secs(120);
