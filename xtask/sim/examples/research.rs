//! Experiments behind `docs/research.md`: figures of rules that were tried.
//!
//! `cargo run --release -p xtask-sim --example research -- TOPIC [SEEDS [CASE]]`,
//! where the topic is `helpers`, `half-blocked` or `one-way`, and a case is one whose description
//! contains the text. Figures are sums over the seeds, or means where the heading says so.

use std::time::Duration;

use rpcnet_swim::{ClusterConfig, MemberState};
use rpcnet_swim_sim::{Link, OpenDirection};
use xtask_sim::detector::{Cluster, Detector};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seeds = args.get(1).and_then(|arg| arg.parse().ok()).unwrap_or(3);
    match args.first().map(String::as_str) {
        Some("helpers") => helpers(seeds, args.get(2).map_or("", String::as_str)),
        Some("half-blocked") => half_blocked(seeds),
        Some("one-way") => one_way(seeds),
        _ => {
            eprintln!("usage: research helpers|half-blocked|one-way [SEEDS]");
            std::process::exit(2);
        }
    }
}

/// Helpers that lie, or that cannot reach the target themselves. No member is ever down, so every
/// failure is a false one.
fn helpers(seeds: u64, text: &str) {
    println!(
        "| fault for 120 s | detector | false failures | declared | suspicions | misses | inconclusive rounds | B/s a node |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let cases = [
        (8, 0, 0.0),
        (32, 0, 0.0),
        (NODES, 0, 0.0),
        (0, 1, 0.05),
        (0, 6, 0.05),
        (0, 0, 0.3),
        (0, 6, 0.3),
        (32, 6, 0.0),
    ];
    for (observers, liars, loss) in cases {
        let case = format!(
            "{observers} cut from a third, {liars} liars, {:.0} % lost",
            100.0 * loss
        );
        if !case.contains(text) {
            continue;
        }
        for detector in [
            "lifeguard-a5",
            "rpcnet",
            "rpcnet-nacks2",
            "rpcnet-nacks2-zoned",
            "rpcnet-nacks3",
        ] {
            row(&case, detector, seeds, |cluster, rng| {
                for observer in 0..observers {
                    let mut others: Vec<_> = (0..NODES).collect();
                    rng.shuffle(&mut others);
                    for other in others.into_iter().take(NODES / 3) {
                        cluster.network().cut(observer, other);
                        cluster.network().cut(other, observer);
                    }
                }
                (NODES - liars..NODES).for_each(|node| cluster.send_false_nacks(node));
                cluster.network().default = Link::lan().with_loss(loss);
            });
        }
    }
    let case = "zones 0 and 1 of three do not reach each other";
    if !case.contains(text) {
        return;
    }
    for detector in [
        "lifeguard-a5",
        "rpcnet",
        "rpcnet-zoned",
        "rpcnet-nacks2",
        "rpcnet-nacks2-zoned",
    ] {
        row(case, detector, seeds, |cluster, _| {
            let zone = |zone| (0..NODES).filter(|n| n % 3 == zone).collect::<Vec<_>>();
            cluster.network().cut_between(&zone(0), &zone(1));
            cluster.network().cut_between(&zone(1), &zone(0));
        });
    }
}

fn row(case: &str, detector: &str, seeds: u64, act: impl Fn(&mut Cluster, &mut fastrand::Rng)) {
    let mut sums = [0; 5];
    let mut bytes = 0;
    for seed in 1..=seeds {
        let mut cluster = zoned(seed, detector);
        let before = counts(&cluster);
        let sent = cluster.report().sent_bytes;
        act(&mut cluster, &mut fastrand::Rng::with_seed(seed));
        cluster.run_for(TROUBLE);
        safe(&cluster);
        let after = counts(&cluster);
        sums.iter_mut()
            .zip(after.iter().zip(before))
            .for_each(|(sum, (a, b))| *sum += a - b);
        bytes += cluster.report().sent_bytes - sent;
    }
    let rate = bytes / (seeds * TROUBLE.as_secs() * NODES as u64);
    let [false_positives, declared, suspicions, misses, inconclusive] = sums;
    println!(
        "| {case} | `{detector}` | {false_positives} | {declared} | {suspicions} | {misses} | {inconclusive} | {rate} |"
    );
}

/// Sockets of which one direction hangs, for 600 s, or for every other 20 s of them.
fn half_blocked(seeds: u64) {
    println!(
        "| faulty of {NODES} for 600 s | detector | healthy ones held failed | transitions of a faulty one, mean | out % of the time, mean | suspicions | refutations of healthy ones | B/s a node |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for faulty in [4, 32] {
        for (what, half, flaps) in [
            ("can only send", OpenDirection::SendOnly, false),
            ("can only receive", OpenDirection::ReceiveOnly, false),
            (
                "can only send, every other 20 s",
                OpenDirection::SendOnly,
                true,
            ),
            (
                "can only receive, every other 20 s",
                OpenDirection::ReceiveOnly,
                true,
            ),
        ] {
            for detector in ["lifeguard-a5", "rpcnet"] {
                let mut sum = Watched::default();
                for seed in 1..=seeds {
                    sum.add(&watch(seed, detector, faulty, |cluster, second| {
                        let is_on = !flaps || second % 40 < 20;
                        if second % 20 == 0 && (flaps || second == 0) {
                            for node in 0..faulty {
                                match is_on {
                                    true => cluster.half_block(node, half),
                                    false => cluster.resume(node),
                                }
                            }
                        }
                    }));
                }
                let pairs = (faulty * (NODES - faulty)) as f64 * seeds as f64;
                println!(
                    "| {faulty} {what} | `{detector}` | {} | {:.1} | {:.0} | {} | {} | {} |",
                    sum.healthy_failed,
                    sum.transitions as f64 / pairs,
                    sum.failed * 100.0 / seeds as f64,
                    sum.suspicions,
                    sum.refutations,
                    sum.bytes_s / seeds,
                );
            }
        }
    }
}

/// Two of 128 lose most of what comes in, for 600 s.
fn one_way(seeds: u64) {
    println!(
        "| 2 of {NODES} lose | detector | suspicions a minute, all views, mean | refutations a minute, mean | suspect % of the time | failed % | slow % | avoided by routing % | transitions of a faulty one, mean | healthy ones held failed | B/s a node |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for loss in [0.8, 0.9, 0.95] {
        for detector in ["lifeguard-a5", "rpcnet"] {
            let mut sum = Watched::default();
            for seed in 1..=seeds {
                sum.add(&watch(seed, detector, 2, |cluster, second| {
                    if second == 0 {
                        (0..2).for_each(|node| cluster.network().set_ingress_loss(node, loss));
                    }
                }));
            }
            let percent = |share: f64| share * 100.0 / seeds as f64;
            let minutes = (10 * seeds) as f64;
            println!(
                "| {:.0} % | `{detector}` | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} |",
                100.0 * loss,
                sum.suspicions as f64 / minutes,
                sum.faulty_refutations as f64 / minutes,
                percent(sum.suspect),
                percent(sum.failed),
                percent(sum.slow),
                percent(sum.avoided),
                sum.transitions as f64 / ((2 * (NODES - 2)) as f64 * seeds as f64),
                sum.healthy_failed,
                sum.bytes_s / seeds,
            );
        }
    }
}

/// View that healthy members have of faulty ones, which come first. Shares are of pairs and
/// seconds.
#[derive(Default)]
struct Watched {
    healthy_failed: u64,
    transitions: u64,
    suspicions: u64,
    /// Refutations by healthy members.
    refutations: u64,
    faulty_refutations: u64,
    suspect: f64,
    failed: f64,
    slow: f64,
    avoided: f64,
    bytes_s: u64,
}

impl Watched {
    fn add(&mut self, other: &Self) {
        self.healthy_failed += other.healthy_failed;
        self.transitions += other.transitions;
        self.suspicions += other.suspicions;
        self.refutations += other.refutations;
        self.faulty_refutations += other.faulty_refutations;
        self.suspect += other.suspect;
        self.failed += other.failed;
        self.slow += other.slow;
        self.avoided += other.avoided;
        self.bytes_s += other.bytes_s;
    }
}

fn watch(seed: u64, detector: &str, faulty: usize, act: impl Fn(&mut Cluster, u64)) -> Watched {
    let mut cluster = zoned(seed, detector);
    let refutations = |cluster: &Cluster, of: std::ops::Range<usize>| -> u64 {
        let engines = of.filter_map(|node| cluster.engine(node));
        engines.map(|engine| engine.stats().refutations).sum()
    };
    let before = (
        cluster.report(),
        refutations(&cluster, 0..faulty),
        refutations(&cluster, faulty..NODES),
    );
    let logged = cluster.transitions().len();
    let mut watched = Watched::default();
    let mut looks = 0.0;
    for second in 0..WATCHED_S {
        act(&mut cluster, second);
        cluster.run_for(Duration::from_secs(1));
        // The first half minute is how long it takes to find out.
        if second < 30 || second % 5 != 0 {
            continue;
        }
        for observer in (faulty..NODES).step_by(5) {
            for subject in 0..faulty {
                let view = cluster.view_of(observer, subject);
                let state = view.as_ref().map(|it| it.state);
                let is_slow = view.is_some_and(|it| it.slow);
                looks += 1.0;
                watched.suspect += f64::from(state == Some(MemberState::Suspect));
                watched.failed += f64::from(!state.is_some_and(MemberState::is_live));
                watched.slow += f64::from(is_slow && state == Some(MemberState::Alive));
                watched.avoided += f64::from(is_slow || state != Some(MemberState::Alive));
            }
        }
    }
    safe(&cluster);
    for share in [
        &mut watched.suspect,
        &mut watched.failed,
        &mut watched.slow,
        &mut watched.avoided,
    ] {
        *share /= looks;
    }
    for transition in &cluster.transitions()[logged..] {
        let of_faulty = (transition.subject as usize) < faulty;
        let by_faulty = (transition.observer as usize) < faulty;
        watched.healthy_failed += u64::from(!of_faulty && transition.to == MemberState::Failed);
        watched.transitions += u64::from(of_faulty && !by_faulty);
    }
    let after = cluster.report();
    watched.suspicions = after.suspicions - before.0.suspicions;
    watched.faulty_refutations = refutations(&cluster, 0..faulty) - before.1;
    watched.refutations = refutations(&cluster, faulty..NODES) - before.2;
    watched.bytes_s = (after.sent_bytes - before.0.sent_bytes) / (WATCHED_S * NODES as u64);
    watched
}

/// A cluster that knows itself, in three zones.
fn zoned(seed: u64, detector: &str) -> Cluster {
    let detector = Detector::named(detector).expect("there is such a detector");
    let config = ClusterConfig::lan();
    let mut cluster = Cluster::formed_with_detector(seed, NODES, config, detector);
    cluster.log_events(false);
    for node in 0..NODES {
        let zone = format!("z{}", node % 3);
        cluster.set_tag(node, "zone", &zone).expect("a short tag");
    }
    cluster.run_for(Duration::from_secs(30));
    cluster
}

/// Failures, failures declared, suspicions, misses, inconclusive rounds; in all views.
fn counts(cluster: &Cluster) -> [u64; 5] {
    let report = cluster.report();
    let mut counts = [report.failures, 0, report.suspicions, 0, 0];
    for stats in (0..NODES)
        .filter_map(|n| cluster.engine(n))
        .map(|e| e.stats())
    {
        counts[1] += stats.failures_declared;
        counts[3] += stats.missed_probes;
        counts[4] += stats.inconclusive_rounds;
    }
    counts
}

fn safe(cluster: &Cluster) {
    if let Some(failure) = cluster.report().failure {
        panic!("{failure}");
    }
}

const NODES: usize = 128;
const TROUBLE: Duration = Duration::from_secs(120);
const WATCHED_S: u64 = 600;
