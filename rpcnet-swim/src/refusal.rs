//! Why a node refuses datagrams of another one.

use std::fmt;

/// Why a node refuses the datagrams of another one: they are of different clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatagramRefusal {
    /// The sender has another cluster name.
    OtherCluster,
    /// The sender seals with a key that the receiver does not have.
    OtherKey,
    /// The sender has no cluster key, the receiver has one.
    NoKey,
}

impl fmt::Display for DatagramRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherCluster => "the cluster names differ",
            Self::OtherKey => "the cluster keys differ",
            Self::NoKey => "the sender has no cluster key, the receiver has one",
        })
    }
}
