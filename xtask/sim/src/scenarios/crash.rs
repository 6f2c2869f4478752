//! Crash: time until members know of a crash.

use std::time::Duration;

use rpcnet_swim::MemberState;
use rpcnet_swim_sim::Link;
use serde::Serialize;
use xtask_report::{Axis, Chart, median, quantile};

use crate::{
    check::Check,
    cluster_setup::{
        SafetyViolation, all_views_full, check_safety, first_transitions, secs, settled_cluster,
        wait_for_recovery,
    },
    detector::{Cluster, Detector, detectors_named},
    render::{number_or_never, series_by_detector},
    scenario::{self, Cell, Columns, Extent, Scenario, ScenarioCase as _, Trial},
};

/// Members that crash; when all others know of them they start again, and after a while the next
/// ones crash.
#[derive(Debug)]
pub(crate) struct Crash;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    loss_percent: f64,
    link: &'static str,
    /// At the same time.
    crashed: usize,
    /// Rounds of crashes in one run.
    #[serde(skip)]
    rounds: usize,
}

/// Detection of each crash.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Seconds until the first observer held it failed.
    first: Vec<f64>,
    /// Seconds until all did; infinite if not within [`LIMIT`].
    all: Vec<f64>,
    false_failures: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    crashes: usize,
    first_p50_s: Option<f64>,
    all_know_p50_s: Option<f64>,
    all_know_p99_s: Option<f64>,
    /// Failures held of members that were up, in all views of all runs.
    false_failed: u64,
}

impl Scenario for Crash {
    type Case = Case;
    type Sample = Sample;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        "crash"
    }

    fn title(&self) -> &'static str {
        "time from a crash until all members know of it"
    }

    fn detectors(&self) -> Vec<Detector> {
        detectors_named(&["swim", "lifeguard-a5", "lifeguard-a2", "rpcnet"])
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let sizes: &[usize] = extent.pick(&[2, 3, 5, 16, 128], &[2, 3, 5, 16, 128, 512, 1_000]);
        let mut cases = Vec::new();
        for nodes in sizes.iter().copied() {
            // Few at a time, or the rest would be no cluster.
            let mut at_once = vec![1];
            if nodes >= 16 {
                at_once.extend([(nodes / 10).max(2), nodes / 2]);
            }
            for crashed in at_once {
                let alone = crashed == 1;
                let losses: &[f64] = match extent {
                    Extent::Quick if alone => &[0.0, 5.0],
                    Extent::Quick => &[0.0],
                    Extent::Full if nodes >= 512 && !alone => &[0.0, 5.0],
                    Extent::Full => &[0.0, 1.0, 5.0, 30.0],
                };
                let links = match extent {
                    Extent::Full if alone => &["lan", "wan"][..],
                    _ => &["lan"],
                };
                for link in links.iter().copied() {
                    cases.extend(losses.iter().map(|loss_percent| Case {
                        nodes,
                        loss_percent: *loss_percent,
                        link,
                        crashed,
                        rounds: match alone {
                            // Much is sent where much is lost.
                            true if nodes >= 512 && *loss_percent > 5.0 => 2,
                            true => extent.pick(3, 10),
                            false => 1,
                        },
                    }));
                }
            }
        }
        cases
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(2, 5)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<Sample, SafetyViolation> {
        let case = trial.case;
        let mut rng = trial.rng();
        let mut cluster = settled_cluster(trial)?;
        cluster.network().default = match case.link {
            "wan" => Link::wan(),
            _ => Link::lan(),
        }
        .with_loss(case.loss_percent / 100.0);
        cluster.run_for(secs(10));
        let mut sample = Sample {
            first: Vec::new(),
            all: Vec::new(),
            false_failures: 0,
        };
        for _ in 0..case.rounds {
            cluster.run_for(Duration::from_millis(rng.u64(5_000..7_000)));
            let victims = rng.choose_multiple(0..case.nodes, case.crashed);
            self.crash(&mut cluster, &victims, &mut sample);
            check_safety(&cluster)?;
            victims.iter().for_each(|node| cluster.restart(*node));
            // Under loss there is always a suspicion somewhere.
            cluster.run_until(secs(30), all_views_full);
        }
        sample.false_failures = cluster.report().false_failures;
        cluster.network().default = Link::lan();
        wait_for_recovery(&mut cluster, trial, Duration::ZERO)?;
        Ok(sample)
    }

    fn figures(&self, _: &Case, samples: &[Sample]) -> Figures {
        let first = || samples.iter().flat_map(|it| &it.first).copied().collect();
        let all = || -> Vec<f64> { samples.iter().flat_map(|it| &it.all).copied().collect() };
        let known = |seconds: &f64| seconds.is_finite();
        Figures {
            crashes: all().len(),
            first_p50_s: median(first()).filter(known),
            all_know_p50_s: median(all()).filter(known),
            all_know_p99_s: quantile(all(), 0.99).filter(known),
            false_failed: samples.iter().map(|it| it.false_failures).sum(),
        }
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("loss %", |row| row.case.loss_percent.to_string())
            .with("link", |row| row.case.link.to_owned())
            .with("crashed", |row| row.case.crashed.to_string())
            .with("first p50 s", |row| {
                number_or_never(row.figures.first_p50_s)
            })
            .with("all p50 s", |row| {
                number_or_never(row.figures.all_know_p50_s)
            })
            .with("all p99 s", |row| {
                number_or_never(row.figures.all_know_p99_s)
            })
            .with("crashes", |row| row.figures.crashes.to_string())
            .with("false failed", |row| row.figures.false_failed.to_string())
    }

    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let mut checks = Vec::new();
        for cell in cells.iter().filter(|cell| cell.is_ours()) {
            let (case, figures) = (&cell.row.case, &cell.row.figures);
            let (median_s, p99_s) = match case.nodes {
                _ if case.crashed > 1 || case.link != "lan" || case.loss_percent > 5.0 => continue,
                2 | 3 | 5 if case.loss_percent == 0.0 => (6.0, None),
                128 => (3.5, Some(6.0)),
                1_000 => (5.0, Some(6.5)),
                _ => continue,
            };
            let what = case.label();
            checks.push(Check::new(
                format!("{what}: all know, median"),
                figures.all_know_p50_s,
                median_s,
                "s",
            ));
            checks.extend(p99_s.map(|bound| {
                Check::new(format!("{what}: p99"), figures.all_know_p99_s, bound, "s")
            }));
        }
        let false_failed = cells.iter().filter(|cell| cell.is_ours());
        let false_failed: u64 = false_failed.map(|cell| cell.row.figures.false_failed).sum();
        checks.push(Check::new(
            "members up and held failed",
            false_failed as f64,
            0.0,
            "",
        ));
        checks
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        let alone = |cell: &&Cell<Self>| cell.row.case.crashed == 1 && cell.row.case.link == "lan";
        let over_nodes = |percent: f64| {
            let cells = cells.iter().filter(alone);
            cells.filter(move |cell| cell.row.case.loss_percent == percent)
        };
        let chart = |title: &str, percent| Chart {
            title: title.to_owned(),
            x: Axis::logarithmic("nodes"),
            y: Axis::linear("s until all know, median"),
            series: series_by_detector(
                over_nodes(percent),
                |row| row.nodes as f64,
                |row| row.figures.all_know_p50_s,
            ),
        };
        Chart::draw_all(
            "From a crash until all know",
            &[chart("nothing lost", 0.0), chart("5 % lost", 5.0)],
        )
    }
}

impl Crash {
    /// Stops these at once and watches until all others know of all of them.
    fn crash(&self, cluster: &mut Cluster, victims: &[usize], sample: &mut Sample) {
        let begin = cluster.now();
        victims.iter().for_each(|node| cluster.crash(*node));
        let mark = cluster.transitions().len();
        let observers = (0..cluster.len())
            .filter(|node| cluster.is_up(*node))
            .count();
        let mut known: Vec<Vec<f64>> = vec![Vec::new(); victims.len()];
        while known.iter().any(|by| by.len() < observers)
            && cluster.now().since(begin) < DETECTION_TIMEOUT
        {
            cluster.run_for(secs(1));
            let transitions = &cluster.transitions()[mark..];
            let when = |victim: &usize| {
                let learnt = first_transitions(transitions, *victim, MemberState::Failed, begin);
                learnt.into_iter().map(|(_, seconds)| seconds).collect()
            };
            known = victims.iter().map(when).collect();
        }
        for by in known {
            let first = by.iter().copied().fold(f64::INFINITY, f64::min);
            let all = match by.len() >= observers {
                true => by.iter().copied().fold(0.0, f64::max),
                false => f64::INFINITY,
            };
            sample.first.push(first);
            sample.all.push(all);
        }
    }
}

impl scenario::ScenarioCase for Case {
    fn nodes(&self) -> usize {
        self.nodes
    }

    fn seconds(&self) -> f64 {
        (25.0 + 20.0 * self.rounds as f64) * (1.0 + self.loss_percent / 5.0)
    }

    fn seeds_max(&self) -> u64 {
        match self.nodes {
            ..512 => u64::MAX,
            _ if self.loss_percent > 5.0 => 1,
            _ => 2,
        }
    }

    fn label(&self) -> String {
        let Self {
            nodes,
            loss_percent,
            link,
            crashed,
            ..
        } = self;
        format!("{crashed} of {nodes}, {link}, {loss_percent} % lost")
    }
}

/// Longest wait until all members know.
const DETECTION_TIMEOUT: Duration = secs(180);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_crash_that_is_not_known_everywhere_never_is() {
        let sample = |all: &[f64]| Sample {
            first: vec![1.0; all.len()],
            all: all.to_vec(),
            false_failures: 1,
        };
        let case = Case {
            nodes: 16,
            loss_percent: 5.0,
            link: "lan",
            crashed: 1,
            rounds: 2,
        };
        let figures = Crash.figures(&case, &[sample(&[2.0, 3.0]), sample(&[f64::INFINITY])]);
        let figures = serde_json::to_value(figures).unwrap();
        assert_eq!(
            figures,
            json!({
                "crashes": 3, "first_p50_s": 1.0, "all_know_p50_s": 3.0, "all_know_p99_s": Value::Null,
                "false_failed": 2,
            })
        );
        let case = serde_json::to_value(case).unwrap();
        assert_eq!(
            case,
            json!({ "loss_percent": 5.0, "link": "lan", "crashed": 1 })
        );
    }

    #[test]
    fn labels_tell_cases_apart() {
        for extent in [Extent::Quick, Extent::Full] {
            let cases = Crash.cases(extent);
            let labels: std::collections::BTreeSet<_> =
                cases.iter().map(|case| case.label()).collect();
            assert_eq!(labels.len(), cases.len());
        }
    }
}
