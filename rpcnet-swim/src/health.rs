//! How a member does, for those who choose whom to send work to.

use std::time::Duration;

/// How a member does, as one node sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// All in one word.
    pub state: HealthState,
    /// How sure this node is that the member is gone; see [`Engine::phi`](crate::Engine::phi).
    pub phi: f64,
    /// Between the last ping of this node that the member answered itself and the answer; none
    /// if there was none. In a cluster of N members a node pings each of them once in N probe
    /// intervals, its successor on the ring and slow ones more often.
    pub round_trip: Option<Duration>,
    /// How long ago that was, to a tenth of a second.
    pub measured_ago: Option<Duration>,
}

/// How a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// Its answers come in time, or nobody knows better.
    Responsive,
    /// It answers, and takes long: two answers in a row took this node longer than half of the
    /// probe timeout, while another member's took less than a quarter; or the member finds that
    /// everybody's take it that long, and says so. Not on the way to be held failed.
    Slow,
    /// It is alive by its own word and cannot be reached; see
    /// [`Event::NodeUnreachable`](crate::Event::NodeUnreachable).
    Unreachable,
    /// Somebody had no answer from it.
    Suspect,
    /// It was declared failed.
    Failed,
    /// It said that it leaves.
    Left,
}
