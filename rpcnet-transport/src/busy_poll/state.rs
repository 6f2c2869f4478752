//! State of busy polling: whether a thread spins, and why not.

use std::{fmt, time::Duration};

/// Whether [busy polling](crate::TransportConfig::with_busy_poll) is on for an endpoint, and why
/// not. See [`Endpoint::busy_poll_state`](crate::Endpoint::busy_poll_state).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusyPollState {
    /// On. Where it does not pay it is tried rarely, which
    /// [`busy_poll_spins`](crate::TransportStats::busy_poll_spins) shows.
    On {
        /// Longest spin without a packet.
        spin_max: Duration,
    },
    /// The configuration has turned it off, as the preset `wan` does, or the endpoint is in memory.
    Disabled,
    /// The runtime is a multi-thread one with a single worker thread, which has other work.
    SingleWorkerThread,
    /// The process, or a group that it belongs to, has a quota of CPU time (cgroups).
    CpuQuota,
    /// The host of this virtual machine took more than a tenth of its busy time.
    StolenTime,
}

impl BusyPollState {
    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }
}

impl fmt::Display for BusyPollState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On { spin_max } => write!(f, "on, for {spin_max:?} at most"),
            Self::Disabled => f.write_str("off by configuration"),
            Self::SingleWorkerThread => f.write_str("off: the runtime has one worker thread"),
            Self::CpuQuota => f.write_str("off: a quota of CPU time"),
            Self::StolenTime => f.write_str("off: the host takes CPU time"),
        }
    }
}
