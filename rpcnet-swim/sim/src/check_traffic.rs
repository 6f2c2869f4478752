//! Check of the traffic of a node without pending work: a bound in each probe interval.
//!
//! A node has pending work while it has gossip to pass on, pulls or syncs, or leaves, and for
//! [`QUIET_AFTER_INTERVALS`] probe intervals after something in its view changed. A node that was
//! stopped, slowed down or cut off handles at once all that waited, so it is exempt as long. For
//! every other node the bounds follow from the configuration:
//!
//! | datagrams | in a probe interval |
//! |---|---|
//! | hellos | [`JOIN_ATTEMPTS_MAX`] × [`ADDRS_PER_ATTEMPT`] × [`HELLOS_PER_ADDR`], busy or not |
//! | requests and pages of views | [`PAGE_BURSTS`] bursts of 16 |
//! | others, without answers to hellos | [`PROBING_NODES_MAX`] times the probe rounds of a node |
//!
//! A loop in which each datagram or lookup causes the next one exceeds them within milliseconds.

use rpcnet_swim::unstable::{DetectorHooks, SentByKind};
use rpcnet_swim::{Engine, Time};

use super::check::Violation;

/// Datagrams that a node sent in the current probe interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrafficCheck {
    /// Start of the interval.
    interval_start: Time,
    /// Datagrams sent before it.
    sent_before: SentByKind,
    /// Datagrams sent at the last check.
    sent_so_far: SentByKind,
    /// The last time that it had pending work or a fault.
    busy_at: Time,
}

impl TrafficCheck {
    /// The check of a node that starts now.
    pub(super) fn new(now: Time) -> Self {
        Self {
            interval_start: now,
            sent_before: SentByKind::default(),
            sent_so_far: SentByKind::default(),
            busy_at: now,
        }
    }

    /// Checks what a node has sent. `is_calm`: its view did not change, and it has no fault.
    pub(super) fn check<D: DetectorHooks>(
        &mut self,
        now: Time,
        engine: &Engine<D>,
        is_calm: bool,
    ) -> Result<(), Violation> {
        let config = engine.config();
        if !engine.detector().extends_swim() {
            // Another protocol forgets members and finds them again by other rules.
            return Ok(());
        }
        let unit = config.probe_interval();
        if !is_calm || engine.has_pending_work(now) {
            self.busy_at = now;
        }
        let sent = engine.sent_by_kind();
        if now.since(self.interval_start) >= unit {
            (self.interval_start, self.sent_before) = (now, self.sent_so_far);
        }
        self.sent_so_far = sent;
        let SentByKind {
            hellos,
            pages,
            others,
        } = sent - self.sent_before;
        let is_quiet = now.since(self.busy_at) > QUIET_AFTER_INTERVALS * unit;
        for (kind, count, bound, applies) in [
            (
                "hellos",
                hellos,
                JOIN_ATTEMPTS_MAX * ADDRS_PER_ATTEMPT * HELLOS_PER_ADDR,
                is_calm,
            ),
            ("pages", pages, PAGE_BURSTS * 16, is_quiet),
            (
                "others",
                others,
                PROBING_NODES_MAX * probe_datagrams_per_interval(engine),
                is_quiet,
            ),
        ] {
            if applies && count > bound {
                return Err(Violation::TrafficBoundExceeded { kind, count, bound });
            }
        }
        Ok(())
    }
}

/// Datagrams that the probe rounds of one node take in a probe interval if no member answers.
fn probe_datagrams_per_interval<D: DetectorHooks>(engine: &Engine<D>) -> u64 {
    let config = engine.config();
    let rounds = 1 + engine.detector().ring_successors(config.ring_successors());
    (rounds * (2 + config.indirect_probes())) as u64
}

/// Time after its last pending work in which a node may still be busy, in probe intervals.
const QUIET_AFTER_INTERVALS: u32 = 10;
/// Attempts to join within a probe interval: the wait is half of it at first, less a quarter.
const JOIN_ATTEMPTS_MAX: u64 = 3;
/// Addresses that an attempt dials: eight seeds, eight known ones, eight new ones.
const ADDRS_PER_ATTEMPT: u64 = 24;
/// Hellos to each address: one, and one that returns its cookie; as many go to members that ask for
/// them, of which a cluster with faults has some more (slow members: 289 were seen in all).
const HELLOS_PER_ADDR: u64 = 8;
/// Bursts of pages that others may request from a node in a probe interval: members that come back
/// together request them too (132 pages were seen where 16 did). A loop sends thousands.
const PAGE_BURSTS: u64 = 32;
/// Number of nodes whose probe rounds may involve one without pending work: reach checks of nodes
/// that come back together ask it too. A loop sends thousands.
const PROBING_NODES_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rpcnet_swim::ClusterConfig;

    use super::*;
    use crate::Cluster;

    /// Five nodes at rest, and what the checkers report after `tamper` was applied to the first
    /// one.
    fn violation(tamper: impl FnOnce(&mut Engine)) -> Option<Violation> {
        let mut cluster = Cluster::bootstrap(3, 5, ClusterConfig::lan());
        cluster.run_for(Duration::from_secs(40));
        cluster.expect_safe();
        assert!(cluster.is_converged());
        tamper(cluster.engine_mut(0).unwrap());
        cluster.run_for(Duration::from_secs(3));
        cluster.report().failure.map(|failure| failure.violation)
    }

    fn talks(seen: Option<Violation>) -> &'static str {
        match seen {
            Some(Violation::TrafficBoundExceeded { kind, .. }) => kind,
            seen => panic!("{seen:?}"),
        }
    }

    #[test]
    fn lookups_that_cause_each_other_are_seen() {
        assert_eq!(violation(|_| {}), None);
        let mut cluster = Cluster::new(3);
        let seeds = (1..=3).map(|n| ([10, 9, 0, n], 1).into()).collect();
        let node = cluster.add("loop", ClusterConfig::lan(), seeds);
        cluster.engine_mut(node).unwrap().tampering().loop_lookups();
        cluster.run_for(Duration::from_secs(3));
        let failure = cluster.report().failure.map(|failure| failure.violation);
        assert_eq!(talks(failure), "hellos");
    }

    #[test]
    fn answers_and_pages_without_end_are_seen() {
        let others = violation(|engine| engine.tampering().sent_by_kind().others += 1_000);
        assert_eq!(talks(others), "others");
        let pages = violation(|engine| engine.tampering().sent_by_kind().pages += 1_000);
        assert_eq!(talks(pages), "pages");
    }
}
