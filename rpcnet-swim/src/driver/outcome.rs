//! Outcomes and errors of starting, joining and leaving.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::cluster_mismatch::ClusterMismatch;
use crate::error::{ConfigError, JoinRefusal};
use crate::id::NodeId;
use crate::seed::SeedSyntaxError;

/// Error of starting a node.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself. The caller's fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be bound: it is in use, or not one of this host. Another port or a retry
    /// may help.
    #[error("cannot bind {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// There is no tokio runtime to run the node on.
    #[error("a node needs a tokio runtime")]
    NoRuntime,
}

/// Outcome of [`join`](crate::ClusterMembership::join).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinOutcome {
    /// The node's view has agreed with that of another member: it knows every member.
    Complete,
    /// The node was let in, and the join timeout was over before its view agreed with that of
    /// another member: it may not know every member yet.
    Partial,
    /// The node is a cluster of its own: it has no seeds but itself, or none of the others
    /// answered.
    Alone,
}

/// Error of joining a cluster.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// No seed has let the node in yet. It goes on trying.
    #[error("no seed let this node in ({})", format_seed_failures(seeds))]
    NoSeedAnswered {
        /// Each seed and its failure.
        seeds: Vec<(String, SeedFailure)>,
    },
    /// A seed answered and did not let this node in, which goes on trying.
    #[error("{by} refused to let this node in: {reason}")]
    Refused {
        /// Address of the seed.
        by: SocketAddr,
        /// Reason of the seed.
        reason: JoinRefusal,
    },
    /// The text can never be a seed, whatever a name server answers. The caller's fault; the node
    /// goes on with the seeds that it had.
    #[error("invalid seed {seed:?}: {reason}")]
    InvalidSeed {
        /// The seed as given.
        seed: String,
        /// Syntax error in it.
        reason: SeedSyntaxError,
    },
    /// A member's clock and this node's are more than a day apart, so that one of the two refuses
    /// the other's epoch. The node goes on trying: set the clock that is wrong, and if it is this
    /// node's, start the node again.
    #[error(
        "the clocks of this node and of {member} are {apart:?} apart, more than the day allowed"
    )]
    ClockSkew {
        /// Address of the member.
        member: SocketAddr,
        /// How far apart the clocks are.
        apart: Duration,
    },
    /// A newer node has this node's name, as the newer one itself proved: usually two processes
    /// were given one certificate or one name. This node keeps checking whether the newer one is
    /// still there, and joins when it is gone. The operator's fault: each process needs a name of
    /// its own.
    #[error("superseded: a newer node {by:?} at {addr} has this node's name")]
    Superseded {
        /// Name and epoch of the newer one.
        by: NodeId,
        /// Its address.
        addr: SocketAddr,
    },
    /// The node has left, or its runtime is gone. Start a new one.
    #[error("the node has left the cluster or was stopped")]
    Stopped,
}

impl JoinError {
    /// Whether joining with the same settings may succeed later: a seed may answer then, or the
    /// reason of a refusal may pass. `false` if the cluster's name or key, the clock or the name of
    /// this node has to be changed, as far as the seeds say.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoSeedAnswered { seeds } => {
                seeds.iter().any(|(_, failure)| failure.is_retryable())
            }
            Self::Refused { reason, .. } => reason.is_retryable(),
            Self::InvalidSeed { .. }
            | Self::ClockSkew { .. }
            | Self::Superseded { .. }
            | Self::Stopped => false,
        }
    }
}

impl SeedFailure {
    /// Whether the seed may let a node with the same settings in later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unresolved(_) | Self::NoAnswer => true,
            Self::AddressFamilyMismatch { .. } | Self::Refused(_) => false,
        }
    }
}

/// Failure of one seed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeedFailure {
    /// The name does not resolve; it may later.
    #[error("does not resolve ({0})")]
    Unresolved(String),
    /// The seed resolves, and no node answers there.
    #[error("no answer")]
    NoAnswer,
    /// The seed is of an address family that this node's socket cannot send to. The caller's fault:
    /// bind to `[::]`, for example, which reaches both.
    #[error(
        "its address family is not that of {bound}, where this node is bound; [::] reaches both"
    )]
    AddressFamilyMismatch {
        /// Address that the seed resolves to.
        seed: SocketAddr,
        /// Address that this node is bound to.
        bound: SocketAddr,
    },
    /// The node there is of another cluster, as it says: the cluster names or keys differ.
    #[error("refuses this node: {0}")]
    Refused(ClusterMismatch),
}

/// Error of a leave.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaveError {
    /// No member acknowledged the leave; the others will find the node failed.
    #[error("none of {members} members acknowledged the leave")]
    Unacknowledged {
        /// Members that there were.
        members: usize,
    },
}

pub(super) fn format_seed_failures(seeds: &[(String, SeedFailure)]) -> String {
    let seeds: Vec<_> = seeds
        .iter()
        .map(|(seed, failure)| format!("{seed}: {failure}"))
        .collect();
    seeds.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_retryable(failures: &[SeedFailure]) -> bool {
        let seeds = failures.iter().cloned().map(|it| ("seed:1".into(), it));
        let seeds = seeds.collect();
        JoinError::NoSeedAnswered { seeds }.is_retryable()
    }

    #[test]
    fn errors_that_need_a_change_here_are_not_retryable() {
        use ClusterMismatch::{ClusterKey, ClusterName, MissingKey};
        for refusal in [ClusterName, ClusterKey, MissingKey] {
            let refused = SeedFailure::Refused(refusal);
            assert!(!is_retryable(&[refused.clone(), refused.clone()]));
            // Another seed may be of the right cluster.
            assert!(is_retryable(&[refused, SeedFailure::NoAnswer]));
        }
        assert!(is_retryable(&[SeedFailure::Unresolved("why".into())]));
        let by = SocketAddr::from(([127, 0, 0, 1], 1));
        for (reason, expected) in [
            (JoinRefusal::TableFull, true),
            (JoinRefusal::UnusableAddress, false),
            (JoinRefusal::NameCollision, false),
            (JoinRefusal::NotAdmitted, true),
            (JoinRefusal::Unknown, true),
        ] {
            let error = JoinError::Refused { by, reason };
            assert_eq!(error.is_retryable(), expected, "{error}");
        }
        let apart = Duration::from_secs(100_000);
        assert!(!JoinError::ClockSkew { member: by, apart }.is_retryable());
    }
}
