//! State of a source: whether it still reports changes.

use std::{fmt, net::SocketAddr};

use crate::NodeId;

/// Whether the source of a registry still reports the changes of the cluster.
///
/// A registry whose source does not keeps the last known view, marked as such, and selects no
/// worker by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceState {
    /// It does. A list that is changed by hand always does.
    #[default]
    Live,
    /// A newer node has the name of the observed node, which is no member any more. It may be
    /// again.
    Superseded {
        /// The newer node.
        by: NodeId,
        /// Its address.
        addr: SocketAddr,
    },
    /// The observed node has left the cluster. Final.
    Left,
    /// The source ended without a leave: its runtime is gone or it panicked; or it removed the
    /// registry, which had panicked while it took in a change. Final.
    Stopped,
}

impl SourceState {
    /// Whether it is [`Live`](Self::Live).
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// Whether the state is final: nothing follows.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Left | Self::Stopped)
    }
}

impl fmt::Display for SourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Superseded { by, addr } => {
                write!(f, "superseded by a newer node {by} at {addr}")
            }
            Self::Left => f.write_str("left the cluster"),
            Self::Stopped => f.write_str("stopped (its runtime has ended, or it panicked)"),
        }
    }
}
