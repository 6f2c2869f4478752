//! Targets, and whether they are met.

use xtask_pick::{
    Work,
    rpcnet_subject::{self, StrategyKind},
};

use super::figures::{self, Row};
use crate::bench::targets::Target;

/// Peers of the detached workspace: their names, which of ours do the same, and the work that they
/// support.
pub(crate) const PEERS: [(&str, &[&str], Work); 6] = [
    ("tower-p2c-peak-ewma", &["peak-ewma"], Work::Call),
    ("pingora-round-robin", &["round-robin"], Work::Pick),
    ("pingora-random", &["random"], Work::Pick),
    ("pingora-weighted", &["weighted"], Work::Pick),
    ("pingora-fnv-hash", &["maglev"], Work::Pick),
    ("pingora-ketama", &["maglev", "rendezvous"], Work::Pick),
];

/// A target of a strategy that was measured: the worst of all numbers of workers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StrategyTarget {
    pub(crate) target: Target,
    /// Set for targets that do not depend on time: a busy machine does not change them.
    pub(crate) is_certain: bool,
}

pub(crate) fn is_peer(strategy: &str) -> bool {
    PEERS.iter().any(|(name, ..)| *name == strategy)
}

pub(crate) fn supports(strategy: &str, work: Work) -> bool {
    let peer = PEERS.iter().find(|(name, ..)| *name == strategy);
    peer.is_none_or(|(_, _, supported)| *supported == work)
}

pub(crate) fn check_targets(rows: &[Row]) -> Vec<StrategyTarget> {
    let of_strategies = rpcnet_subject::STRATEGIES.iter().flat_map(|strategy| {
        let (name, kind) = (strategy.name, strategy.kind());
        let Some(none) = allocation_target(rows, name).filter(|_| kind != StrategyKind::Baseline)
        else {
            return Vec::new();
        };
        let mut targets = vec![StrategyTarget {
            target: none,
            is_certain: true,
        }];
        // The rest is asked of a strategy.
        if kind != StrategyKind::Selection {
            let timed = time_targets(rows, name, kind).into_iter();
            targets.extend(timed.map(|target| StrategyTarget {
                target,
                is_certain: false,
            }));
        }
        targets
    });
    of_strategies.collect()
}

/// No allocation; `None` if the strategy was not measured.
fn allocation_target(rows: &[Row], name: &str) -> Option<Target> {
    let of = rows.iter().filter(|row| row.cell.strategy == name);
    let allocations = of.map(|row| row.allocations_per_pick).reduce(f64::max)?;
    Some(Target {
        what: vec![name.to_owned()],
        bound: "no allocation".to_owned(),
        measured: format!("{allocations:.4}"),
        // What a thread needs once, for its first look at a registry, is not of its picks.
        met: allocations < ALLOCATIONS_NOISE,
    })
}

/// Bounds of the time of a strategy, and of its ratio to others.
fn time_targets(rows: &[Row], name: &str, kind: StrategyKind) -> Vec<Target> {
    let strategy = MeasuredStrategy {
        rows,
        name,
        sizes: figures::distinct(rows, |cell| cell.workers),
    };
    let mut targets = Vec::new();
    if kind != StrategyKind::Scan {
        let bound = format!("at most {NS_MAX} ns");
        targets.extend(strategy.ns_at_most(bound, NS_MAX, |it, workers| it.alone(name, workers)));
    }
    if OF_RANDOM.contains(&name) {
        let bound = "random at most";
        targets.extend(strategy.ratio_at_most(bound, OF_RANDOM_MAX, |workers| {
            figures::peer_ratio(rows, ("random", name), Work::Pick, workers)
        }));
    }
    if WRAPPERS.contains(&name) {
        let bound = format!("around {WRAPPED} at most {WRAPPER_NS_MAX} ns more");
        targets.extend(strategy.ns_at_most(bound, WRAPPER_NS_MAX, |it, workers| {
            Some(it.alone(name, workers)? - it.alone(WRAPPED, workers)?)
        }));
    }
    let bound = "two threads at least";
    targets.extend(strategy.ratio_at_least(bound, SPEED_UP_MIN, |workers| {
        figures::speed_up(rows, name, workers)
    }));
    for (peer, _, work) in PEERS.iter().filter(|(_, ours, _)| ours.contains(&name)) {
        let bound = format!("{peer} at least");
        targets.extend(strategy.ratio_at_least(&bound, PEER_MIN, |workers| {
            figures::peer_ratio(rows, (name, peer), *work, workers)
        }));
    }
    targets
}

/// Strategy that was measured. Of all numbers of workers the worst counts.
struct MeasuredStrategy<'a> {
    rows: &'a [Row],
    name: &'a str,
    sizes: Vec<usize>,
}

impl MeasuredStrategy<'_> {
    fn ns_at_most(
        &self,
        bound: String,
        max: f64,
        ns: impl Fn(&Self, usize) -> Option<f64>,
    ) -> Option<Target> {
        let ns = self.sizes.iter().filter_map(|workers| ns(self, *workers));
        let ns = ns.reduce(f64::max)?;
        Some(Target {
            what: vec![self.name.to_owned()],
            bound,
            measured: format!("{ns:.1} ns"),
            met: ns <= max,
        })
    }

    fn ratio_at_most(
        &self,
        bound: &str,
        max: f64,
        ratio: impl Fn(usize) -> Option<f64>,
    ) -> Option<Target> {
        let ratios = self.sizes.iter().filter_map(|workers| ratio(*workers));
        let (what, greatest) = (vec![self.name.to_owned()], ratios.reduce(f64::max)?);
        Some(Target::ratio(what, (bound, max), greatest, f64::le))
    }

    fn ratio_at_least(
        &self,
        bound: &str,
        min: f64,
        ratio: impl Fn(usize) -> Option<f64>,
    ) -> Option<Target> {
        let ratios = self.sizes.iter().filter_map(|workers| ratio(*workers));
        let (what, least) = (vec![self.name.to_owned()], ratios.reduce(f64::min)?);
        Some(Target::ratio(what, (bound, min), least, f64::ge))
    }

    /// Time of a pick of a strategy by one thread.
    fn alone(&self, strategy: &str, workers: usize) -> Option<f64> {
        let row = figures::find(self.rows, strategy, workers, 1, Work::Pick)?;
        Some(row.ns_per_pick)
    }
}

/// Strategies that compare several workers by all that is known, and how many times as long as a
/// random choice they may take.
const OF_RANDOM: [&str; 2] = ["peak-ewma", "prequal"];
const OF_RANDOM_MAX: f64 = 5.0;

/// Strategies around another one, and how much longer than that they may take.
const WRAPPERS: [&str; 4] = ["tiered", "subset", "sticky", "slow-start"];
const WRAPPED: &str = "peak-ewma";
const WRAPPER_NS_MAX: f64 = 20.0;

const NS_MAX: f64 = 60.0;
const SPEED_UP_MIN: f64 = 1.7;
const PEER_MIN: f64 = 3.0;

/// Allocations per pick that are none: one among all picks of a thread.
const ALLOCATIONS_NOISE: f64 = 0.0001;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::pick::tests::rounds;

    fn met(rows: &[Row]) -> Vec<bool> {
        let targets = check_targets(rows);
        targets.iter().map(|it| it.target.met).collect()
    }

    #[test]
    fn targets_are_met_at_their_bounds_and_missed_past_them() {
        let at_bounds = rounds("random", Work::Pick, 3, &[(60.0, 70.0)]);
        assert_eq!(met(&at_bounds), [true, true, true]);
        let past = rounds("random", Work::Pick, 3, &[(60.1, 71.0)]);
        assert_eq!(met(&past), [true, false, false]);
        // The worst size counts.
        let both = [at_bounds, rounds("random", Work::Pick, 30, &[(61.0, 61.0)])].concat();
        assert_eq!(met(&both), [true, false, true]);
    }

    #[test]
    fn a_comparison_takes_at_most_five_times_as_long_as_a_random_choice() {
        for (ns, is_met) in [(50.0, true), (50.1, false)] {
            let mut both = rounds("prequal", Work::Pick, 30, &[(ns, ns)]);
            both.extend(rounds("random", Work::Pick, 30, &[(10.0, 10.0)]));
            assert_eq!(met(&both), [true, true, true, true, true, is_met, true]);
        }
    }

    #[test]
    fn a_wrapper_takes_little_more_than_what_it_wraps() {
        for (ns, is_met) in [(50.0, true), (50.1, false)] {
            let mut both = rounds("peak-ewma", Work::Pick, 30, &[(30.0, 30.0)]);
            both.extend(rounds("subset", Work::Pick, 30, &[(ns, ns)]));
            assert_eq!(met(&both), [true, true, true, true, true, is_met, true]);
        }
    }

    #[test]
    fn an_allocation_is_certain() {
        let mut some = rounds("random", Work::Call, 3, &[(1.0, 1.0), (1.0, 1.0)]);
        some[0].allocations_per_pick = 0.0005;
        let targets = check_targets(&some);
        assert!(targets[0].is_certain && !targets[0].target.met);
    }

    #[test]
    fn a_scan_may_take_longer() {
        let scan = rounds(
            "least-connections",
            Work::Pick,
            3_000,
            &[(9_000.0, 9_000.0)],
        );
        assert_eq!(met(&scan), [true, true]);
    }

    #[test]
    fn a_whole_selection_may_take_longer_but_not_allocate() {
        let whole = rounds(rpcnet_subject::REGISTRY, Work::Pick, 3, &[(100.0, 200.0)]);
        assert_eq!(met(&whole), [true]);
    }

    #[test]
    fn ours_is_compared_with_what_does_the_same() {
        let mut both = rounds("peak-ewma", Work::Call, 30, &[(50.0, 50.0)]);
        both.extend(rounds(
            "tower-p2c-peak-ewma",
            Work::Call,
            30,
            &[(150.0, 1.0)],
        ));
        assert_eq!(met(&both), [true, true]);
        both[2] = rounds("tower-p2c-peak-ewma", Work::Call, 30, &[(149.0, 1.0)]).remove(0);
        assert_eq!(met(&both), [true, false]);
        for (_, ours, _) in PEERS {
            let names = rpcnet_subject::STRATEGIES.map(|strategy| strategy.name);
            assert!(ours.iter().all(|name| names.contains(name)));
        }
        assert!(!supports("tower-p2c-peak-ewma", Work::Pick) && supports("random", Work::Call));
    }
}
