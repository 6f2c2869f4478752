//! Reason for which a connection was closed.

use std::fmt;

use quinn::ConnectionError;

use crate::{
    close::{CLOSE_DENIED, CLOSE_DISCONNECTED, CLOSE_SHUTDOWN},
    printable::printable,
    quic,
};

/// Reason for which a connection was closed. Text of the peer is printable: control and other
/// unprintable characters are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it.
    ClosedHere,
    /// The tokio runtime that its endpoint was bound in has ended.
    RuntimeEnded,
    /// The peer shut down.
    ShutDown,
    /// The peer [disconnected](crate::Endpoint::disconnect) this node.
    Disconnected,
    /// The peer's authorizer denied this node, with this reason.
    Denied(String),
    /// The peer closed it, with this reason.
    ClosedByPeer(String),
    /// No packet arrived for the [idle timeout](crate::TransportConfig::with_idle_timeout).
    TimedOut,
    /// The peer does not know the connection any more: it was restarted (stateless reset).
    Restarted,
    /// The peer, or a host on the path, violated the QUIC protocol.
    Failed(String),
}

impl CloseReason {
    pub(crate) fn of(error: &ConnectionError) -> Self {
        if quic::is_driver_lost(error) {
            return Self::RuntimeEnded;
        }
        match error {
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_SHUTDOWN => {
                Self::ShutDown
            }
            ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_DISCONNECTED => {
                Self::Disconnected
            }
            ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_DENIED => {
                Self::Denied(printable(&close.reason))
            }
            ConnectionError::ApplicationClosed(close) => {
                Self::ClosedByPeer(printable(&close.reason))
            }
            other => Self::Failed(quic::with_printable_reason(other.clone()).to_string()),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedHere => f.write_str("closed by this node"),
            Self::RuntimeEnded => f.write_str("the tokio runtime of the endpoint has shut down"),
            Self::ShutDown => f.write_str("the peer shut down"),
            Self::Disconnected => f.write_str("disconnected by the peer"),
            Self::Denied(reason) => write!(f, "permission denied by the peer: {reason}"),
            Self::ClosedByPeer(reason) => write!(f, "closed by the peer: {reason}"),
            Self::TimedOut => f.write_str("idle timeout"),
            Self::Restarted => f.write_str("the peer was restarted"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}
