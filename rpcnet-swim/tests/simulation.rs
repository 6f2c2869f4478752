//! Simulation of whole clusters through all kinds of faults, drawn from seeds.
//!
//! To replay a seed: `RPCNET_SIM_SEED=N cargo test -p rpcnet-swim --test simulation replay --
//! --nocapture`; to try many: `RPCNET_SIM_SEEDS=FROM..TO` with `band`.

use rpcnet_swim_sim::{SimConfig, SimReport, run};

/// Runs each seed on as many threads as there are processors.
fn run_all(seeds: std::ops::Range<u64>) -> Vec<SimReport> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let run_some = |first: u64| {
        let seeds = (seeds.start + first..seeds.end).step_by(threads as usize);
        seeds
            .map(|seed| run(seed, SimConfig::swarm()))
            .collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || run_some(first)))
            .collect();
        let reports = workers.into_iter().map(|worker| worker.join().unwrap());
        reports.flatten().collect()
    })
}

#[test]
fn seeds_of_the_fixed_band_hold() {
    let seeds = std::env::var("RPCNET_SIM_SEEDS").unwrap_or_else(|_| "0..40".to_owned());
    let (from, to) = seeds.split_once("..").expect("RPCNET_SIM_SEEDS=FROM..TO");
    let reports = run_all(from.parse().unwrap()..to.parse().unwrap());
    let failures: Vec<_> = reports
        .iter()
        .filter_map(|report| Some(report.failure.as_ref()?.with_replay(report.seed)))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));

    // A run without violations proves nothing unless faults happened.
    let total = |count: fn(&SimReport) -> u64| reports.iter().map(count).sum::<u64>();
    for (what, happened) in [
        ("loss", total(|r| r.lost)),
        ("duplication", total(|r| r.duplicated)),
        ("reordering", total(|r| r.overtaken)),
        ("cut datagrams", total(|r| r.cut)),
        ("crashes", total(|r| r.crashes)),
        ("restarts", total(|r| r.restarts)),
        ("renames", total(|r| r.renames)),
        ("stalls", total(|r| r.stalls)),
        ("blocks", total(|r| r.blocks)),
        ("half blocks", total(|r| r.half_blocks)),
        ("slow processes", total(|r| r.slow_nodes)),
        ("lossy nodes", total(|r| r.lossy_nodes)),
        ("one-way partitions", total(|r| r.one_way_partitions)),
        ("leaves", total(|r| r.leaves)),
        ("partitions", total(|r| r.partitions)),
        ("one-way cuts", total(|r| r.one_way_cuts)),
        ("tag changes", total(|r| r.tag_changes)),
        ("drains", total(|r| r.drains)),
        ("suspicions", total(|r| r.suspicions)),
        ("failures", total(|r| r.failures)),
        ("recoveries", total(|r| r.recoveries)),
        ("detected partitions", total(|r| r.partitions_detected)),
        ("checks", total(|r| r.checks)),
        ("changes checked", total(|r| r.changes_checked)),
        ("verdicts checked", total(|r| r.decisions_checked)),
    ] {
        println!("{what}: {happened}");
        assert!(happened > 0, "no {what}");
    }
    let mut took: Vec<_> = reports.iter().filter_map(|r| r.converged_after).collect();
    took.sort_unstable();
    let at = |share: f64| took[(share * (took.len() - 1) as f64) as usize];
    println!(
        "converged after {:?} / {:?} / {:?}",
        at(0.5),
        at(0.9),
        at(1.0)
    );
}

#[test]
fn replay() {
    let seed = std::env::var("RPCNET_SIM_SEED").map_or(1, |seed| seed.parse().unwrap());
    let report = run(seed, SimConfig::swarm());
    println!("{report:#?}");
    report.expect_ok();
}

#[test]
fn a_seed_run_twice_is_the_same_to_the_last_byte() {
    let first = run(4, SimConfig::swarm());
    assert!(first.steps > 1_000);
    assert_eq!(run(4, SimConfig::swarm()), first);
}
