//! Split brain: time for which both sides of a division serve, by each policy.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    ops::Range,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use rpcnet_swim::SplitBrainPolicy;
use serde::Serialize;
use xtask_report::{median, quantile};

use crate::{
    check::Check,
    cluster_setup::{SafetyViolation, check_safety, settled_cluster},
    detector::Cluster,
    scenario::{self, Trial},
};

/// A division into two sides, and the policy that decides which one serves.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    pub(crate) nodes: usize,
    /// Members of the smaller side.
    pub(crate) side: usize,
    pub(crate) policy: &'static str,
}

/// Outcome of one run under one policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Seconds from the division until the last look that found a node of each side serving, and
    /// one look more; infinite if that was so at the end.
    pub(crate) both_served: f64,
    /// Share of the samples of the side that serves in the end that found a node refusing, in
    /// percent.
    pub(crate) refused: f64,
    /// Whether a side serves in the end, with all its nodes.
    pub(crate) serves: bool,
    /// Seconds from the healing until all nodes serve; infinite if not within [`HEAL_TIMEOUT`].
    pub(crate) healed: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// None if both sides served to the end.
    pub(crate) both_served_p50_s: Option<f64>,
    pub(crate) both_served_p99_s: Option<f64>,
    /// Share of the samples of the side that serves that found a node refusing.
    pub(crate) refused_percent: f64,
    /// Runs at whose end one side served with all its nodes.
    pub(crate) one_side_serves_percent: f64,
    /// Time from the healing until all nodes serve.
    pub(crate) all_serve_max_s: Option<f64>,
}

/// Outcomes of each run under all policies, computed once for all rows.
#[derive(Debug, Default)]
pub(crate) struct SharedRuns {
    results: Mutex<HashMap<(usize, usize, u64), RunResult>>,
}

type RunResult = Arc<OnceLock<Result<[Sample; POLICIES.len()], SafetyViolation>>>;

impl SharedRuns {
    /// Outcome of the run of this trial under the policy of its case.
    ///
    /// # Errors
    ///
    /// When a rule of safety was broken.
    pub(crate) fn sample(&self, trial: &Trial<'_, Case>) -> Result<Sample, SafetyViolation> {
        let Case {
            nodes,
            side,
            policy,
        } = *trial.case;
        let found = {
            let mut found = self.results.lock().expect("no thread panics with it");
            Arc::clone(found.entry((nodes, side, trial.seed)).or_default())
        };
        let samples = found.get_or_init(|| run_divided(trial));
        let nth = POLICIES.iter().position(|name| *name == policy);
        samples.clone().map(|it| it[nth.expect("one of them")])
    }
}

/// Run of a division, evaluated under all policies.
fn run_divided(trial: &Trial<'_, Case>) -> Result<[Sample; POLICIES.len()], SafetyViolation> {
    let Case { nodes, side, .. } = *trial.case;
    let mut cluster = settled_cluster(trial)?;
    let mut order: Vec<usize> = (1..nodes).collect();
    let mut rng = trial.rng();
    rng.shuffle(&mut order);
    // The oldest, which has the smallest name too, is on the smaller side in half of the runs.
    let oldest = if trial.seed.is_multiple_of(2) {
        0
    } else {
        nodes - 1
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
    let policies = policies(nodes);
    let start = cluster.now();
    cluster.network().isolate(small.iter().copied(), 1);
    let mut watched = [PolicyObservations::default(); POLICIES.len()];
    while cluster.now().since(start) < PARTITION_TIME {
        cluster.run_for(POLL_INTERVAL);
        let passed = cluster.now().since(start).as_secs_f64();
        for (policy, watched) in policies.iter().zip(&mut watched) {
            watched.sample_nodes(&mut cluster, policy, sides, passed);
        }
    }
    check_safety(&cluster)?;
    let serving = policies.each_ref().map(|policy| {
        let serve = |cluster: &mut Cluster, side: &[usize]| {
            let refusing = side.iter().filter(|node| !serves(cluster, **node, policy));
            refusing.count() == 0
        };
        sides.map(|side| serve(&mut cluster, side))
    });
    cluster.network().heal();
    let healed = wait_until_all_serve(&mut cluster, &policies);
    check_safety(&cluster)?;
    let mut nth = 0..POLICIES.len();
    Ok(watched.map(|watched| {
        let nth = nth.next().expect("as many");
        let of_side = if serving[nth][0] { 0 } else { 1 };
        let (looks, refusals) = watched.samples[of_side];
        Sample {
            both_served: watched.both_served,
            refused: 100.0 * f64::from(refusals) / f64::from(looks.max(1)),
            serves: serving[nth][0] != serving[nth][1],
            healed: healed[nth],
        }
    }))
}

/// Observations of one policy.
#[derive(Debug, Clone, Copy, Default)]
struct PolicyObservations {
    both_served: f64,
    /// Looks at some nodes of each side, and those that found one refusing.
    samples: [(u32, u32); 2],
}

impl PolicyObservations {
    fn sample_nodes(
        &mut self,
        cluster: &mut Cluster,
        policy: &SplitBrainPolicy,
        sides: [&[usize]; 2],
        passed: f64,
    ) {
        let both = sides
            .iter()
            .all(|side| side.iter().any(|node| serves(cluster, *node, policy)));
        if both {
            let after = passed + POLL_INTERVAL.as_secs_f64();
            self.both_served = match after > PARTITION_TIME.as_secs_f64() {
                true => f64::INFINITY,
                false => after,
            };
        }
        for (side, (looks, refusals)) in sides.iter().zip(&mut self.samples) {
            for node in side.iter().take(NODES_SAMPLED) {
                *looks += 1;
                *refusals += u32::from(!serves(cluster, *node, policy));
            }
        }
    }
}

fn serves(cluster: &mut Cluster, node: usize, policy: &SplitBrainPolicy) -> bool {
    let decision = cluster.may_serve(node, policy);
    decision.is_some_and(|decision| decision.is_allowed())
}

/// Seconds until all nodes serve by each policy.
fn wait_until_all_serve(
    cluster: &mut Cluster,
    policies: &[SplitBrainPolicy; POLICIES.len()],
) -> [f64; POLICIES.len()] {
    let start = cluster.now();
    let mut healed = [f64::INFINITY; POLICIES.len()];
    while healed.contains(&f64::INFINITY) && cluster.now().since(start) < HEAL_TIMEOUT {
        cluster.run_for(POLL_INTERVAL);
        for (policy, healed) in policies.iter().zip(&mut healed) {
            if healed.is_infinite() && (0..cluster.len()).all(|it| serves(cluster, it, policy)) {
                *healed = cluster.now().since(start).as_secs_f64();
            }
        }
    }
    healed
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

/// Members, sides in percent.
pub(crate) fn cases(grid: &[(usize, &[usize])]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (nodes, percents) in grid.iter().copied() {
        let side = |percent: &usize| (nodes * percent / 100).clamp(1, (nodes - 1) / 2);
        let mut sides: Vec<usize> = percents.iter().map(side).collect();
        sides.dedup();
        for side in sides {
            cases.extend(POLICIES.map(|policy| Case {
                nodes,
                side,
                policy,
            }));
        }
    }
    cases
}

pub(crate) fn figures(samples: &[Sample]) -> Figures {
    let finite = |seconds: &f64| seconds.is_finite();
    let both_served = || samples.iter().map(|it| it.both_served).collect();
    let count = samples.len().max(1) as f64;
    let serves = samples.iter().filter(|it| it.serves).count();
    Figures {
        both_served_p50_s: median(both_served()).filter(finite),
        both_served_p99_s: quantile(both_served(), 0.99).filter(finite),
        refused_percent: samples.iter().map(|it| it.refused).sum::<f64>() / count,
        one_side_serves_percent: 100.0 * serves as f64 / count,
        all_serve_max_s: Some(samples.iter().map(|it| it.healed).fold(0.0, f64::max))
            .filter(finite),
    }
}

/// Targets of a cell of rpcnet's.
pub(crate) fn checks(case: &Case, figures: &Figures) -> Vec<Check> {
    let label = scenario::ScenarioCase::label(case);
    let check = |what: &str, figure: Option<f64>, at_most, unit| {
        Check::new(format!("{label}: {what}"), figure, at_most, unit)
    };
    let lame = 100.0 - figures.one_side_serves_percent;
    vec![
        check("both sides serve", figures.both_served_p50_s, 10.0, "s"),
        check("the same, p99", figures.both_served_p99_s, 15.0, "s"),
        check("no side serves at the end", Some(lame), 0.0, "%"),
    ]
}

impl scenario::ScenarioCase for Case {
    fn nodes(&self) -> usize {
        self.nodes
    }

    fn seconds(&self) -> f64 {
        // The first row of several does the work for all of them.
        let rows = POLICIES.len() as f64;
        (30.0 + PARTITION_TIME.as_secs_f64() + 10.0) / rows
    }

    fn seeds_max(&self) -> u64 {
        SEEDS_BY_NODES
            .iter()
            .find(|(nodes, _)| nodes.contains(&self.nodes))
            .map_or(1, |(_, seeds)| *seeds)
    }

    fn label(&self) -> String {
        format!("{} of {} by {}", self.side, self.nodes, self.policy)
    }
}

const POLICIES: [&str; 5] = [
    "keep-majority",
    "static-quorum",
    "keep-oldest",
    "keep-oldest-even-alone",
    "keep-majority-among",
];
/// Members with the tag that the last policy asks for.
const TAGGED_NODES: usize = 5;
/// Duration of the partition.
const PARTITION_TIME: Duration = Duration::from_secs(40);
/// Longest wait for all nodes to serve again.
const HEAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval at which nodes are sampled.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Nodes of each side that are asked every time.
const NODES_SAMPLED: usize = 16;
/// Runs of a large cluster take long.
const SEEDS_BY_NODES: [(Range<usize>, u64); 3] = [(0..64, 20), (64..200, 10), (200..600, 4)];
