//! Why a node refuses datagrams of another one.

use std::fmt;

/// Why a node refuses the datagrams of another one: they are of different clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClusterMismatch {
    /// The sender has another cluster name.
    ClusterName,
    /// The sender seals with a key that the receiver does not have.
    ClusterKey,
    /// The sender has no cluster key, the receiver has one.
    MissingKey,
}

impl fmt::Display for ClusterMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterName => "the cluster names differ",
            Self::ClusterKey => "the cluster keys differ",
            Self::MissingKey => "the sender has no cluster key, the receiver has one",
        })
    }
}
