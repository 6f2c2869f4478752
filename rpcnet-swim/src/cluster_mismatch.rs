//! Cluster mismatch: how a datagram's sender differs from the receiver.

use std::fmt;

/// How the clusters of a sender and a receiver differ, so that the receiver refuses its datagrams.
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
