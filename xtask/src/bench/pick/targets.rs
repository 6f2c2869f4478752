//! Targets, and whether they are met.

use xtask_pick::{
    Work,
    rpcnet_subject::{self, Strategy, StrategyKind},
};
use xtask_report::ratio;

use super::figures::{self, Row};
use crate::bench::targets::Target;

/// A peer, and which of ours does the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    ours: &'static [&'static str],
    /// Work that the peer supports.
    work: Work,
}

impl Peer {
    const fn new(name: &'static str, ours: &'static [&'static str], work: Work) -> Self {
        Self { name, ours, work }
    }
}

/// The detached workspace's.
pub(crate) const PEERS: [Peer; 6] = [
    Peer::new("tower-p2c-peak-ewma", &["peak-ewma"], Work::Call),
    Peer::new("pingora-round-robin", &["round-robin"], Work::Pick),
    Peer::new("pingora-random", &["random"], Work::Pick),
    Peer::new("pingora-weighted", &["weighted"], Work::Pick),
    Peer::new("pingora-fnv-hash", &["maglev"], Work::Pick),
    Peer::new("pingora-ketama", &["maglev", "rendezvous"], Work::Pick),
];

/// A target of a strategy that was measured: the worst of all numbers of workers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StrategyTarget {
    pub(crate) target: Target,
    /// Set for targets that do not depend on time: a busy machine does not change them.
    pub(crate) is_certain: bool,
}

pub(crate) fn is_peer(strategy: &str) -> bool {
    PEERS.iter().any(|peer| peer.name == strategy)
}

/// Whether a strategy can be measured with this work.
pub(crate) fn supports(strategy: &str, work: Work) -> bool {
    let peer = PEERS.iter().find(|peer| peer.name == strategy);
    peer.is_none_or(|peer| peer.work == work)
}

/// Targets that were measured.
pub(crate) fn check_targets(rows: &[Row]) -> Vec<StrategyTarget> {
    let sizes = figures::distinct(rows, |cell| cell.workers);
    let mut targets = Vec::new();
    for Strategy { name, kind, .. } in rpcnet_subject::STRATEGIES {
        let of = || rows.iter().filter(|row| row.cell.strategy == name);
        let allocations = of().map(|row| row.allocations_per_pick).reduce(f64::max);
        let Some(allocations) = allocations.filter(|_| kind != StrategyKind::Baseline) else {
            continue;
        };
        let target = |bound: String, measured: String, met| StrategyTarget {
            target: Target {
                what: vec![name.to_owned()],
                bound,
                measured,
                met,
            },
            is_certain: false,
        };
        let at_least = |what: &str, min: f64, measured: f64| {
            let bound = format!("{what} at least {}", ratio(min));
            target(bound, ratio(measured), measured >= min)
        };
        // What a thread needs once, for its first look at a registry, is not of its picks.
        let none = allocations < ALLOCATIONS_NOISE;
        targets.push(StrategyTarget {
            is_certain: true,
            ..target(
                "no allocation".to_owned(),
                format!("{allocations:.4}"),
                none,
            )
        });
        // The rest is asked of a strategy.
        if kind == StrategyKind::Selection {
            continue;
        }
        let alone = of().filter(|row| (row.cell.work, row.cell.threads) == (Work::Pick, 1));
        let longest = alone.map(|row| row.ns_per_pick).reduce(f64::max);
        if let Some(ns) = longest.filter(|_| kind != StrategyKind::Scan) {
            let bound = format!("at most {NS_MAX} ns");
            targets.push(target(bound, format!("{ns:.1} ns"), ns <= NS_MAX));
        }
        let speed_up = |workers: &usize| figures::speed_up(rows, name, *workers);
        let least = sizes.iter().filter_map(speed_up).reduce(f64::min);
        targets.extend(least.map(|least| at_least("two threads", SPEED_UP_MIN, least)));
        for peer in PEERS.iter().filter(|peer| peer.ours.contains(&name)) {
            let pair = (name, peer.name);
            let times = |workers: &usize| figures::peer_ratio(rows, pair, peer.work, *workers);
            let least = sizes.iter().filter_map(times).reduce(f64::min);
            targets.extend(least.map(|least| at_least(peer.name, PEER_MIN, least)));
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
        for peer in PEERS {
            let names = rpcnet_subject::STRATEGIES.map(|strategy| strategy.name);
            assert!(peer.ours.iter().all(|name| names.contains(name)));
        }
        assert!(!supports("tower-p2c-peak-ewma", Work::Pick) && supports("random", Work::Call));
    }
}
