//! Churn: members crash and new ones join, all the time.

use std::time::Duration;

use rpcnet_swim::{MemberState, Time};
use rpcnet_swim_sim::TransitionLog;
use serde::Serialize;
use xtask_report::{draw_bars_or, median, number, quantile};

use crate::{
    check::Check,
    cluster_setup::{
        SafetyViolation, check_safety, first_transitions, secs, settled_cluster, wait_for_recovery,
    },
    detector::{Cluster, Detector, detectors_named},
    render::{number_or_never, panel_by_detector},
    scenario::{self, Cell, Columns, Extent, Scenario, ScenarioCase as _, Trial},
};

/// Churn: each member that crashes is replaced by one of another name at another address.
#[derive(Debug)]
pub(crate) struct Churn;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    replaced_percent_per_minute: f64,
    seconds: u64,
}

#[derive(Debug)]
pub(crate) struct Sample {
    /// Seconds until all knew, of each crash; infinite if not all did by the end.
    crashes: Vec<f64>,
    /// Seconds until all knew, of each new member.
    joins: Vec<f64>,
    false_failed: u64,
    bytes: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    crashes: usize,
    crash_all_know_p50_s: Option<f64>,
    crash_all_know_p99_s: Option<f64>,
    join_all_know_p50_s: Option<f64>,
    join_all_know_p99_s: Option<f64>,
    /// Failures held of members that were up, in all views of all runs.
    false_failed: u64,
    sent_bytes_per_node_s: f64,
}

/// Join or crash of a member.
#[derive(Debug, Clone, Copy)]
struct MembershipChange {
    at: Time,
    node: usize,
    joined: bool,
}

impl Scenario for Churn {
    type Case = Case;
    type Sample = Sample;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        "churn"
    }

    fn title(&self) -> &'static str {
        "members crash and new ones join, all the time"
    }

    fn detectors(&self) -> Vec<Detector> {
        detectors_named(&["swim", "lifeguard-a5", "lifeguard-a2", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let sizes: &[usize] = extent.pick(&[128], &[128, 512]);
        let case = |nodes: &usize| Case {
            nodes: *nodes,
            replaced_percent_per_minute: 10.0,
            seconds: extent.pick(120, 300),
        };
        sizes.iter().map(case).collect()
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(1, 5)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<Sample, SafetyViolation> {
        let case = trial.case;
        let mut rng = trial.rng();
        let mut cluster = settled_cluster(trial)?;
        cluster.log_transitions(TransitionLog::All);
        let replaced_per_s = case.nodes as f64 * case.replaced_percent_per_minute / 100.0 / 60.0;
        let gap = Duration::from_secs_f64(1.0 / replaced_per_s);
        let (begin, before) = (cluster.now(), cluster.report().sent_bytes);
        let mut changes = Vec::new();
        let mut up: Vec<usize> = (0..case.nodes).collect();
        while cluster.now().since(begin) < secs(case.seconds) {
            let gone = up.swap_remove(rng.usize(..up.len()));
            cluster.crash(gone);
            let at = cluster.now();
            changes.push(MembershipChange {
                at,
                node: gone,
                joined: false,
            });
            cluster.run_for(gap / 2);
            let seeds = rng.choose_multiple(up.iter().copied(), 3);
            let seeds = seeds.into_iter().map(|node| cluster.addr(node)).collect();
            let at = cluster.now();
            let node = cluster.add(format!("n{}", cluster.len()), trial.config(), seeds);
            changes.push(MembershipChange {
                at,
                node,
                joined: true,
            });
            up.push(node);
            cluster.run_for(gap / 2);
            check_safety(&cluster)?;
        }
        let seconds = cluster.now().since(begin).as_secs_f64();
        let bytes = (cluster.report().sent_bytes - before) as f64;
        // The last ones become known.
        cluster.run_for(SETTLE_TIME);
        wait_for_recovery(&mut cluster, trial, Duration::ZERO)?;
        Ok(Sample {
            crashes: spread_times(&cluster, &changes, false),
            joins: spread_times(&cluster, &changes, true),
            false_failed: cluster.report().false_failures,
            bytes: bytes / case.nodes as f64 / seconds,
        })
    }

    fn figures(&self, _: &Case, samples: &[Sample]) -> Figures {
        let crashes = || -> Vec<f64> { samples.iter().flat_map(|it| it.crashes.clone()).collect() };
        let joins = || -> Vec<f64> { samples.iter().flat_map(|it| it.joins.clone()).collect() };
        let finite = |seconds: &f64| seconds.is_finite();
        let bytes = samples.iter().map(|it| it.bytes).collect();
        Figures {
            crashes: crashes().len(),
            crash_all_know_p50_s: median(crashes()).filter(finite),
            crash_all_know_p99_s: quantile(crashes(), 0.99).filter(finite),
            join_all_know_p50_s: median(joins()).filter(finite),
            join_all_know_p99_s: quantile(joins(), 0.99).filter(finite),
            false_failed: samples.iter().map(|it| it.false_failed).sum(),
            sent_bytes_per_node_s: median(bytes).unwrap_or_default(),
        }
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("crashes", |row| row.figures.crashes.to_string())
            .with("known p50 s", |row| {
                number_or_never(row.figures.crash_all_know_p50_s)
            })
            .with("p99 s", |row| {
                number_or_never(row.figures.crash_all_know_p99_s)
            })
            .with("joined p50 s", |row| {
                number_or_never(row.figures.join_all_know_p50_s)
            })
            .with("p99 s", |row| {
                number_or_never(row.figures.join_all_know_p99_s)
            })
            .with("false failed", |row| row.figures.false_failed.to_string())
            .with("B/s a node", |row| {
                number(row.figures.sent_bytes_per_node_s)
            })
    }

    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let ours = cells.iter().filter(|cell| cell.is_ours());
        let safe = ours.map(|cell| {
            let what = format!("{}: members up and held failed", cell.row.case.label());
            Check::new(what, cell.row.figures.false_failed as f64, 0.0, "")
        });
        safe.collect()
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        let mut labels: Vec<String> = cells.iter().map(|cell| cell.row.case.label()).collect();
        labels.dedup();
        let mut panels = Vec::new();
        for label in &labels {
            let of_case = || cells.iter().filter(|cell| cell.row.case.label() == *label);
            panels.push(panel_by_detector(
                format!("{label}: s until all know of a crash, median"),
                of_case(),
                |row| row.figures.crash_all_know_p50_s,
            ));
            panels.push(panel_by_detector(
                format!("{label}: s until all know of a newcomer, median"),
                of_case(),
                |row| row.figures.join_all_know_p50_s,
            ));
        }
        draw_bars_or("10 % of all members replaced a minute", &panels, "never")
    }
}

impl scenario::ScenarioCase for Case {
    fn nodes(&self) -> usize {
        self.nodes
    }

    fn seconds(&self) -> f64 {
        3.0 * self.seconds as f64
    }

    fn label(&self) -> String {
        format!("{} nodes", self.nodes)
    }
}

/// Seconds until all members that stayed up knew, of each join or of each crash.
fn spread_times(cluster: &Cluster, changes: &[MembershipChange], came: bool) -> Vec<f64> {
    let state = match came {
        true => MemberState::Alive,
        false => MemberState::Failed,
    };
    let of_kind = changes.iter().filter(|change| change.joined == came);
    let judged = of_kind.filter(|change| {
        // One that went at once again need not be known.
        !came || cluster.is_up(change.node)
    });
    judged
        .map(|change| {
            let since = |other: &&MembershipChange| other.at > change.at && other.joined;
            let newer: Vec<usize> = changes.iter().filter(since).map(|it| it.node).collect();
            let observers = (0..cluster.len()).filter(|node| {
                cluster.is_up(*node) && *node != change.node && !newer.contains(node)
            });
            let learnt = first_transitions(cluster.transitions(), change.node, state, change.at);
            observers
                .map(|observer| {
                    let found = learnt.iter().find(|(by, _)| *by == observer);
                    found.map_or(f64::INFINITY, |(_, seconds)| *seconds)
                })
                .fold(0.0, f64::max)
        })
        .collect()
}

/// Time after the last change.
const SETTLE_TIME: Duration = secs(60);
