//! Errors of starting a node.

use std::net::AddrParseError;

use rpcnet_swim::{JoinError, StartError, TagError};
use rpcnet_transport::BindError;
use thiserror::Error;

/// Error of starting a node. Nothing runs afterwards, and its port is free again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The address to bind is no address with a port. The caller's to fix.
    #[error("cannot bind {text:?}: it is no address with a port, such as 0.0.0.0:7946")]
    BindAddress {
        /// The text that was given.
        text: String,
        /// Error of the parser.
        source: AddrParseError,
    },
    /// The node was given no [`Tls`](rpcnet_transport::Tls), so it has no name and no certificate.
    /// The caller's to fix.
    #[error("the node has no identity: give it a certificate with `tls`")]
    NoIdentity,
    /// The gossip config gives the node another name than its certificate, so others would find it
    /// and not trust it. The caller's to fix: leave the name out of the config.
    #[error(
        "the cluster config names the node {configured:?}, and its certificate names it {certified:?}"
    )]
    NameMismatch {
        /// Name in the config.
        configured: String,
        /// Name in the certificate.
        certified: String,
    },
    /// Both a strategy and a balancer were given. The caller's to fix.
    #[error("both a strategy and a balancer were given: give one of them")]
    StrategyAndBalancer,
    /// Seeds were given and all of them are empty texts, as of a variable that is not set, and
    /// joining was
    /// [required](super::NodeBuilder::require_join). The caller's to fix.
    #[error(
        "all seeds are empty: a seed is an address or a name with a port, such as seed.internal:7946"
    )]
    EmptySeeds,
    /// The tags cannot be carried. The caller's to fix.
    #[error(transparent)]
    Tags(#[from] TagError),
    /// The gossip settings contradict themselves, or the certificate's name cannot be the name of a
    /// member. The caller's to fix.
    #[error(transparent)]
    Cluster(#[from] rpcnet_swim::ConfigError),
    /// The port cannot be opened: it is in use, the address is not ours, or the transport settings
    /// contradict themselves. Another port, or another try once it is free, may do.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Gossip did not start on the port.
    #[error(transparent)]
    Gossip(StartError),
    /// No seed let the node in, and it was [required](super::NodeBuilder::require_join). Worth
    /// another try once a seed is up.
    #[error(transparent)]
    Join(#[from] JoinError),
}

impl NodeError {
    /// Whether the same start may succeed later without the caller changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Bind(error) => matches!(error, BindError::AddressInUse(_)),
            Self::Join(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<StartError> for NodeError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => Self::Cluster(error),
            other => Self::Gossip(other),
        }
    }
}
