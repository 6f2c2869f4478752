//! Whether a large part of the cluster became unreachable at once.

use std::time::Duration;

use crate::event::PartitionStatus;
use crate::time::Time;

/// Watches how many members are on this side.
#[derive(Debug)]
pub(crate) struct PartitionWatch {
    status: PartitionStatus,
    /// Of the first sight of what is suspected.
    since: Time,
}

/// A change worth an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartitionChange {
    Detected {
        reachable: usize,
        expected: usize,
        minority: bool,
    },
    Healed,
}

impl PartitionWatch {
    pub(crate) fn new() -> Self {
        Self {
            status: PartitionStatus::Healthy,
            since: Time::ZERO,
        }
    }

    pub(crate) fn status(&self) -> PartitionStatus {
        self.status
    }

    /// Members that failed from this time on count as missing: failures far apart are crashes,
    /// and a partition keeps its members however long it lasts.
    pub(crate) fn window_start(&self, now: Time, window: Duration) -> Time {
        match self.status {
            PartitionStatus::Healthy => now - window,
            _ => self.since - window,
        }
    }

    /// Takes in how many members are reachable of how many there were, this node included.
    pub(crate) fn observe(
        &mut self,
        now: Time,
        reachable: usize,
        expected: usize,
        grace: Duration,
    ) -> Option<PartitionChange> {
        if !is_cut(reachable, expected) {
            let was = std::mem::replace(&mut self.status, PartitionStatus::Healthy);
            let healed = matches!(was, PartitionStatus::Partitioned { .. });
            return healed.then_some(PartitionChange::Healed);
        }
        if self.status == PartitionStatus::Healthy {
            self.status = PartitionStatus::Suspected;
            self.since = now;
        }
        if self.status == PartitionStatus::Suspected && now.since(self.since) < grace {
            return None;
        }
        let minority = reachable * 2 <= expected;
        let first = self.status == PartitionStatus::Suspected;
        self.status = PartitionStatus::Partitioned {
            reachable,
            expected,
            minority,
        };
        first.then_some(PartitionChange::Detected {
            reachable,
            expected,
            minority,
        })
    }
}

/// Half of the cluster is missing, or at least two members that are a quarter of it.
fn is_cut(reachable: usize, expected: usize) -> bool {
    let missing = expected.saturating_sub(reachable);
    missing > 0 && (missing * 2 >= expected || (missing >= 2 && missing * 4 >= expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_no_cut() {
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
                is_cut(reachable, expected),
                cut,
                "{reachable} of {expected}"
            );
        }
    }

    #[test]
    fn detected_after_the_grace_healed_at_once() {
        let (at, grace) = (Time::from_millis, Duration::from_secs(5));
        let mut watch = PartitionWatch::new();
        assert_eq!(watch.observe(at(0), 5, 5, grace), None);
        assert_eq!(watch.observe(at(1_000), 2, 5, grace), None);
        assert_eq!(watch.status(), PartitionStatus::Suspected);
        assert_eq!(watch.observe(at(5_999), 2, 5, grace), None);
        let detected = PartitionChange::Detected {
            reachable: 2,
            expected: 5,
            minority: true,
        };
        assert_eq!(watch.observe(at(6_000), 2, 5, grace), Some(detected));
        assert_eq!(watch.observe(at(7_000), 2, 5, grace), None, "told once");
        assert_eq!(
            watch.window_start(at(900_000), grace),
            at(0),
            "the window stays with the cut"
        );
        assert_eq!(
            watch.observe(at(8_000), 5, 5, grace),
            Some(PartitionChange::Healed)
        );
        assert_eq!(watch.status(), PartitionStatus::Healthy);
    }

    #[test]
    fn what_passes_within_the_grace_is_never_told() {
        let (at, grace) = (Time::from_millis, Duration::from_secs(5));
        let mut watch = PartitionWatch::new();
        assert_eq!(watch.observe(at(0), 1, 2, grace), None);
        assert_eq!(watch.observe(at(4_000), 2, 2, grace), None);
        assert_eq!(watch.observe(at(6_000), 1, 2, grace), None);
        assert_eq!(watch.status(), PartitionStatus::Suspected);
    }
}
