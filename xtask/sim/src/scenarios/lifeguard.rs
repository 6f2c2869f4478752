//! Grid of Lifeguard's experiments (Dadgar et al. 2017, section V): members whose messages
//! are withheld again and again.

use std::time::Duration;

use serde::Serialize;
use xtask_report::{Axis, Chart, Series, format_table, median, number};

use crate::{
    check::Check,
    cluster_setup::{SafetyViolation, check_safety, settled_cluster},
    detector::{Detector, OURS},
    fault_impact::{FaultImpact, ImpactMeter},
    scenario::{self, Cell, Columns, Extent, Scenario, Trial},
};

/// Members that are blocked, all at the same time, and then not, over and over. Their timers run
/// all the while: to them it seems that all others are gone.
#[derive(Debug)]
pub(crate) struct Lifeguard;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    members_blocked: usize,
    blocked_ms: u64,
    normal_ms: u64,
    #[serde(skip)]
    seconds: u64,
}

/// Medians over the seeds.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Failures held of members that are never blocked, in all views.
    false_failed_healthy: f64,
    /// Failures of members that are never blocked, in the views of members that are never blocked.
    false_failed_healthy_at_healthy: f64,
    /// Failures held of members that are blocked now and then.
    false_failed_blocked: f64,
    messages: f64,
    bytes: f64,
}

impl Scenario for Lifeguard {
    type Case = Case;
    type Sample = FaultImpact;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        "lifeguard"
    }

    fn title(&self) -> &'static str {
        "members whose messages are withheld again and again"
    }

    fn detectors(&self) -> Vec<Detector> {
        Detector::all()
    }

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let counts: &[usize] = extent.pick(&[4, 16], &[1, 4, 8, 16, 32]);
        let blocked: &[u64] = extent.pick(&[2_000, 32_000], &[500, 2_000, 8_000, 32_000]);
        let normal: &[u64] = extent.pick(&[4_000], &[64, 4_000, 16_000]);
        let mut cases = Vec::new();
        for members_blocked in counts.iter().copied() {
            for blocked_ms in blocked.iter().copied() {
                cases.extend(normal.iter().map(|normal_ms| Case {
                    nodes: 128,
                    members_blocked,
                    blocked_ms,
                    normal_ms: *normal_ms,
                    seconds: extent.pick(80, 150),
                }));
            }
        }
        cases
    }

    fn seeds(&self, extent: Extent) -> u64 {
        extent.pick(1, 5)
    }

    fn run(&self, trial: &Trial<'_, Case>) -> Result<FaultImpact, SafetyViolation> {
        let case = trial.case;
        let mut cluster = settled_cluster(trial)?;
        let nodes = cluster.len();
        let blocked = trial.rng().choose_multiple(0..nodes, case.members_blocked);
        let mut faulty = vec![false; nodes];
        blocked.iter().for_each(|node| faulty[*node] = true);
        let meter = ImpactMeter::new(&cluster);
        let end = cluster.now() + Duration::from_secs(case.seconds);
        while cluster.now() < end {
            let rest = |millis| Duration::from_millis(millis).min(end.since(cluster.now()));
            let time = rest(case.blocked_ms);
            blocked.iter().for_each(|node| cluster.block(*node));
            cluster.run_for(time);
            blocked.iter().for_each(|node| cluster.resume(*node));
            let rest = |millis| Duration::from_millis(millis).min(end.since(cluster.now()));
            let time = rest(case.normal_ms);
            cluster.run_for(time);
        }
        check_safety(&cluster)?;
        Ok(meter.read(&cluster, &faulty))
    }

    fn figures(&self, _: &Case, samples: &[FaultImpact]) -> Figures {
        let of = |figure: fn(&FaultImpact) -> u64| {
            let figures = samples.iter().map(|impact| figure(impact) as f64);
            median(figures.collect()).unwrap_or_default()
        };
        Figures {
            false_failed_healthy: of(|it| it.false_failed_healthy),
            false_failed_healthy_at_healthy: of(|it| it.false_failed_healthy_at_healthy),
            false_failed_blocked: of(|it| it.failed_faulty),
            messages: of(|it| it.messages),
            bytes: of(|it| it.bytes),
        }
    }

    fn columns(&self) -> Columns<Self> {
        Columns::<Self>::new()
            .with("blocked", |row| row.case.members_blocked.to_string())
            .with("blocked ms", |row| row.case.blocked_ms.to_string())
            .with("normal ms", |row| row.case.normal_ms.to_string())
            .with("FPh", |row| number(row.figures.false_failed_healthy))
            .with("FPa", |row| number(row.figures.false_failed_blocked))
    }

    /// The whole grid together: in per cent of SWIM's, the median of the seeds.
    fn table(&self, cells: &[Cell<Self>]) -> String {
        let heading = [
            "detector",
            "FPh",
            "FPh %",
            "FPh- %",
            "FPa %",
            "messages %",
            "bytes %",
        ];
        let mut lines = vec![heading.map(str::to_owned).to_vec()];
        for detector in detectors(cells) {
            let count = median(totals(cells, detector, FPH)).map_or_else(String::new, number);
            let shares = [FPH, FPH_AT_HEALTHY, FPA, MESSAGES, BYTES];
            let shares = shares.map(|figure| percent(percent_of_swim(cells, detector, figure)));
            lines.push(
                [detector.to_owned(), count]
                    .into_iter()
                    .chain(shares)
                    .collect(),
            );
        }
        format!(
            "FPh: failures held of members never blocked; FPh-: those at members never blocked; \
             FPa: of members blocked\n{}",
            format_table(&lines)
        )
    }

    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
        let check = |what: &str, figure, at_most| {
            let share = percent_of_swim(cells, OURS, figure);
            Check::new(format!("{what}, of SWIM's"), share, at_most, "%")
        };
        if !detectors(cells).contains(&SWIM) || !detectors(cells).contains(&OURS) {
            return Vec::new();
        }
        vec![
            check("failures held of healthy members", FPH, 0.01),
            check("bytes", BYTES, 98.0),
            check("messages", MESSAGES, 160.0),
        ]
    }

    fn figure(&self, cells: &[Cell<Self>]) -> String {
        let chart = |title: &str, figure: fn(&Figures) -> f64| {
            let series = detectors(cells).into_iter().map(|detector| Series {
                name: detector.to_owned(),
                points: over_blocked(cells, detector, figure),
                ours: detector == OURS,
            });
            Chart {
                title: title.to_owned(),
                x: Axis::logarithmic("members blocked, of 128"),
                y: Axis::logarithmic("failures").with_zero(),
                series: series.collect(),
            }
        };
        Chart::draw_all(
            "Failures held of members that are up, over all lengths of blocks",
            &[
                chart("of members never blocked", |it| it.false_failed_healthy),
                chart("of members blocked", |it| it.false_failed_blocked),
            ],
        )
    }
}

impl scenario::ScenarioCase for Case {
    fn nodes(&self) -> usize {
        self.nodes
    }

    fn seconds(&self) -> f64 {
        self.seconds as f64 * (1.0 + self.members_blocked as f64 / 8.0)
    }

    fn label(&self) -> String {
        let Self {
            members_blocked,
            blocked_ms,
            normal_ms,
            ..
        } = self;
        format!("{members_blocked} blocked for {blocked_ms} ms, not for {normal_ms} ms")
    }
}

type CountOf = fn(&FaultImpact) -> u64;

const FPH: CountOf = |it| it.false_failed_healthy;
const FPH_AT_HEALTHY: CountOf = |it| it.false_failed_healthy_at_healthy;
const FPA: CountOf = |it| it.failed_faulty;
const MESSAGES: CountOf = |it| it.messages;
const BYTES: CountOf = |it| it.bytes;

/// Names of the detectors, in the order of the cells.
fn detectors(cells: &[Cell<Lifeguard>]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for cell in cells {
        if !names.contains(&&*cell.row.detector) {
            names.push(&cell.row.detector);
        }
    }
    names
}

/// The sum over the grid, for each seed.
fn totals(cells: &[Cell<Lifeguard>], detector: &str, count: CountOf) -> Vec<f64> {
    let mut totals = Vec::new();
    for cell in cells.iter().filter(|cell| cell.row.detector == detector) {
        totals.resize(totals.len().max(cell.samples.len()), 0.0);
        for (total, impact) in totals.iter_mut().zip(&cell.samples) {
            *total += count(impact) as f64;
        }
    }
    totals
}

/// The median over the seeds; none if SWIM has nothing of it, or was not run. Nothing is 0 % of
/// anything.
fn percent_of_swim(cells: &[Cell<Lifeguard>], detector: &str, count: CountOf) -> Option<f64> {
    let own = totals(cells, detector, count);
    let swim = totals(cells, SWIM, count);
    let shares = own.iter().zip(&swim).map(|(own, swim)| match own {
        0.0 => 0.0,
        own => 100.0 * own / swim,
    });
    median(shares.collect()).filter(|share| share.is_finite())
}

fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(small) if small > 0.0 && small < 0.1 => format!("{small:.4}"),
        Some(share) => number(share),
    }
}

/// The sum of the rows, for each number of blocked members.
fn over_blocked(
    cells: &[Cell<Lifeguard>],
    detector: &str,
    figure: fn(&Figures) -> f64,
) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for Cell { row, .. } in cells.iter().filter(|cell| cell.row.detector == detector) {
        let (x, y) = (row.case.members_blocked as f64, figure(&row.figures));
        match points.last_mut().filter(|last| last.0 == x) {
            Some(last) => last.1 += y,
            None => points.push((x, y)),
        }
    }
    points
}

/// Detector that all others are compared with.
const SWIM: &str = "swim";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::Row;

    fn cell(detector: &str, members_blocked: usize, failed: [u64; 3]) -> Cell<Lifeguard> {
        let case = Case {
            nodes: 128,
            members_blocked,
            blocked_ms: 500,
            normal_ms: 64,
            seconds: 150,
        };
        let impact = |failed| FaultImpact {
            false_failed_healthy: failed,
            bytes: 10,
            ..FaultImpact::default()
        };
        let samples = failed.map(impact).to_vec();
        Cell {
            row: Row {
                scenario: Lifeguard.name(),
                detector: detector.to_owned(),
                nodes: 128,
                seeds: 3,
                figures: Lifeguard.figures(&case, &samples),
                case,
            },
            samples,
        }
    }

    fn grid() -> Vec<Cell<Lifeguard>> {
        vec![
            cell("swim", 1, [100, 200, 300]),
            cell("rpcnet", 1, [0, 1, 0]),
            cell("swim", 4, [300, 200, 100]),
            cell("rpcnet", 4, [4, 1, 0]),
        ]
    }

    #[test]
    fn the_full_grid_is_that_of_the_experiments() {
        let cases = Lifeguard.cases(Extent::Full);
        assert_eq!(cases.len(), 5 * 4 * 3);
        assert_eq!(Lifeguard.detectors().len(), 9);
    }

    #[test]
    fn shares_are_medians_of_the_seeds_sums() {
        let cells = grid();
        assert_eq!(totals(&cells, "swim", FPH), [400.0, 400.0, 400.0]);
        // 4, 2 and 0 of 400.
        assert_eq!(percent_of_swim(&cells, "rpcnet", FPH), Some(0.5));
        assert_eq!(percent_of_swim(&cells, "rpcnet", BYTES), Some(100.0));
        assert_eq!(percent_of_swim(&cells, "rpcnet", MESSAGES), Some(0.0));
        let only_ours = [cell("swim", 1, [0; 3]), cell("rpcnet", 1, [1; 3])];
        assert_eq!(percent_of_swim(&only_ours, "rpcnet", FPH), None);
        let checks = Lifeguard.checks(&cells);
        assert!(checks[0].is_missed_beyond_noise() && !checks[1].is_met());
        assert!(
            Lifeguard.checks(&cells[1..2]).is_empty(),
            "nothing to compare with"
        );
        let table = Lifeguard.table(&cells);
        assert!(table.contains("rpcnet    2.00   0.50"), "{table}");
    }

    #[test]
    fn a_row_has_the_agreed_fields() {
        let row = serde_json::to_value(&cell("rpcnet", 4, [4, 1, 0]).row).unwrap();
        assert_eq!(
            row,
            json!({
                "scenario": "lifeguard", "detector": "rpcnet", "nodes": 128, "seeds": 3,
                "members_blocked": 4, "blocked_ms": 500, "normal_ms": 64,
                "false_failed_healthy": 1.0, "false_failed_healthy_at_healthy": 0.0,
                "false_failed_blocked": 0.0, "messages": 0.0, "bytes": 10.0,
            })
        );
    }
}
