//! The calling side: one connection to one node, and calls on it.

pub(crate) mod answer;
mod calls;
mod close;
mod exchange;
mod options;
mod upload;

pub use self::{close::CloseReason, options::CallOptions, upload::Upload};

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    ConnectError, Endpoint, Peer, RpcError, Tls, TransportConfig,
    gauge::{Gauge, GaugeGuard},
    wire,
};

/// One connection to one node, for any number of calls at a time. Cheap to clone.
///
/// The connection ends with its last clone and the last of its streams, with [`close`](Self::close), or when the other side
/// or the network ends it; it does not come back by itself. Dropping the future of a call cancels its handler on the
/// server.
#[derive(Clone)]
pub struct RpcClient(Arc<Inner>);

struct Inner {
    connection: quinn::Connection,
    peer: Peer,
    /// Smaller of our limit and the server's.
    request_bytes_max: usize,
    answer_bytes_max: usize,
    call_timeout: Duration,
    server_draining: bool,
    in_flight: Gauge,
    /// Calls of all connections of the endpoint.
    outgoing: Gauge,
    /// Of a client that opened an endpoint for itself.
    _endpoint: Option<Endpoint>,
}

/// What a client takes over from the endpoint that made its connection.
pub(crate) struct Opened {
    pub(crate) connection: quinn::Connection,
    pub(crate) peer: Peer,
    pub(crate) hello: wire::Hello,
    pub(crate) outgoing: Gauge,
}

impl RpcClient {
    /// Connects to the node `name` at `addr` from a port of its own, with default settings. A program that also
    /// serves, or makes several connections, calls [`Endpoint::connect`] instead.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] as of [`Endpoint::connect`], and [`ConnectError::Bind`].
    pub async fn connect(addr: SocketAddr, name: &str, tls: &Tls) -> Result<Self, ConnectError> {
        let any: SocketAddr = if addr.is_ipv6() {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        };
        let endpoint = Endpoint::bind(any, TransportConfig::default(), tls.clone())
            .map_err(|e| ConnectError::Bind(Arc::new(e)))?;
        let opened = endpoint.open(addr, name).await?;
        Ok(Self::new(
            opened,
            &endpoint.config().clone(),
            Some(endpoint),
        ))
    }

    pub(crate) fn new(
        opened: Opened,
        config: &TransportConfig,
        endpoint: Option<Endpoint>,
    ) -> Self {
        let Opened {
            connection,
            peer,
            hello,
            outgoing,
        } = opened;
        Self(Arc::new(Inner {
            connection,
            peer,
            request_bytes_max: config
                .message_bytes_max
                .min(hello.message_bytes_max as usize),
            answer_bytes_max: config.message_bytes_max,
            call_timeout: config.call_timeout,
            server_draining: hello.draining,
            in_flight: Gauge::default(),
            outgoing,
            _endpoint: endpoint,
        }))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Calls under way on this connection, streams until both of their ends are dropped.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.count()
    }

    /// Round-trip time as QUIC estimates it.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Whether the server said, when the connection was made, that it takes no calls at the moment.
    pub fn was_draining(&self) -> bool {
        self.0.server_draining
    }

    /// Whether the connection is gone, so that every call fails.
    pub fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    /// Why the connection is gone; `None` while it stands.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0
            .connection
            .close_reason()
            .map(|e| CloseReason::of(&e))
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) -> CloseReason {
        CloseReason::of(&self.0.connection.closed().await)
    }

    /// Closes the connection. Calls under way fail; the other side learns the reason.
    pub fn close(&self, reason: &str) {
        self.0
            .connection
            .close(answer::CLOSE_DONE, reason.as_bytes());
    }

    fn enter(&self) -> [GaugeGuard; 2] {
        [self.0.in_flight.enter().0, self.0.outgoing.enter().0]
    }

    fn of_peer(&self, error: RpcError) -> RpcError {
        error.with_peer(self.0.peer.clone())
    }
}

impl fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClient")
            .field("peer", &self.0.peer)
            .field("in_flight", &self.in_flight())
            .field("closed", &self.close_reason())
            .finish()
    }
}
