//! Targets, and whether they are met.

use xtask_pick::{
    Work,
    rpcnet_subject::{self, StrategyKind},
};
use xtask_report::ratio;

use super::figures::{self, Measured};

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

/// A target that was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TargetResult {
    pub(crate) strategy: &'static str,
    /// Bound of the target.
    pub(crate) bound: String,
    /// The worst of all numbers of workers.
    pub(crate) measured: String,
    pub(crate) met: bool,
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
pub(crate) fn check_targets(measured: &[Measured]) -> Vec<TargetResult> {
    let rows = figures::rows(measured);
    let sizes = figures::sizes(&rows);
    let mut targets = Vec::new();
    for strategy in rpcnet_subject::STRATEGIES
        .iter()
        .filter(|it| it.kind != StrategyKind::Baseline)
    {
        let name = strategy.name;
        let of = || rows.iter().filter(move |row| row.strategy == name);
        let mut check = |bound: String, measured: String, met, is_certain| {
            targets.push(TargetResult {
                strategy: name,
                bound,
                measured,
                met,
                is_certain,
            });
        };
        let Some(allocations) = of().map(|row| row.allocations_per_pick).reduce(f64::max) else {
            continue;
        };
        check(
            "no allocation".to_owned(),
            format!("{allocations:.4}"),
            // What a thread needs once, for its first look at a registry, is not of its picks.
            allocations < ALLOCATIONS_NOISE,
            true,
        );
        // The rest is asked of a strategy.
        if strategy.kind == StrategyKind::Selection {
            continue;
        }
        let alone = of().filter(|row| row.work == Work::Pick && row.threads == 1);
        let longest = alone.map(|row| row.ns_per_pick).reduce(f64::max);
        if let Some(ns) = longest.filter(|_| strategy.kind != StrategyKind::Scan) {
            let bound = format!("at most {NS_MAX} ns");
            check(bound, format!("{ns:.1} ns"), ns <= NS_MAX, false);
        }
        let speed_ups = sizes
            .iter()
            .filter_map(|workers| figures::speed_up(measured, name, *workers));
        if let Some(least) = speed_ups.reduce(f64::min) {
            let bound = format!("two threads at least {}", ratio(SPEED_UP_MIN));
            check(bound, ratio(least), least >= SPEED_UP_MIN, false);
        }
        for peer in PEERS.iter().filter(|peer| peer.ours.contains(&name)) {
            let times = sizes.iter().filter_map(|workers| {
                figures::peer_ratio(measured, (name, peer.name), peer.work, *workers)
            });
            if let Some(least) = times.reduce(f64::min) {
                let bound = format!("{} at least {}", peer.name, ratio(PEER_MIN));
                check(bound, ratio(least), least >= PEER_MIN, false);
            }
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
    use crate::bench::pick::figures::tests::rounds;

    fn met(measured: &[Measured]) -> Vec<bool> {
        check_targets(measured)
            .iter()
            .map(|target| target.met)
            .collect()
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
        some[2].reading.allocations = 0.001;
        let targets = check_targets(&some);
        assert!(targets[0].is_certain && !targets[0].met);
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
        both[2].reading.ns = 149.0;
        assert_eq!(met(&both), [true, false]);
        for peer in PEERS {
            let names = rpcnet_subject::STRATEGIES.map(|strategy| strategy.name);
            assert!(peer.ours.iter().all(|name| names.contains(name)));
        }
        assert!(!supports("tower-p2c-peak-ewma", Work::Pick) && supports("random", Work::Call));
    }
}
