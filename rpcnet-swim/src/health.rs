//! Health of a member, for choosing where to send work.

use std::time::Duration;

/// Health of a member, as one node sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// Summary of the fields below.
    pub state: HealthState,
    /// How sure this node is that the member is gone; see [`Engine::phi`](crate::Engine::phi).
    pub phi: f64,
    /// Round trip of the last ping of this node that the member answered itself; `None` if there
    /// was none. In a cluster of N members a node pings each of them once in N probe intervals, its
    /// ring successor and slow members more often.
    pub round_trip: Option<Duration>,
    /// Age of that round trip, to a tenth of a second.
    pub measured_ago: Option<Duration>,
}

/// Summary of a member's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// Its answers come in time, or nothing else is known.
    Responsive,
    /// It answers, and takes long: two answers in a row took this node longer than half of the
    /// probe timeout, while another member's took less than a quarter; or the member finds that
    /// every member's answers take it that long, and says so. Such a member is not about to be
    /// declared failed.
    Slow,
    /// It is alive by its own word and cannot be reached; see
    /// [`Event::NodeUnreachable`](crate::Event::NodeUnreachable).
    Unreachable,
    /// At least one member had no answer from it.
    Suspect,
    /// It was declared failed.
    Failed,
    /// It said that it leaves.
    Left,
}
