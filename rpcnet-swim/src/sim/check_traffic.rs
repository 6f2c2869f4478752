//! The rule for datagrams of a node that has nothing to tell: a bound in each probe interval.
//!
//! A node is in news while it has gossip to pass on, pulls or syncs, or leaves, and for
//! [`QUIET_AFTER_INTERVALS`] probe intervals after something in its view changed. One that was stopped, slowed
//! down or cut off takes in at once all that waited, so it is left out as long. For every other
//! node the bounds follow from the configuration:
//!
//! | datagrams | in a probe interval |
//! |---|---|
//! | hellos, in news too | [`ATTEMPTS`] attempts of [`ADDRS_PER_ATTEMPT`] addresses, [`HELLOS_PER_ADDR`] times each |
//! | requests and pages of views | [`PAGE_BURSTS`] bursts of 16 |
//! | all others but answers to hellos: probes, acks, relays | [`PROBING_NODES_MAX`] times what the rounds of one node may take |
//!
//! A loop in which each datagram or look-up causes the next one passes them within milliseconds.

use super::check::Violation;
use crate::engine::Engine;
use crate::engine::hooks::DetectorHooks;
use crate::engine::sent_by_kind::SentByKind;
use crate::time::Time;

/// What a node sent in the probe interval under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrafficCheck {
    /// Start of that interval.
    interval_start: Time,
    /// What had been sent before.
    sent_before: SentByKind,
    /// What had been sent at the last look.
    sent_so_far: SentByKind,
    /// The last time that it was in news or not well.
    busy_at: Time,
}

impl TrafficCheck {
    /// Of a node that starts now.
    pub(super) fn new(now: Time) -> Self {
        Self {
            interval_start: now,
            sent_before: SentByKind::default(),
            sent_so_far: SentByKind::default(),
            busy_at: now,
        }
    }

    /// Takes in what a node has sent. `is_calm`: its view did not change, and it does its work.
    pub(super) fn check<D: DetectorHooks>(
        &mut self,
        now: Time,
        engine: &Engine<D>,
        is_calm: bool,
    ) -> Result<(), Violation> {
        let config = engine.config();
        if !engine.detector().extends_swim() {
            // It forgets members and finds them again by other rules.
            return Ok(());
        }
        let unit = config.probe_interval;
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
        for (what, count, bound, applies) in [
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
                return Err(Violation::TrafficBoundExceeded { what, count, bound });
            }
        }
        Ok(())
    }
}

/// Datagrams that the rounds of one node take in a probe interval if nobody answers.
fn probe_datagrams_per_interval<D: DetectorHooks>(engine: &Engine<D>) -> u64 {
    let config = engine.config();
    let rounds = 1 + engine.detector().ring_successors(config.ring_successors);
    (rounds * (2 + config.indirect_probes)) as u64
}

/// How long after its last news a node may still be busy with them, in probe intervals.
const QUIET_AFTER_INTERVALS: u32 = 10;
/// Attempts to get in within a probe interval: the wait is half of it at first, less a quarter.
const JOIN_ATTEMPTS_MAX: u64 = 3;
/// Addresses that an attempt dials: eight seeds, eight known ones, eight fresh ones.
const ADDRS_PER_ATTEMPT: u64 = 24;
/// To each goes a hello and one that brings its cookie back; as many go to members that ask for them,
/// of whom a cluster in trouble has some more (slow members: 289 were seen in all).
const HELLOS_PER_ADDR: u64 = 8;
/// Bursts of pages that others may ask of a node in a probe interval: members that come back together
/// ask it too (132 pages were seen where 16 did). A loop sends thousands.
const PAGE_BURSTS: u64 = 32;
/// Rounds of how many nodes may have to do with one that is not in news: reach checks of nodes that
/// come back together ask it too. A loop sends thousands.
const PROBING_NODES_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::ClusterConfig;
    use crate::sim::Cluster;

    /// Five nodes that are at rest, and what the checkers say after `tamper` was at the first one.
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
            Some(Violation::TrafficBoundExceeded { what, .. }) => what,
            seen => panic!("{seen:?}"),
        }
    }

    #[test]
    fn look_ups_that_cause_each_other_are_seen() {
        assert_eq!(violation(|_| {}), None);
        let mut cluster = Cluster::new(3);
        let seeds = (1..=3).map(|n| ([10, 9, 0, n], 1).into()).collect();
        let node = cluster.add("loop", ClusterConfig::lan(), seeds);
        cluster.engine_mut(node).unwrap().plant_seed_loop();
        cluster.run_for(Duration::from_secs(3));
        let failure = cluster.report().failure.map(|failure| failure.violation);
        assert_eq!(talks(failure), "hellos");
    }

    #[test]
    fn answers_and_pages_without_end_are_seen() {
        let others = violation(|engine| engine.plant_sent(|sent| &mut sent.others));
        assert_eq!(talks(others), "others");
        let pages = violation(|engine| engine.plant_sent(|sent| &mut sent.pages));
        assert_eq!(talks(pages), "pages");
    }
}
