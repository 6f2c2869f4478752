//! Lifeguard: the grid of its experiments, in which messages of members are withheld repeatedly
//! (Dadgar et al. 2017, section V).

use std::time::Duration;

use xtask_report::{Axis, Chart, Series, median, number};

use crate::{
    check::Check,
    cluster_setup::{SafetyViolation, check_safety, choose_faulty, settled_cluster},
    detector::{self, OURS},
    experiment::{Cell, subjects},
    fault_impact::ImpactMeter,
    measure::{Aggregate, Measure, Sample},
    options::Extent,
    row::{self, Column, Row},
    scenario::{Case, Scenario, Trial},
};

/// Members that are blocked, all at the same time, and then not, over and over. Their timers run
/// all the while: to them it seems that all others are gone.
pub(crate) static LIFEGUARD: Scenario = Scenario {
    name: "lifeguard",
    help: "Grid of Lifeguard's experiments: members whose messages are withheld again and again",
    title: "members whose messages are withheld again and again",
    detectors: &detector::ALL,
    seeds: (1, 5),
    cases,
    table,
    checks,
    figure,
};

/// Members are healthy if they are never blocked.
static MEASURES: [Measure; 5] = [
    Measure::median(FPH),
    Measure::median(FPH_AT_HEALTHY),
    Measure::new("false_failed_blocked", Aggregate::Median, FPA),
    Measure::median(MESSAGES),
    Measure::median(BYTES),
];

fn cases(extent: Extent) -> Vec<Case> {
    let counts: &[usize] = extent.pick(&[4, 16], &[1, 4, 8, 16, 32]);
    let blocked: &[u64] = extent.pick(&[2_000, 32_000], &[500, 2_000, 8_000, 32_000]);
    let normal: &[u64] = extent.pick(&[4_000], &[64, 4_000, 16_000]);
    let seconds = extent.pick(80, 150);
    let mut cases = Vec::new();
    for count in counts.iter().copied() {
        for blocked_ms in blocked.iter().copied() {
            for normal_ms in normal.iter().copied() {
                let label = format!("{count} blocked for {blocked_ms} ms, not for {normal_ms} ms");
                let times = [blocked_ms, normal_ms].map(Duration::from_millis);
                let time = Duration::from_secs(seconds);
                let run = move |trial: &Trial<'_>| run(trial, count, times, time);
                let case = Case::new(128, label, &MEASURES, run)
                    .with_seconds(seconds as f64 * (1.0 + count as f64 / 8.0))
                    .with_field("members_blocked", count)
                    .with_field("blocked_ms", blocked_ms)
                    .with_field("normal_ms", normal_ms);
                cases.push(case);
            }
        }
    }
    cases
}

fn run(
    trial: &Trial<'_>,
    count: usize,
    [blocked, normal]: [Duration; 2],
    time: Duration,
) -> Result<Sample, SafetyViolation> {
    let mut cluster = settled_cluster(trial)?;
    let (chosen, faulty) = choose_faulty(trial, count);
    let meter = ImpactMeter::new(&cluster);
    let end = cluster.now() + time;
    while cluster.now() < end {
        chosen.iter().for_each(|node| cluster.block(*node));
        cluster.run_for(blocked.min(end.since(cluster.now())));
        chosen.iter().for_each(|node| cluster.resume(*node));
        cluster.run_for(normal.min(end.since(cluster.now())));
    }
    check_safety(&cluster)?;
    Ok(meter.read(&cluster, &faulty))
}

static COLUMNS: [Column; 7] = [
    Column::new("detector", "detector"),
    Column::new("FPh", "count"),
    Column::with_text("FPh %", FPH, percent),
    Column::with_text("FPh- %", FPH_AT_HEALTHY, percent),
    Column::with_text("FPa %", FPA, percent),
    Column::with_text("messages %", MESSAGES, percent),
    Column::with_text("bytes %", BYTES, percent),
];

/// The whole grid together: in per cent of SWIM's, the median of the seeds.
fn table(cells: &[Cell]) -> String {
    let row = |detector| {
        let count = median(totals(cells, detector, FPH));
        let row = Row::default()
            .with("detector", detector)
            .with("count", count);
        let shares = [FPH, FPH_AT_HEALTHY, FPA, MESSAGES, BYTES].into_iter();
        shares.fold(row, |row, values| {
            row.with(values, percent_of_swim(cells, detector, values))
        })
    };
    let rows: Vec<Row> = subjects(cells).into_iter().map(row).collect();
    format!(
        "FPh: failures held of members never blocked; FPh-: those at members never blocked; \
         FPa: of members blocked\n{}",
        row::table(&COLUMNS, &rows, "-")
    )
}

fn checks(cells: &[Cell]) -> Vec<Check> {
    let check = |what: &str, values, at_most| {
        let share = percent_of_swim(cells, OURS, values);
        Check::new(format!("{what}, of SWIM's"), share, at_most, "%")
    };
    let detectors = subjects(cells);
    if !detectors.contains(&SWIM) || !detectors.contains(&OURS) {
        return Vec::new();
    }
    vec![
        check("failures held of healthy members", FPH, 0.01),
        check("bytes", BYTES, 98.0),
        check("messages", MESSAGES, 160.0),
    ]
}

fn figure(_: &str, cells: &[Cell]) -> String {
    let chart = |title: &str, field: &str| {
        let point = |cell: &Cell| Some((cell.number("members_blocked")?, cell.number(field)?));
        let points = cells
            .iter()
            .filter_map(|cell| Some((&*cell.subject, point(cell)?)));
        let mut series = Series::by_name(points, OURS);
        // The sum of the rows, for each number of blocked members.
        for Series { points, .. } in &mut series {
            points.dedup_by(|next, sum| {
                let is_same = next.0 == sum.0;
                sum.1 += if is_same { next.1 } else { 0.0 };
                is_same
            });
        }
        Chart {
            title: title.to_owned(),
            x: Axis::logarithmic("members blocked, of 128"),
            y: Axis::logarithmic("failures").with_zero(),
            series,
        }
    };
    Chart::draw_all(
        "Failures held of members that are up, over all lengths of blocks",
        &[
            chart("of members never blocked", FPH),
            chart("of members blocked", "false_failed_blocked"),
        ],
    )
}

/// The sum over the grid, for each seed.
fn totals(cells: &[Cell], detector: &str, values: &str) -> Vec<f64> {
    let mut totals = Vec::new();
    for cell in cells.iter().filter(|cell| cell.subject == detector) {
        totals.resize(totals.len().max(cell.samples.len()), 0.0);
        for (total, impact) in totals.iter_mut().zip(&cell.samples) {
            *total += impact.values(values)[0];
        }
    }
    totals
}

/// The median over the seeds; none if SWIM has nothing of it, or was not run. Nothing is 0 % of
/// anything.
fn percent_of_swim(cells: &[Cell], detector: &str, values: &str) -> Option<f64> {
    let own = totals(cells, detector, values);
    let swim = totals(cells, SWIM, values);
    let shares = own.iter().zip(&swim).map(|(own, swim)| match own {
        0.0 => 0.0,
        own => 100.0 * own / swim,
    });
    median(shares.collect()).filter(|share| share.is_finite())
}

fn percent(share: f64) -> String {
    match share {
        small if small > 0.0 && small < 0.1 => format!("{small:.4}"),
        share => number(share),
    }
}

/// Failures held of healthy members, in all views.
const FPH: &str = "false_failed_healthy";
const FPH_AT_HEALTHY: &str = "false_failed_healthy_at_healthy";
/// Failures held of members that are blocked now and then.
const FPA: &str = "failed_faulty";
const MESSAGES: &str = "messages";
const BYTES: &str = "bytes";
/// Detector that all others are compared with.
const SWIM: &str = "swim";

#[cfg(test)]
mod tests {
    use super::*;

    /// Cell with a sample of each seed.
    fn cell(detector: &str, failed: [f64; 3]) -> Cell {
        let sample = |failed| {
            let none = [FPH_AT_HEALTHY, FPA, MESSAGES].into_iter();
            let sample = Sample::default().with(FPH, failed).with(BYTES, 10.0);
            none.fold(sample, |sample, name| sample.with(name, 0.0))
        };
        Cell {
            subject: detector.to_owned(),
            samples: failed.map(sample).to_vec(),
            ..Cell::default()
        }
    }

    fn grid() -> Vec<Cell> {
        vec![
            cell("swim", [100.0, 200.0, 300.0]),
            cell("rpcnet", [0.0, 1.0, 0.0]),
            cell("swim", [300.0, 200.0, 100.0]),
            cell("rpcnet", [4.0, 1.0, 0.0]),
        ]
    }

    #[test]
    fn the_full_grid_is_that_of_the_experiments() {
        assert_eq!(cases(Extent::Full).len(), 5 * 4 * 3);
    }

    #[test]
    fn shares_are_medians_of_the_seeds_sums() {
        let cells = grid();
        assert_eq!(totals(&cells, "swim", FPH), [400.0, 400.0, 400.0]);
        // 4, 2 and 0 of 400.
        assert_eq!(percent_of_swim(&cells, "rpcnet", FPH), Some(0.5));
        assert_eq!(percent_of_swim(&cells, "rpcnet", BYTES), Some(100.0));
        assert_eq!(percent_of_swim(&cells, "rpcnet", MESSAGES), Some(0.0));
        let only_ours = [cell("swim", [0.0; 3]), cell("rpcnet", [1.0; 3])];
        assert_eq!(percent_of_swim(&only_ours, "rpcnet", FPH), None);
        let of_grid = checks(&cells);
        assert!(of_grid[0].is_missed_beyond_noise() && !of_grid[1].is_met());
        assert!(checks(&cells[1..2]).is_empty(), "nothing to compare with");
        let table = table(&cells);
        assert!(table.contains("rpcnet    2.00   0.50"), "{table}");
    }

    #[test]
    fn small_shares_are_shown_with_more_digits() {
        assert_eq!([0.0, 0.005, 0.5].map(percent), ["0.00", "0.0050", "0.50"]);
    }
}
