//! Partition detection: whether a large part of the cluster, or this node, is cut off.

use std::time::Duration;

use super::{DetectorHooks, Engine, Entry};
use crate::event::{Event, MemberState, PartitionStatus};
use crate::time::Time;

/// Detector of partitions, by how many members are reachable.
#[derive(Debug)]
pub(crate) struct PartitionDetector {
    /// Status without regard to isolation: meanwhile nothing is learnt of the others.
    status_unless_isolated: PartitionStatus,
    /// First sign of the partition, while one is suspected or reported.
    suspected_since: Option<Time>,
    /// Expected members when this node became isolated, while it is.
    isolated: Option<usize>,
    /// End of the last isolation: what came meanwhile has yet to be merged.
    isolation_ended_at: Option<Time>,
    /// Whether this side had no majority in the last report.
    reported_minority: bool,
    /// Time since which that is no longer so.
    minority_changed_at: Option<Time>,
    pub(super) contact: Contact,
    /// Time at which a member last joined, left, failed or recovered.
    pub(super) membership_changed_at: Time,
}

/// Last contact of this node with any member.
#[derive(Debug)]
pub(super) struct Contact {
    last_heard_at: Time,
    /// Time of the first datagram after the last isolation.
    silence_ended_at: Time,
}

impl Contact {
    /// Contact of a node that starts: it counts as heard now.
    pub(super) fn new(now: Time) -> Self {
        Self {
            last_heard_at: now,
            silence_ended_at: now,
        }
    }

    pub(super) fn silence_ended_at(&self) -> Time {
        self.silence_ended_at
    }

    /// Whether no member was heard for longer than `limit`.
    fn is_silent(&self, now: Time, limit: Duration) -> bool {
        now.since(self.last_heard_at) > limit
    }

    fn record_heard(&mut self, now: Time, was_isolated: bool) {
        if was_isolated {
            self.silence_ended_at = now;
        }
        self.last_heard_at = now;
    }
}

/// Change that is emitted as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartitionChange {
    Detected {
        reachable: usize,
        expected: usize,
        minority: bool,
    },
    Healed,
}

impl PartitionDetector {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            status_unless_isolated: PartitionStatus::Healthy,
            suspected_since: None,
            isolated: None,
            isolation_ended_at: None,
            reported_minority: false,
            minority_changed_at: None,
            contact: Contact::new(now),
            membership_changed_at: now,
        }
    }

    pub(crate) fn status(&self) -> PartitionStatus {
        match self.isolated {
            Some(expected) => PartitionStatus::Isolated { expected },
            None => self.status_unless_isolated,
        }
    }

    /// Whether too many members are missing, for however short a time.
    pub(crate) fn is_suspected(&self) -> bool {
        self.status_unless_isolated != PartitionStatus::Healthy
    }

    /// Start of the window in which failed members count as missing: failures far apart are
    /// crashes, and a partition keeps its members however long it lasts.
    pub(crate) fn window_start(&self, now: Time, window: Duration) -> Time {
        self.suspected_since.unwrap_or(now) - window
    }

    /// Records that this node hears none of so many members. Says whether that is new.
    pub(crate) fn isolate(&mut self, expected: usize) -> bool {
        self.isolated.replace(expected).is_none()
    }

    /// Records that this node hears a member. Says whether that ended an isolation.
    pub(crate) fn end_isolation(&mut self, now: Time) -> bool {
        let ended = self.isolated.take().is_some();
        if ended {
            self.isolation_ended_at = Some(now);
        }
        ended
    }

    /// Takes in how many members are reachable of how many there were, this node included, and
    /// whether they are a minority.
    pub(crate) fn observe(
        &mut self,
        now: Time,
        (reachable, expected): (usize, usize),
        minority: bool,
        grace: Duration,
    ) -> Option<PartitionChange> {
        if !is_partition(reachable, expected) {
            let was = std::mem::replace(&mut self.status_unless_isolated, PartitionStatus::Healthy);
            self.suspected_since = None;
            let healed = matches!(was, PartitionStatus::Partitioned { .. });
            return healed.then_some(PartitionChange::Healed);
        }
        if self.status_unless_isolated == PartitionStatus::Healthy {
            self.status_unless_isolated = PartitionStatus::Suspected;
        }
        let suspected_since = *self.suspected_since.get_or_insert(now);
        let first = self.status_unless_isolated == PartitionStatus::Suspected;
        let isolation_ended_at = self.isolation_ended_at;
        let is_recent = |at: Time| {
            let at = isolation_ended_at.map_or(at, |ended| at.max(ended));
            now.since(at) < grace
        };
        if first && is_recent(suspected_since) {
            return None;
        }
        self.status_unless_isolated = PartitionStatus::Partitioned {
            reachable,
            expected,
            minority,
        };
        if !first && minority == self.reported_minority {
            self.minority_changed_at = None;
            return None;
        }
        let untrue_since = *self.minority_changed_at.get_or_insert(now);
        if !first && is_recent(untrue_since) {
            return None;
        }
        self.reported_minority = minority;
        self.minority_changed_at = None;
        Some(PartitionChange::Detected {
            reachable,
            expected,
            minority,
        })
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Whether this node is isolated: no member has been heard for so long that its own network
    /// must be the cause. With a single other member there is no telling.
    pub(super) fn is_isolated(&self, now: Time) -> bool {
        self.detector.detects_isolation()
            && self.table.live().len() >= 2
            && self
                .partition
                .contact
                .is_silent(now, SILENT_ROUNDS * self.config.probe_interval)
    }

    /// Records that a member was heard.
    pub(super) fn record_heard(&mut self, now: Time) {
        let was_isolated = self.is_isolated(now);
        self.partition.contact.record_heard(now, was_isolated);
        if self.partition.end_isolation(now) {
            self.emit(Event::IsolationEnded);
            self.recheck_now(now);
        }
    }

    /// Compares the reachable with the expected members, and emits what changed.
    pub(super) fn check_partition(&mut self, now: Time) {
        let expected = self.expected_count(now);
        if self.is_isolated(now) {
            if self.partition.isolate(expected) {
                self.reach.isolate();
                self.emit(Event::Isolated { expected });
            }
            return;
        }
        if self.partition.end_isolation(now) {
            // The members that were not heard are no longer members.
            self.reach.reset();
            self.emit(Event::IsolationEnded);
        }
        self.refresh_estimate(now);
        let reachable = self.reachable_count();
        let minority = !self.has_majority(now, reachable, expected);
        let (grace, before) = (self.config.partition_grace, self.partition.is_suspected());
        let counts = (reachable, expected);
        let change = self.partition.observe(now, counts, minority, grace);
        if self.partition.is_suspected() && !before {
            self.undo_partition_flaps(now);
            if !self.reach.is_in_force() {
                // Found by declared failures; a reach check finds members that are not declared
                // failed yet.
                self.start_check(now);
            }
        }
        match change {
            Some(PartitionChange::Detected {
                reachable,
                expected,
                minority,
            }) => {
                self.emit(Event::PartitionDetected {
                    reachable,
                    expected,
                    minority,
                });
            }
            Some(PartitionChange::Healed) => self.emit(Event::PartitionHealed),
            None => {}
        }
    }

    /// Number of live and missing members, this node included.
    pub(super) fn expected_count(&mut self, now: Time) -> usize {
        let from = self.missing_window_start(now);
        self.live_count() + self.table.missing_since(from)
    }

    /// Whether a member that is due to be forgotten is still expected: none is forgotten during a
    /// partition.
    pub(super) fn is_kept_for_partition(&self, now: Time, key: u64) -> bool {
        let cut = self.detector.extends_swim()
            && (self.partition.is_suspected() || self.reach.is_in_force() || self.is_isolated(now));
        let from = self.missing_window_start(now);
        let is_missing = |entry: &Entry| {
            entry.state == MemberState::Failed
                && entry.since >= from
                && self.table.counts_as_missing(entry)
        };
        cut && self.table.get(key).is_some_and(is_missing)
    }
}

/// Silence of all members after which this node is isolated, in probe intervals.
const SILENT_ROUNDS: u32 = 3;

/// Whether half of the cluster is missing, or at least two members that are a quarter of it.
pub(super) fn is_partition(reachable: usize, expected: usize) -> bool {
    let missing = expected.saturating_sub(reachable);
    missing > 0 && (missing * 2 >= expected || (missing >= 2 && missing * 4 >= expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_crash_of_many_is_no_partition() {
        for (reachable, expected, cut) in [
            (1, 1, false),
            (1, 2, true),
            (2, 3, false),
            (1, 3, true),
            (2, 4, true),
            (9, 10, false),
            (8, 10, false),
            (7, 10, true),
        ] {
            assert_eq!(
                is_partition(reachable, expected),
                cut,
                "{reachable} of {expected}"
            );
        }
    }

    #[test]
    fn a_partition_is_detected_after_the_grace_and_healed_at_once() {
        let (at, grace) = (Time::from_millis, Duration::from_secs(5));
        let mut watch = PartitionDetector::new(Time::ZERO);
        assert_eq!(watch.observe(at(0), (5, 5), false, grace), None);
        assert_eq!(watch.observe(at(1_000), (2, 5), true, grace), None);
        assert_eq!(watch.status(), PartitionStatus::Suspected);
        assert_eq!(watch.observe(at(5_999), (2, 5), true, grace), None);
        let detected = PartitionChange::Detected {
            reachable: 2,
            expected: 5,
            minority: true,
        };
        assert_eq!(
            watch.observe(at(6_000), (2, 5), true, grace),
            Some(detected)
        );
        assert_eq!(
            watch.observe(at(7_000), (2, 5), true, grace),
            None,
            "reported once"
        );
        assert_eq!(
            watch.window_start(at(900_000), grace),
            at(0),
            "the window stays with the cut"
        );
        assert_eq!(
            watch.observe(at(8_000), (5, 5), false, grace),
            Some(PartitionChange::Healed)
        );
        assert_eq!(watch.status(), PartitionStatus::Healthy);
    }

    #[test]
    fn a_partition_shorter_than_the_grace_is_never_reported() {
        let (at, grace) = (Time::from_millis, Duration::from_secs(5));
        let mut watch = PartitionDetector::new(Time::ZERO);
        assert_eq!(watch.observe(at(0), (1, 2), true, grace), None);
        assert_eq!(watch.observe(at(4_000), (2, 2), false, grace), None);
        assert_eq!(watch.observe(at(6_000), (1, 2), true, grace), None);
        assert_eq!(watch.status(), PartitionStatus::Suspected);
    }

    #[test]
    fn a_partition_is_reported_again_when_the_majority_is_lost_for_long() {
        let (at, grace) = (Time::from_millis, Duration::from_secs(5));
        let mut watch = PartitionDetector::new(Time::ZERO);
        let detected = |reachable, minority| {
            Some(PartitionChange::Detected {
                reachable,
                expected: 10,
                minority,
            })
        };
        watch.observe(at(0), (6, 10), false, grace);
        assert_eq!(
            watch.observe(at(5_000), (6, 10), false, grace),
            detected(6, false)
        );
        // A short time of it is not reported, though the status shows it.
        assert_eq!(watch.observe(at(6_000), (4, 10), true, grace), None);
        assert!(matches!(
            watch.status(),
            PartitionStatus::Partitioned { minority: true, .. }
        ));
        assert_eq!(watch.observe(at(10_000), (6, 10), false, grace), None);
        assert_eq!(watch.observe(at(12_000), (4, 10), true, grace), None);
        assert_eq!(watch.observe(at(16_999), (4, 10), true, grace), None);
        assert_eq!(
            watch.observe(at(17_000), (4, 10), true, grace),
            detected(4, true)
        );
        assert_eq!(
            watch.observe(at(30_000), (4, 10), true, grace),
            None,
            "reported once"
        );
        assert_eq!(watch.observe(at(31_000), (6, 10), false, grace), None);
        assert_eq!(
            watch.observe(at(36_000), (6, 10), false, grace),
            detected(6, false)
        );
    }

    #[test]
    fn isolation_is_reported_at_once_and_overrides_the_partition_status() {
        let (at, grace) = (Time::from_millis, Duration::from_secs(5));
        let mut watch = PartitionDetector::new(Time::ZERO);
        watch.observe(at(0), (2, 5), true, grace);
        assert!(!watch.end_isolation(at(0)));
        assert!(watch.isolate(5));
        assert!(!watch.isolate(5), "reported once");
        assert_eq!(watch.status(), PartitionStatus::Isolated { expected: 5 });
        assert!(watch.end_isolation(at(60_000)));
        assert!(!watch.end_isolation(at(60_000)));
        assert_eq!(watch.status(), PartitionStatus::Suspected);
        // The others get the grace period to be heard.
        assert_eq!(watch.observe(at(64_999), (2, 5), true, grace), None);
        assert!(watch.observe(at(65_000), (2, 5), true, grace).is_some());
    }
}
