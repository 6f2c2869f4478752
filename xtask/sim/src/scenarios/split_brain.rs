//! Split brain: time for which both sides of a division serve, by each policy.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    ops::Range,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use rpcnet_swim::SplitBrainPolicy;

use crate::{
    cluster_setup::{SafetyViolation, check_safety, settled_cluster},
    detector::Cluster,
    measure::{Aggregate, Measure, Sample},
    scenario::{Case, Trial},
};

static MEASURES: [Measure; 5] = [
    // From the division until the last look that found a node of each side serving, and one look
    // more: never if that was so at the end.
    Measure::new("both_served_p50_s", Aggregate::Median, "both_served_s"),
    Measure::new("both_served_p99_s", Aggregate::P99, "both_served_s"),
    // Looks at the side that serves in the end that found a node refusing.
    Measure::new("refused_percent", Aggregate::Mean, "refused_percent"),
    // Runs at whose end one side served with all its nodes.
    Measure::new(
        "one_side_serves_percent",
        Aggregate::Mean,
        "one_side_serves_percent",
    ),
    // From the healing until all nodes serve.
    Measure::new("all_serve_max_s", Aggregate::Max, "all_serve_s"),
];

/// Outcomes of the runs of one division under all policies, computed once for all rows, by seed.
#[derive(Debug, Default)]
struct SharedRuns(Mutex<HashMap<u64, RunResult>>);

type RunResult = Arc<OnceLock<Result<[Sample; POLICIES.len()], SafetyViolation>>>;

impl SharedRuns {
    /// Outcome under the nth policy of the run of this trial.
    fn sample(
        &self,
        trial: &Trial<'_>,
        side: usize,
        nth: usize,
    ) -> Result<Sample, SafetyViolation> {
        let found = {
            let mut found = self.0.lock().expect("no thread panics with it");
            Arc::clone(found.entry(trial.seed).or_default())
        };
        let samples = found.get_or_init(|| run_divided(trial, side));
        samples
            .as_ref()
            .map(|it| it[nth].clone())
            .map_err(Clone::clone)
    }
}

/// Cases of so many members, with sides in percent of them.
pub(super) fn cases(grid: &[(usize, &[usize])]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (nodes, percents) in grid.iter().copied() {
        let side = |percent: &usize| (nodes * percent / 100).clamp(1, (nodes - 1) / 2);
        let mut sides: Vec<usize> = percents.iter().map(side).collect();
        sides.dedup();
        for side in sides {
            let runs = Arc::new(SharedRuns::default());
            for (nth, policy) in POLICIES.into_iter().enumerate() {
                let runs = Arc::clone(&runs);
                let run = move |trial: &Trial<'_>| runs.sample(trial, side, nth);
                let label = format!("{side} of {nodes} by {policy}");
                let case = Case::new(nodes, label, &MEASURES, run)
                    .with_seconds(SECONDS / POLICIES.len() as f64)
                    .with_seeds_max(seeds_max(nodes))
                    // Rivals have no policies.
                    .for_ours_alone()
                    // Members of the smaller side.
                    .with_field("side", side)
                    .with_field("policy", policy)
                    .with_target("both sides serve", 10.0, "s", |row| {
                        row.number("both_served_p50_s")
                    })
                    .with_target("the same, p99", 15.0, "s", |row| {
                        row.number("both_served_p99_s")
                    })
                    .with_target("no side serves at the end", 0.0, "%", |row| {
                        Some(100.0 - row.number("one_side_serves_percent")?)
                    });
                cases.push(case);
            }
        }
    }
    cases
}

/// Run of a division, evaluated under all policies.
fn run_divided(
    trial: &Trial<'_>,
    side: usize,
) -> Result<[Sample; POLICIES.len()], SafetyViolation> {
    let nodes = trial.nodes;
    let mut cluster = settled_cluster(trial)?;
    let mut order: Vec<usize> = (1..nodes).collect();
    let mut rng = trial.rng();
    rng.shuffle(&mut order);
    // The oldest, which has the smallest name too, is on the smaller side in half of the runs.
    let oldest = match trial.seed.is_multiple_of(2) {
        true => 0,
        false => nodes - 1,
    };
    order.insert(oldest, 0);
    for _ in 0..TAGGED_NODES.min(nodes) {
        let database = rng.usize(..nodes);
        let tagged = cluster.set_tag(database, "role", "db");
        tagged.expect("small enough");
    }
    cluster.run_for(Duration::from_secs(15));
    let (small, large) = order.split_at(side);
    let sides = [small, large];
    let mut observations = policies(nodes).map(PolicyObservations::new);
    let start = cluster.now();
    cluster.network().isolate(small.iter().copied(), 1);
    while cluster.now().since(start) < PARTITION_TIME {
        cluster.run_for(POLL_INTERVAL);
        let passed = cluster.now().since(start).as_secs_f64();
        for policy in &mut observations {
            policy.sample_nodes(&mut cluster, sides, passed);
        }
    }
    check_safety(&cluster)?;
    for policy in &mut observations {
        policy.serving = sides.map(|side| policy.refusing(&mut cluster, side) == 0);
    }
    cluster.network().heal();
    wait_until_all_serve(&mut cluster, &mut observations);
    check_safety(&cluster)?;
    Ok(observations.map(PolicyObservations::sample))
}

/// Policy, and what is seen of a division under it.
#[derive(Debug)]
struct PolicyObservations {
    policy: SplitBrainPolicy,
    /// Seconds until no node of one side serves; infinite if that was not so at the end.
    both_served_s: f64,
    /// Looks at some nodes of each side, and those that found one refusing.
    looks: [(usize, usize); 2],
    /// Whether all nodes of each side serve in the end.
    serving: [bool; 2],
    /// Seconds from the healing until all nodes serve.
    all_serve_s: f64,
}

impl PolicyObservations {
    fn new(policy: SplitBrainPolicy) -> Self {
        Self {
            policy,
            both_served_s: 0.0,
            looks: [(0, 0); 2],
            serving: [false; 2],
            all_serve_s: f64::INFINITY,
        }
    }

    fn serves(&self, cluster: &mut Cluster, node: usize) -> bool {
        let decision = cluster.may_serve(node, &self.policy);
        decision.is_some_and(|decision| decision.is_allowed())
    }

    /// Number of nodes that refuse. All are asked: a node remembers for which policies it was.
    fn refusing(&self, cluster: &mut Cluster, nodes: &[usize]) -> usize {
        let refuses = |node: &&usize| !self.serves(cluster, **node);
        nodes.iter().filter(refuses).count()
    }

    fn sample_nodes(&mut self, cluster: &mut Cluster, sides: [&[usize]; 2], passed: f64) {
        let any_serves = |side: &[usize]| side.iter().any(|node| self.serves(cluster, *node));
        if sides.into_iter().all(any_serves) {
            let after = passed + POLL_INTERVAL.as_secs_f64();
            self.both_served_s = match after > PARTITION_TIME.as_secs_f64() {
                true => f64::INFINITY,
                false => after,
            };
        }
        for (nth, side) in sides.into_iter().enumerate() {
            let asked = &side[..side.len().min(NODES_SAMPLED)];
            self.looks[nth].0 += asked.len();
            self.looks[nth].1 += self.refusing(cluster, asked);
        }
    }

    fn sample(self) -> Sample {
        let (looks, refusals) = self.looks[usize::from(!self.serving[0])];
        let refused_percent = 100.0 * refusals as f64 / looks.max(1) as f64;
        let one_serves = self.serving[0] != self.serving[1];
        Sample::default()
            .with("both_served_s", self.both_served_s)
            .with("refused_percent", refused_percent)
            .with(
                "one_side_serves_percent",
                if one_serves { 100.0 } else { 0.0 },
            )
            .with("all_serve_s", self.all_serve_s)
    }
}

fn wait_until_all_serve(cluster: &mut Cluster, observations: &mut [PolicyObservations]) {
    let start = cluster.now();
    let waits = |it: &PolicyObservations| it.all_serve_s.is_infinite();
    while observations.iter().any(waits) && cluster.now().since(start) < HEAL_TIMEOUT {
        cluster.run_for(POLL_INTERVAL);
        for policy in observations.iter_mut().filter(|it| waits(it)) {
            if (0..cluster.len()).all(|node| policy.serves(cluster, node)) {
                policy.all_serve_s = cluster.now().since(start).as_secs_f64();
            }
        }
    }
}

/// Policies in the order of [`POLICIES`].
fn policies(nodes: usize) -> [SplitBrainPolicy; POLICIES.len()] {
    let quorum = NonZeroUsize::MIN.saturating_add(nodes / 2);
    [
        SplitBrainPolicy::keep_majority(),
        SplitBrainPolicy::static_quorum(quorum),
        SplitBrainPolicy::keep_oldest(),
        SplitBrainPolicy::keep_oldest_even_alone(),
        SplitBrainPolicy::keep_majority().among("role", "db"),
    ]
}

/// Runs of a large cluster take long.
fn seeds_max(nodes: usize) -> u64 {
    let found = SEEDS_BY_NODES.iter().find(|(of, _)| of.contains(&nodes));
    found.map_or(1, |(_, seeds)| *seeds)
}

const POLICIES: [&str; 5] = [
    "keep-majority",
    "static-quorum",
    "keep-oldest",
    "keep-oldest-even-alone",
    "keep-majority-among",
];
/// Virtual time that a run takes, about: the first row of several does the work for all of them.
const SECONDS: f64 = 80.0;
/// Members with the tag that the last policy asks for.
const TAGGED_NODES: usize = 5;
const PARTITION_TIME: Duration = Duration::from_secs(40);
/// Longest wait for all nodes to serve again.
const HEAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval at which nodes are sampled.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Nodes of each side that are asked every time.
const NODES_SAMPLED: usize = 16;
const SEEDS_BY_NODES: [(Range<usize>, u64); 3] = [(0..64, 20), (64..200, 10), (200..600, 4)];
