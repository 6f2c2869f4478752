//! Ours beside its rivals, on the same seeds.

use std::time::Duration;

use proptest::prelude::*;
use rpcnet_swim::{ClusterConfig, ClusterKey, Event, MemberState};
use rpcnet_swim_sim::{SimConfig, SimReport, Violation, run, run_with_detector};
use xtask_sim::detector::{Cluster, Detector, Rule};

fn detector(name: &str) -> Detector {
    Detector::named(name).unwrap()
}

fn lan() -> ClusterConfig {
    ClusterConfig::lan().with_key(ClusterKey::from_bytes([7; 32]))
}

/// A cluster of nodes that start together.
fn started(seed: u64, nodes: usize, detector: Detector) -> Cluster {
    let mut cluster = Cluster::with_detector(seed, detector);
    cluster.add_nodes(nodes, &lan());
    cluster
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A cluster in which all know all, and rivals have found their seeds.
fn settled(seed: u64, nodes: usize, detector: Detector) -> Cluster {
    let mut cluster = started(seed, nodes, detector);
    cluster
        .run_until(secs(20), Cluster::is_converged)
        .expect("all know all");
    cluster.run_for(secs(5));
    cluster
}

fn state(cluster: &Cluster, observer: usize, node: usize) -> Option<MemberState> {
    cluster.view_of(observer, node).map(|member| member.state)
}

/// How often any node told that another one failed.
fn failures(cluster: &Cluster) -> usize {
    let events = (0..cluster.len()).flat_map(|node| cluster.events(node));
    events
        .filter(|(_, event)| matches!(event, Event::NodeFailed(_)))
        .count()
}

/// Median time from a crash until all know of it.
fn crash(nodes: usize, detector: &Detector) -> Duration {
    let mut took: Vec<_> = (0..7)
        .map(|seed| {
            let mut cluster = settled(seed, nodes, detector.clone());
            cluster.run_for(Duration::from_millis(137 * seed));
            cluster.crash(nodes - 1);
            let failed = |cluster: &Cluster, observer| {
                state(cluster, observer, nodes - 1) == Some(MemberState::Failed)
            };
            let known = |cluster: &Cluster| (0..nodes - 1).all(|n| failed(cluster, n));
            let took = cluster.run_until(secs(60), known);
            cluster.expect_safe();
            assert_eq!(cluster.report().false_failures, 0, "{}", detector.name());
            took.expect("all know within a minute")
        })
        .collect();
    took.sort_unstable();
    println!("N={nodes} {}: median {:?}", detector.name(), took[3]);
    took[3]
}

#[test]
fn each_detector_takes_its_time_for_a_crash() {
    // Over more seeds: 8.0 s with alpha 5, 4.6 with alpha 2, 2.7 ours.
    for (detector, from, to) in [
        (detector("swim"), 6_500, 10_000),
        (detector("lha-probe"), 6_500, 10_000),
        (detector("lha-suspicion"), 6_500, 10_000),
        (detector("buddy"), 6_500, 10_000),
        (detector("lifeguard-a5"), 6_500, 10_000),
        (detector("lifeguard-a4"), 5_500, 8_500),
        (detector("lifeguard-a2"), 3_000, 7_000),
        (detector("memberlist"), 5_500, 8_500),
        (Detector::rpcnet(), 1_500, 3_500),
    ] {
        let (from, to) = (Duration::from_millis(from), Duration::from_millis(to));
        let took = crash(16, &detector);
        let name = detector.name();
        assert!((from..=to).contains(&took), "{name}: {took:?}");
    }
}

/// How many failures there are after one of eight was blocked for 12 s and all calmed down: of
/// the blocked one, and of the seven others that nothing happened to.
fn block(detector: Detector) -> (usize, usize) {
    let mut cluster = settled(3, 8, detector);
    cluster.block(0);
    cluster.run_for(secs(12));
    cluster.resume(0);
    cluster.run_for(secs(60));
    let all = failures(&cluster);
    let failed = |name: &str| {
        let events = (0..8).flat_map(|node| cluster.events(node));
        events
            .filter(|(_, e)| matches!(e, Event::NodeFailed(m) if &*m.id.name == name))
            .count()
    };
    (failed("n0"), all - failed("n0"))
}

#[test]
fn a_blocked_observer_fails_no_member_unless_misses_need_no_witness() {
    let (_, benign) = block(Detector::rpcnet());
    assert_eq!(benign, 0);
    let (blocked, swim) = block(detector("swim"));
    assert!(blocked >= 7 && swim >= 7, "{blocked}, {swim}");
    let (_, benign) = block(detector("swim").with(Rule::Witness));
    assert_eq!(benign, 0, "the rule works in SWIM too");
    let (_, lifeguard) = block(detector("lifeguard-a5"));
    assert!(lifeguard < swim, "{lifeguard} of {swim}");
}

#[test]
fn a_member_declared_failed_by_mistake_recovers() {
    for detector in Detector::all() {
        let name = detector.name().to_owned();
        let mut cluster = settled(5, 8, detector);
        cluster.block(2);
        let failed = |cluster: &Cluster| state(cluster, 0, 2) == Some(MemberState::Failed);
        cluster.run_until(secs(40), failed).expect("it is silent");
        cluster.run_for(secs(2));
        cluster.resume(2);
        let took = cluster.run_until(secs(120), Cluster::is_converged);
        println!("{name}: back after {took:?}");
        assert!(took.is_some(), "{name}: {:?}", cluster.difference());
        cluster.expect_safe();
    }
}

#[test]
fn rivals_exchange_their_full_state_now_and_then() {
    let syncs = |nodes, detector| {
        let mut cluster = started(1, nodes, detector);
        cluster.check_every(100);
        cluster.run_for(secs(30 + 30));
        let syncs = |cluster: &Cluster| -> u64 {
            let stats = (0..nodes).map(|n| cluster.engine(n).unwrap().stats());
            stats.map(|stats| stats.syncs).sum()
        };
        let before = syncs(&cluster);
        cluster.run_for(secs(120));
        syncs(&cluster) - before
    };
    assert_eq!(syncs(10, detector("memberlist")), 10 * 4);
    assert_eq!(syncs(40, detector("swim")), 40 * 2);
    assert_eq!(syncs(10, Detector::rpcnet()), 0, "the views are equal");
}

#[test]
fn a_partition_that_outlasts_the_memory_of_rivals_never_heals() {
    let heals = |detector| {
        let mut cluster = settled(2, 10, detector);
        let (left, right): (Vec<_>, Vec<_>) = (0..10).partition(|node| *node < 5);
        for a in &left {
            for b in &right {
                cluster.network().cut(*a, *b);
                cluster.network().cut(*b, *a);
            }
        }
        cluster.run_for(secs(120));
        for a in &left {
            for b in &right {
                cluster.network().restore(*a, *b);
                cluster.network().restore(*b, *a);
            }
        }
        cluster.run_until(secs(120), Cluster::is_converged)
    };
    assert!(heals(Detector::rpcnet()).is_some_and(|took| took < secs(10)));
    assert_eq!(heals(detector("memberlist")), None);
}

/// Rivals may fail to agree for ever; what they may not is break what no view may.
#[test]
fn rivals_are_safe_whatever_happens() {
    for detector in Detector::all().into_iter().filter(Detector::is_rival) {
        for seed in 0..2 {
            let plan = SimConfig::swarm()
                .with_nodes(8)
                .with_fault_duration(secs(40))
                .with_config(lan());
            let report = run_with_detector(seed, plan, detector.clone());
            if let Some(failure) = report.failure {
                let agreed = matches!(failure.violation, Violation::NotConverged { .. });
                assert!(agreed, "{} with seed {seed}: {failure}", detector.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn ours_among_the_compared_detectors_is_the_engines_own(
        seed in any::<u64>(),
        nodes in 2usize..12,
    ) {
        let plan = || {
            let plan = SimConfig::swarm().with_nodes(nodes).with_fault_duration(secs(20));
            plan.with_config(ClusterConfig::lan())
        };
        let trace = |report: SimReport| (report.trace, report.sent, report.sent_bytes);
        let own = trace(run(seed, plan()));
        let compared = run_with_detector(seed, plan(), Detector::rpcnet());
        prop_assert_eq!(trace(compared), own);
    }
}
