//! Why a connection ended.

use std::fmt;

use quinn::ConnectionError;

use crate::{
    close::{CLOSE_DENIED, CLOSE_DISCONNECTED, CLOSE_SHUTDOWN},
    printable::printable,
    quic,
};

/// Why a connection is no more. What the other side says is text that can be printed: control and
/// other unprintable characters are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// It was closed on this side.
    ClosedHere,
    /// The tokio runtime that its endpoint was bound in has ended.
    RuntimeEnded,
    /// The other side shut down.
    ShutDown,
    /// The other side [disconnected](crate::Endpoint::disconnect) this node.
    Disconnected,
    /// The other side does not let this node in, and says why.
    Denied(String),
    /// The other side closed it, and said why.
    ClosedByPeer(String),
    /// There was no sign of life for the [idle timeout](crate::TransportConfig::with_idle_timeout).
    TimedOut,
    /// The other side does not know the connection any more: it was restarted.
    Restarted,
    /// The other side, or somebody between, broke the rules of QUIC.
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
