//! Transitions: changes of one node's view of another, in a form that a long run can keep.

use rpcnet_swim::{MemberState, Time};

/// A change of a member's state in the view of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Virtual time.
    pub at: Time,
    /// Number of the observing node.
    pub observer: u32,
    /// Number of the member's slot.
    pub subject: u32,
    /// The new state.
    pub to: MemberState,
    /// Whether the observer was healthy at this moment, as by
    /// [`Cluster::is_healthy`](super::Cluster::is_healthy).
    pub observer_healthy: bool,
    /// Whether the subject was healthy. A former instance of the node in that slot was not: it is
    /// down.
    pub subject_healthy: bool,
}

/// Which transitions are kept for [`Cluster::transitions`](super::Cluster::transitions).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransitionLog {
    /// None.
    Nothing,
    /// Those to failed and left, and from there back to alive. Suspicions are counted only, in
    /// [`SimReport::suspicions`](super::SimReport::suspicions).
    #[default]
    Failures,
    /// All: also those to suspect and back, and a member's first appearance.
    All,
}
