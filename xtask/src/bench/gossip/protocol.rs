//! Orders to a process of members, and its answers.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Order to a process, which answers each with one [`Answer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Makes the seeds, each alone for now. The answer is a list of their addresses.
    Seed { count: usize, key: [u8; 32] },
    /// Makes the members of these numbers that are not there yet and has all join.
    Start {
        numbers: Range<usize>,
        seeds: Vec<String>,
        key: [u8; 32],
        /// Members that there will be in all processes.
        nodes: usize,
    },
    /// Asks for the [`Views`] of the members.
    Views,
    /// Asks for the [`Counters`] of the members.
    Count,
    /// Records from now on who is suspected or found failed.
    Watch,
    /// Drops these without a word. The answer is when, by the monotonic clock.
    Drop { numbers: Vec<usize> },
    /// Asks for the [`Observation`]s since the last time.
    Notices,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer<T> {
    pub(crate) answer: T,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Views {
    /// Times at which members first had a full view, by the monotonic clock.
    pub(crate) full_at_us: Vec<u64>,
    /// Live members in the smallest view.
    pub(crate) least: usize,
}

/// Counters and resource usage of the members of a process since they started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) cpu_us: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) suspicions: u64,
    pub(crate) failures: u64,
    /// Probe rounds without an answer, with a witness or not.
    pub(crate) misses: u64,
    pub(crate) syncs: u64,
    pub(crate) stalls: u64,
    /// Datagrams without effect, whatever the reason.
    pub(crate) dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Observation {
    pub(crate) at_us: u64,
    pub(crate) observer: usize,
    pub(crate) subject: usize,
    pub(crate) what: ObservedChange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ObservedChange {
    Suspected,
    Failed,
}

impl Counters {
    pub(crate) fn plus(self, other: Self) -> Self {
        self.combine(other, |one, other| one + other)
    }

    /// Difference to `earlier`; memory is no counter and stays what it is now.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            rss_bytes: self.rss_bytes,
            ..self.combine(earlier, u64::saturating_sub)
        }
    }

    fn combine(self, other: Self, each: fn(u64, u64) -> u64) -> Self {
        Self {
            cpu_us: each(self.cpu_us, other.cpu_us),
            rss_bytes: each(self.rss_bytes, other.rss_bytes),
            sent: each(self.sent, other.sent),
            sent_bytes: each(self.sent_bytes, other.sent_bytes),
            suspicions: each(self.suspicions, other.suspicions),
            failures: each(self.failures, other.failures),
            misses: each(self.misses, other.misses),
            syncs: each(self.syncs, other.syncs),
            stalls: each(self.stalls, other.stalls),
            dropped: each(self.dropped, other.dropped),
        }
    }
}
