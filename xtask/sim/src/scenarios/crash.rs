//! Crash: time until members know of a crash.

use std::time::Duration;

use rpcnet_swim::MemberState;
use rpcnet_swim_sim::Link;
use xtask_report::Chart;

use crate::{
    check::Check,
    cluster_setup::{
        SafetyViolation, all_views_full, check_safety, secs, settled_cluster, wait_for_recovery,
        wait_until_known,
    },
    detector::Cluster,
    experiment::Cell,
    measure::{Aggregate, Measure, Sample},
    options::Extent,
    render::{chart_over_nodes, table},
    row::Column,
    scenario::{Case, Scenario, Trial},
};

/// Members that crash; when all others know of them they start again, and after a while the next
/// ones crash.
pub(crate) static CRASH: Scenario = Scenario {
    name: "crash",
    help: "Crash of one member or of many at once: time until members know of it",
    title: "time from a crash until all members know of it",
    detectors: &["swim", "lifeguard-a5", "lifeguard-a2", "rpcnet"],
    seeds: (2, 5),
    cases,
    table: |cells| table(&COLUMNS, cells),
    checks: |cells| {
        let ours = cells.iter().filter(|cell| cell.is_ours());
        let false_failed = ours
            .filter_map(|cell| cell.number("false_failed"))
            .sum::<f64>();
        vec![Check::new(
            "members up and held failed",
            false_failed,
            0.0,
            "",
        )]
    },
    figure,
};

static MEASURES: [Measure; 5] = [
    Measure::new("crashes", Aggregate::Count, "all_know_s"),
    Measure::new("first_p50_s", Aggregate::Median, "first_knows_s"),
    Measure::new("all_know_p50_s", Aggregate::Median, "all_know_s"),
    Measure::new("all_know_p99_s", Aggregate::P99, "all_know_s"),
    // Failures held of members that were up, in all views of all runs.
    Measure::new("false_failed", Aggregate::WholeSum, "false_failed"),
];

static COLUMNS: [Column; 8] = [
    Column::plain("loss %", "loss_percent"),
    Column::new("link", "link"),
    Column::plain("crashed", "crashed"),
    Column::new("first p50 s", "first_p50_s"),
    Column::new("all p50 s", "all_know_p50_s"),
    Column::new("all p99 s", "all_know_p99_s"),
    Column::plain("crashes", "crashes"),
    Column::plain("false failed", "false_failed"),
];

fn cases(extent: Extent) -> Vec<Case> {
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
            for link in links {
                let rounds = |loss_percent: f64| match alone {
                    // Much is sent where much is lost.
                    true if nodes >= 512 && loss_percent > 5.0 => 2,
                    true => extent.pick(3, 10),
                    false => 1,
                };
                let case = |loss: &f64| case(nodes, crashed, link, *loss, rounds(*loss));
                cases.extend(losses.iter().map(case));
            }
        }
    }
    if extent == Extent::Full {
        cases.push(case(LARGEST, 1, "lan", 0.0, 1).for_ours_alone());
    }
    cases
}

/// Crashes of so many members at the same time, in so many rounds.
fn case(nodes: usize, crashed: usize, link: &'static str, loss_percent: f64, rounds: u64) -> Case {
    let label = format!("{crashed} of {nodes}, {link}, {loss_percent} % lost");
    let lossy_link = match link {
        "wan" => Link::wan(),
        _ => Link::lan(),
    }
    .with_loss(loss_percent / 100.0);
    let run = move |trial: &Trial<'_>| run(trial, crashed, lossy_link, rounds);
    let case = Case::new(nodes, label, &MEASURES, run)
        .with_seconds((25.0 + 20.0 * rounds as f64) * (1.0 + loss_percent / 5.0))
        .with_seeds_max(match nodes {
            ..512 => u64::MAX,
            LARGEST => 1,
            _ if loss_percent > 5.0 => 1,
            _ => 2,
        })
        .with_field("loss_percent", loss_percent)
        .with_field("link", link)
        .with_field("crashed", crashed);
    let (median_s, p99_s) = match nodes {
        _ if crashed > 1 || link != "lan" || loss_percent > 5.0 => return case,
        2 | 3 | 5 if loss_percent == 0.0 => (6.0, None),
        128 => (3.5, Some(6.0)),
        1_000 => (5.0, Some(6.5)),
        _ => return case,
    };
    let case = case.with_target("all know, median", median_s, "s", |row| {
        row.number("all_know_p50_s")
    });
    match p99_s {
        Some(p99_s) => case.with_target("p99", p99_s, "s", |row| row.number("all_know_p99_s")),
        None => case,
    }
}

fn run(
    trial: &Trial<'_>,
    crashed: usize,
    link: Link,
    rounds: u64,
) -> Result<Sample, SafetyViolation> {
    let mut rng = trial.rng();
    let mut cluster = settled_cluster(trial)?;
    cluster.network().default = link;
    cluster.run_for(secs(10));
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        cluster.run_for(Duration::from_millis(rng.u64(5_000..7_000)));
        let victims = rng.choose_multiple(0..trial.nodes, crashed);
        for (first_s, all_s) in crash(&mut cluster, &victims) {
            first.push(first_s);
            all.push(all_s);
        }
        check_safety(&cluster)?;
        victims.iter().for_each(|node| cluster.restart(*node));
        // Under loss there is always a suspicion somewhere.
        cluster.run_until(secs(30), all_views_full);
    }
    let false_failed = cluster.report().false_failures;
    cluster.network().default = Link::lan();
    wait_for_recovery(&mut cluster, trial, Duration::ZERO)?;
    Ok(Sample::default()
        .with_all("first_knows_s", first)
        .with_all("all_know_s", all)
        .with("false_failed", false_failed as f64))
}

/// Stops these at once and watches until all others know of all of them.
fn crash(cluster: &mut Cluster, victims: &[usize]) -> Vec<(f64, f64)> {
    victims.iter().for_each(|node| cluster.crash(*node));
    wait_until_known(
        cluster,
        victims,
        MemberState::Failed,
        secs(1),
        DETECTION_TIMEOUT,
    )
}

fn figure(_: &str, cells: &[Cell]) -> String {
    let chart = |title: &str, percent: f64| {
        let alone = cells.iter().filter(|Cell { row, .. }| {
            row.number("crashed") == Some(1.0)
                && row.text("link") == "lan"
                && row.number("loss_percent") == Some(percent)
        });
        let y = "s until all know, median";
        chart_over_nodes(title, y, "all_know_p50_s", alone)
    };
    Chart::draw_all(
        "From a crash until all know",
        &[chart("nothing lost", 0.0), chart("5 % lost", 5.0)],
    )
}

/// Members of the largest cluster.
const LARGEST: usize = 10_000;
/// Longest wait until all members know.
const DETECTION_TIMEOUT: Duration = secs(180);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_tell_cases_apart() {
        for extent in [Extent::Quick, Extent::Full] {
            let cases = cases(extent);
            let labels: std::collections::BTreeSet<_> =
                cases.iter().map(|case| &case.label).collect();
            assert_eq!(labels.len(), cases.len());
        }
    }
}
