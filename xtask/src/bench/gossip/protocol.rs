//! Orders to a process of members, and its answers.

use std::ops::{AddAssign, Range, Sub};

use serde::{Deserialize, Serialize};

/// Order to a process, which answers each with one [`Answer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Makes the seeds, each alone for now.
    Seed { count: usize, key: [u8; 32] },
    /// Makes the members of these numbers that are not there yet and has all join.
    Start {
        numbers: Range<usize>,
        seeds: Vec<String>,
        key: [u8; 32],
        /// Members that there will be in all processes.
        nodes: usize,
    },
    /// Asks who sees all alive.
    Views,
    /// Asks what was used so far.
    Count,
    /// Tells from now on who is suspected or found failed.
    Watch,
    /// Drops these without a word.
    Drop { numbers: Vec<usize> },
    /// Asks what was noticed since the last time.
    Notices,
}

/// Answer of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Addresses of the seeds.
    Seeds {
        addrs: Vec<String>,
    },
    /// The order is carried out, at this time of the monotonic clock.
    Done {
        at_us: u64,
    },
    Views(Views),
    Count(Counters),
    Notices {
        notices: Vec<Observation>,
    },
    /// The order failed; the process ends.
    Failed {
        message: String,
    },
}

/// Views of the members of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Views {
    /// Times at which members first had a full view, by the monotonic clock.
    pub(crate) full_at_us: Vec<u64>,
    /// Live members in the smallest view.
    pub(crate) least: usize,
}

/// Counters and resource usage of the members of a process since they started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) cpu_us: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) suspicions: u64,
    pub(crate) failures: u64,
    pub(crate) void_rounds: u64,
    pub(crate) misses: u64,
    pub(crate) syncs: u64,
    pub(crate) stalls: u64,
    pub(crate) socket_errors: u64,
    /// Datagrams without effect, whatever the reason.
    pub(crate) dropped: u64,
}

/// Observation of a member by another.
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
    Recovered,
    /// The observer missed some events: its subject is itself.
    Lagged,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.cpu_us += other.cpu_us;
        self.rss_bytes += other.rss_bytes;
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.suspicions += other.suspicions;
        self.failures += other.failures;
        self.void_rounds += other.void_rounds;
        self.misses += other.misses;
        self.syncs += other.syncs;
        self.stalls += other.stalls;
        self.socket_errors += other.socket_errors;
        self.dropped += other.dropped;
    }
}

/// Difference to `earlier`; memory is no counter and stays what it is now.
impl Sub for Counters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu_us: self.cpu_us - earlier.cpu_us,
            rss_bytes: self.rss_bytes,
            sent: self.sent - earlier.sent,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            suspicions: self.suspicions - earlier.suspicions,
            failures: self.failures - earlier.failures,
            void_rounds: self.void_rounds - earlier.void_rounds,
            misses: self.misses - earlier.misses,
            syncs: self.syncs - earlier.syncs,
            stalls: self.stalls - earlier.stalls,
            socket_errors: self.socket_errors - earlier.socket_errors,
            dropped: self.dropped - earlier.dropped,
        }
    }
}
