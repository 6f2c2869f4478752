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
    let sizes = figures::distinct(rows, |cell| cell.workers);
    let mut targets = Vec::new();
    for strategy in rpcnet_subject::STRATEGIES {
        let (name, kind) = (strategy.name, strategy.kind());
        let of = || rows.iter().filter(|row| row.cell.strategy == name);
        let allocations = of().map(|row| row.allocations_per_pick).reduce(f64::max);
        let Some(allocations) = allocations.filter(|_| kind != StrategyKind::Baseline) else {
            continue;
        };
        let what = || vec![name.to_owned()];
        let mut add = |target, is_certain| targets.push(StrategyTarget { target, is_certain });
        let none = Target {
            what: what(),
            bound: "no allocation".to_owned(),
            measured: format!("{allocations:.4}"),
            // What a thread needs once, for its first look at a registry, is not of its picks.
            met: allocations < ALLOCATIONS_NOISE,
        };
        add(none, true);
        // The rest is asked of a strategy.
        if kind == StrategyKind::Selection {
            continue;
        }
        let alone = of().filter(|row| (row.cell.work, row.cell.threads) == (Work::Pick, 1));
        let longest = alone.map(|row| row.ns_per_pick).reduce(f64::max);
        if let Some(ns) = longest.filter(|_| kind != StrategyKind::Scan) {
            let target = Target {
                what: what(),
                bound: format!("at most {NS_MAX} ns"),
                measured: format!("{ns:.1} ns"),
                met: ns <= NS_MAX,
            };
            add(target, false);
        }
        let mut at_least = |bound: String, min, ratio: &dyn Fn(usize) -> Option<f64>| {
            let least = sizes
                .iter()
                .filter_map(|workers| ratio(*workers))
                .reduce(f64::min);
            if let Some(least) = least {
                add(Target::ratio(what(), (&bound, min), least, f64::ge), false);
            }
        };
        at_least(
            "two threads at least".to_owned(),
            SPEED_UP_MIN,
            &|workers| figures::speed_up(rows, name, workers),
        );
        for (peer, _, work) in PEERS.iter().filter(|(_, ours, _)| ours.contains(&name)) {
            at_least(format!("{peer} at least"), PEER_MIN, &|workers| {
                figures::peer_ratio(rows, (name, peer), *work, workers)
            });
        }
    }
    targets
}

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
