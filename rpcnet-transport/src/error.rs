//! Errors of calls, of connecting and of binding: whose fault each is, and whether to retry.

use std::{error::Error as StdError, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{
    Code, CodecError, CodecErrorKind, ConfigError, Decode, Peer, Processed, Status,
    codec::Encoding, tls::name_error,
};

/// Error of a call.
///
/// [`code`](Self::code) says what happened, [`processed`](Self::processed) whether the request may
/// have had an effect. Cheap to clone.
#[derive(Clone)]
pub struct RpcError(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    processed: Processed,
    retry_after: Option<Duration>,
    message: String,
    details: Bytes,
    /// Encoding of the details of an application error.
    details_encoding: Encoding,
    peer: Option<Peer>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl RpcError {
    /// Error with this code. The message is for people: lower case, no full stop.
    #[must_use]
    pub fn new(code: Code, processed: Processed, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            code,
            processed,
            retry_after: None,
            message: message.into(),
            details: Bytes::new(),
            details_encoding: Encoding::Postcard,
            peer: None,
            source: None,
        }))
    }

    /// Replaces the message, as a client does that has made several attempts.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).message = message.into();
        self
    }

    /// Replaces whether the handler has seen the request, as a client does whose attempt before may
    /// have been processed.
    #[must_use]
    pub fn with_processed(mut self, processed: Processed) -> Self {
        Arc::make_mut(&mut self.0).processed = processed;
        self
    }

    /// Sets the node that was called.
    #[must_use]
    pub fn with_peer(mut self, peer: Peer) -> Self {
        Arc::make_mut(&mut self.0).peer = Some(peer);
        self
    }

    /// Sets the time after which a retry is sensible.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(wait);
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_details(mut self, details: Bytes) -> Self {
        Arc::make_mut(&mut self.0).details = details;
        self
    }

    pub(crate) fn with_details_encoding(mut self, encoding: Encoding) -> Self {
        if self.0.details_encoding != encoding {
            Arc::make_mut(&mut self.0).details_encoding = encoding;
        }
        self
    }

    /// The status of a handler, as its caller gets it.
    pub(crate) fn of_status(status: Status) -> Self {
        let error = Self::new(status.code, status.processed, status.message);
        let error = error.with_details(status.details);
        match status.retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }

    /// Code of the error.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Whether the handler has seen the request.
    #[must_use]
    pub fn processed(&self) -> Processed {
        self.0.processed
    }

    /// Time after which the server suggests a retry; `None` if it said nothing, [`Duration::MAX`]
    /// if it [forbids retries](Status::do_not_retry).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the server forbids retries, here or elsewhere.
    #[must_use]
    pub fn forbids_retry(&self) -> bool {
        self.0.retry_after == Some(Duration::MAX)
    }

    /// Message for people. A server's message is as it was sent and may hold any characters; the
    /// [`Display`](fmt::Display) of the error escapes unprintable ones.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Details that the handler sent with its [`Status`]; empty if none.
    #[must_use]
    pub fn details(&self) -> &Bytes {
        &self.0.details
    }

    /// Application error of the handler, for [`Code::App`]; `None` for other codes or if the
    /// details do not decode as `E`.
    #[must_use]
    pub fn app<E: DeserializeOwned>(&self) -> Option<E> {
        if self.0.code != Code::App {
            return None;
        }
        E::decode_as(self.0.details.clone(), self.0.details_encoding).ok()
    }

    /// Node that was called, if it is known.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        self.0.peer.as_ref()
    }

    /// Whether the same call may be retried, on another node at once or on this one later, whatever
    /// it does: it was certainly not processed, the reason lies with the node or the network, and
    /// the server does not [forbid](Self::forbids_retry) it. A call whose deadline was exceeded
    /// before it ran may be retried with a new deadline. A method that the node does not know
    /// ([`Code::Unimplemented`], unprocessed) is retryable: a node of another version may have it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let is_late = self.0.code == Code::DeadlineExceeded && !self.forbids_retry();
        self.0.processed == Processed::No && (is_late || self.is_fault_of_node())
    }

    /// Whether the same call may be retried if running it twice does no harm.
    #[must_use]
    pub fn is_retryable_if_idempotent(&self) -> bool {
        self.is_retryable() || self.0.processed == Processed::Maybe && self.is_fault_of_node()
    }

    /// Whether the fault lies with this process, so that no other node helps: the [endpoint is
    /// closed](ConnectError::EndpointClosed), its [runtime has ended](ConnectError::RuntimeEnded),
    /// a [pool listener panicked](ConnectError::ListenerPanicked), or the request could not be
    /// [encoded](CodecErrorKind::Encode), its metadata is too large, or a
    /// [layer](crate::ClientLayer) of this process has rejected the call.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let Some(source) = self.source() else {
            return false;
        };
        if let Some(error) = source.downcast_ref() {
            return ConnectError::is_local(error);
        }
        if let Some(reason) = self.not_sent() {
            return !matches!(reason, NotSent::MetadataNotTaken);
        }
        let codec = source.downcast_ref();
        codec.is_some_and(|codec: &CodecError| codec.kind() == CodecErrorKind::Encode)
    }

    /// Reason for which this process has not sent the call.
    pub(crate) fn not_sent(&self) -> Option<NotSent> {
        self.source()?.downcast_ref().copied()
    }

    fn is_fault_of_node(&self) -> bool {
        !self.forbids_retry()
            && !self.is_local()
            && matches!(
                self.0.code,
                Code::Unavailable
                    | Code::Overloaded
                    | Code::Draining
                    | Code::Unimplemented
                    | Code::TooEarly
                    | Code::Incompatible
            )
    }
}

/// Reason for which a call was not sent, as the source of its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NotSent {
    #[error("a layer of this process rejected the call")]
    RejectedByLayer,
    #[error("the metadata of the call is too large")]
    MetadataTooLarge,
    /// The server is older than metadata.
    #[error("the server takes no metadata")]
    MetadataNotTaken,
}

impl fmt::Debug for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcError")
            .field("code", &self.0.code)
            .field("processed", &self.0.processed)
            .field("message", &self.0.message)
            .field("retry_after", &self.0.retry_after)
            .field("peer", &self.0.peer)
            .field("details_bytes", &self.0.details.len())
            .finish()
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.code.fmt_with(&self.0.message, f)?;
        if let Some(peer) = &self.0.peer {
            write!(f, " (peer {peer})")?;
        }
        Ok(())
    }
}

impl StdError for RpcError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// A handler that fails because its own call failed: its caller gets the code and the message, but
/// no advice to retry, because the handler itself did run.
impl From<RpcError> for Status {
    fn from(error: RpcError) -> Self {
        let status = Self::new(error.code(), error.message());
        // The types of another method say nothing about those of this one.
        match error.code() {
            Code::Incompatible => status,
            _ => status.with_details(error.details().clone()),
        }
    }
}

/// Reason for which an endpoint could not be opened. Nothing is open afterwards.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process has the port. Choose another port, or wait for that process to end.
    #[error("address {0} is already in use")]
    AddressInUse(SocketAddr),
    /// The operating system failed to open the socket.
    #[error("cannot open a socket on {addr}")]
    Io {
        /// Requested address.
        addr: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The config contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This operating system does not spread the datagrams of one port over several sockets. Use a
    /// single shard or an [`Endpoint`](crate::Endpoint).
    #[error("this system cannot share one port among several shards")]
    ShardsUnsupported,
    /// The endpoint was bound outside of a tokio runtime.
    #[error("no tokio runtime: an endpoint has to be bound inside of one")]
    NoRuntime,
}

/// Reason for which a connection could not be established. No request was sent.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name cannot be a node name: it is not a DNS name. The text says why.
    #[error("invalid node name {0:?}: {fault}", fault = name_error(.0))]
    InvalidName(String),
    /// The address cannot be reached from this endpoint, for example IPv6 from an IPv4 socket. Bind
    /// the endpoint to another address.
    #[error("invalid address {addr}: {reason}")]
    InvalidAddress {
        /// Requested address.
        addr: SocketAddr,
        /// Fault of the address.
        reason: String,
    },
    /// The peer did not answer within the connect timeout. Retry later.
    #[error("connect timeout: {addr} did not answer within {after:?}")]
    Timeout {
        /// Address that was dialled.
        addr: SocketAddr,
        /// Timeout that has passed.
        after: Duration,
    },
    /// Another node answers at this address: its certificate is for other names, or covers the name
    /// by a wildcard only. Look the address up again.
    #[error(
        "wrong node at {addr}: certificate names {presented:?}, expected {expected:?}{hint}",
        hint = wildcard_hint(.presented)
    )]
    WrongNode {
        /// Address that was dialled.
        addr: SocketAddr,
        /// Name of the node that was expected.
        expected: String,
        /// Names in the presented certificate.
        presented: Vec<String>,
    },
    /// The peer's certificate is not trusted: issued by another CA, expired, or not valid for a
    /// server.
    #[error("certificate of {addr} is not trusted: {reason}")]
    Untrusted {
        /// Address that was dialled.
        addr: SocketAddr,
        /// Reason given by the verifier.
        reason: String,
    },
    /// The peer does not trust this node's certificate, or requires one and got none.
    #[error("certificate of this node was rejected by {addr}: {reason}")]
    CertificateRejected {
        /// Address that was dialled.
        addr: SocketAddr,
        /// TLS alert that the peer sent.
        reason: String,
    },
    /// The peer accepts no more connections now, does not serve, or disconnected this node during
    /// the handshake. Retry later.
    #[error("connection refused by {addr}: {reason}")]
    Refused {
        /// Address that was dialled.
        addr: SocketAddr,
        /// Reason given by the peer.
        reason: String,
    },
    /// The peer's authorizer denied this node; see
    /// [`TransportConfig::with_authorizer`](crate::TransportConfig::with_authorizer). Another node
    /// may accept it.
    #[error("permission denied by {addr}: {reason}")]
    Denied {
        /// Address that was dialled.
        addr: SocketAddr,
        /// Reason given by the peer.
        reason: String,
    },
    /// This node [disconnected](crate::Endpoint::disconnect) the peer while the connection was
    /// being established. A later attempt is not affected.
    #[error("{addr} was disconnected by this node while it was being connected")]
    Disconnected {
        /// Address that was dialled.
        addr: SocketAddr,
    },
    /// The peer speaks another protocol or version.
    #[error("protocol mismatch with {addr}: {reason}")]
    Protocol {
        /// Address that was dialled.
        addr: SocketAddr,
        /// Violation of the protocol by the peer.
        reason: String,
    },
    /// This endpoint is closed, or the [pool](crate::pool::ConnectionPool) that connected was
    /// dropped.
    #[error("this endpoint is closed")]
    EndpointClosed,
    /// The tokio runtime that the endpoint was bound in has ended, and all its connections with it.
    /// The fault of this process: bind endpoints in a runtime that outlives their connections.
    #[error("the tokio runtime of the endpoint has shut down")]
    RuntimeEnded,
    /// A [`PoolListener`](crate::pool::PoolListener) panicked while its pool connected to this
    /// address. A later attempt is not affected.
    #[error("a pool listener panicked while {addr} was being connected")]
    ListenerPanicked {
        /// Address that was to be dialled.
        addr: SocketAddr,
    },
    /// No endpoint could be opened to connect from.
    #[error("no endpoint to connect from: {0}")]
    Bind(#[source] Arc<BindError>),
}

impl ConnectError {
    /// Address that was dialled, if any was.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::InvalidAddress { addr, .. }
            | Self::Timeout { addr, .. }
            | Self::WrongNode { addr, .. }
            | Self::Untrusted { addr, .. }
            | Self::CertificateRejected { addr, .. }
            | Self::Denied { addr, .. }
            | Self::Refused { addr, .. }
            | Self::Disconnected { addr }
            | Self::ListenerPanicked { addr }
            | Self::Protocol { addr, .. } => Some(*addr),
            Self::InvalidName(_) | Self::EndpointClosed | Self::RuntimeEnded | Self::Bind(_) => {
                None
            }
        }
    }

    /// Whether the same attempt may succeed later without a change of configuration.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. } | Self::Refused { .. } | Self::Disconnected { .. }
        )
    }

    /// Whether the fault lies with this process, so that connecting to another node does not help.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(
            self,
            Self::EndpointClosed
                | Self::RuntimeEnded
                | Self::ListenerPanicked { .. }
                | Self::Bind(_)
        )
    }
}

fn wildcard_hint(presented: &[String]) -> &'static str {
    match presented.iter().any(|name| name.starts_with('*')) {
        true => ", and a wildcard names no single node",
        false => "",
    }
}

/// A call over a connection that was not established was certainly not processed.
impl From<ConnectError> for RpcError {
    fn from(error: ConnectError) -> Self {
        let code = match error {
            ConnectError::Denied { .. } => Code::PermissionDenied,
            _ => Code::Unavailable,
        };
        Self::new(code, Processed::No, error.to_string()).with_source(error)
    }
}
