//! The calling side: one connection to one node, and calls on it.

mod calls;
mod close_reason;
mod control;
mod early_data;
mod events;
mod lane;
mod min_rate;
mod on_lane;
mod on_stream;
mod options;
pub(crate) mod reply;
mod upload;

pub use self::{
    close_reason::CloseReason, events::ConnectionEvent, options::CallOptions, upload::Upload,
};
pub(crate) use self::{
    control::DRAINING_INTERVAL_MIN,
    lane::LANE_METHODS_MAX,
    min_rate::{MinRateReader, MinReplyRate},
};

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use quinn::VarInt;
use tokio::time::Instant;

use self::{
    early_data::EarlyHandshake,
    lane::{ConnectionShared, Lanes},
};
use crate::{
    ConnectError, Endpoint, LoadReport, Peer, RpcError, Tls, TransportConfig,
    accounts::ConnectionAccount,
    busy_poll::BusyPoll,
    close::{CLOSE_DONE, close_at_once},
    connections::RegisteredConnection,
    gauge::{Gauge, GaugeGuard},
    runtime::EndpointRuntime,
    stream::{RecvHalf, WriteTurns},
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
    account: Arc<ConnectionAccount>,
    /// In which calls write large messages.
    write_turns: Arc<WriteTurns>,
    /// Smaller of our limit and the server's.
    request_bytes_max: usize,
    reply_bytes_max: usize,
    reply_rate: MinReplyRate,
    call_timeout: Duration,
    lane_body_bytes_max: usize,
    lanes: Arc<Lanes>,
    shared: Arc<ConnectionShared>,
    /// Calls with streams of their own.
    in_flight: Gauge,
    /// Calls of all connections of the endpoint.
    outgoing: Gauge,
    /// Of a client whose handshake was not over when it was made. It passes calls on to another one when it is.
    early: Option<EarlyHandshake>,
    /// Of a client that opened an endpoint for itself.
    _endpoint: Option<Endpoint>,
}

/// What a client takes over from the endpoint that made its connection.
pub(crate) struct OpenedConnection {
    pub(crate) connection: quinn::Connection,
    pub(crate) peer: Peer,
    /// What is held of what the server sends.
    pub(crate) account: Arc<ConnectionAccount>,
    pub(crate) hello: wire::Hello,
    /// Where the hello came from, for what follows it.
    pub(crate) control: RecvHalf,
    pub(crate) runtime: EndpointRuntime,
    pub(crate) registered: Arc<RegisteredConnection>,
    pub(crate) outgoing: Gauge,
    pub(crate) busy_poll: Arc<BusyPoll>,
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
        let opened = endpoint.connect_within_timeout(addr, name).await?;
        Ok(Self::new(
            opened,
            &endpoint.config().clone(),
            Some(endpoint),
        ))
    }

    pub(crate) fn new(
        opened: OpenedConnection,
        config: &TransportConfig,
        endpoint: Option<Endpoint>,
    ) -> Self {
        let OpenedConnection {
            connection,
            peer,
            account,
            hello,
            control,
            runtime,
            registered,
            outgoing,
            busy_poll,
        } = opened;
        // Whatever the streams that it takes carry and is not read here, there is credit for lanes.
        let streams_bytes =
            u64::from(hello.streams_max) * u64::from(config.stream_window_bytes.get());
        if streams_bytes > u64::from(config.connection_window_bytes.get()) {
            let window = VarInt::from_u64(streams_bytes).unwrap_or(VarInt::MAX);
            connection.set_receive_window(window);
        }
        let link = Arc::new(ConnectionShared::new(
            runtime.clone(),
            registered.local_close(),
            outgoing.clone(),
            busy_poll,
            config.message_bytes_max,
            hello.draining,
        ));
        let lanes = Arc::new(Lanes::new(
            connection.clone(),
            config.lanes.get().min(hello.lanes_max).into(),
            hello.lane_calls_max.into(),
            hello.lane_body_bytes_max.into(),
            config.queue_len_max,
            Arc::clone(&link),
        ));
        let in_flight = Gauge::default();
        runtime.spawn(control::run_connection(
            link.guard(connection.clone()),
            registered,
            control,
            control::ConnectionTask {
                lanes: Arc::clone(&lanes),
                shared: Arc::clone(&link),
                in_flight: in_flight.clone(),
                account: Arc::clone(&account),
                reply_rate: MinReplyRate::of(config),
            },
            config.message_bytes_max,
        ));
        Self(Arc::new(Inner {
            connection,
            peer,
            write_turns: Arc::default(),
            account,
            request_bytes_max: config
                .message_bytes_max
                .min(hello.message_bytes_max as usize),
            reply_bytes_max: config.message_bytes_max,
            reply_rate: MinReplyRate::of(config),
            call_timeout: config.call_timeout,
            lane_body_bytes_max: config
                .lane_body_bytes_max
                .min(hello.lane_body_bytes_max.into()),
            lanes,
            shared: link,
            in_flight,
            outgoing,
            early: None,
            _endpoint: endpoint,
        }))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Calls under way on this connection, streams until both of their ends are dropped.
    pub fn in_flight(&self) -> usize {
        let later = self.confirmed_client();
        let later = later.map_or(0, |client| client.in_flight());
        self.0.in_flight.count() + self.0.lanes.waiting() + later
    }

    /// How busy the server was at its last reply on this connection; `None` before the first.
    pub fn load(&self) -> Option<LoadReport> {
        let later = self.confirmed_client();
        later.as_ref().unwrap_or(self).0.shared.load()
    }

    /// Whether the connection carries as many calls as the server takes on it: a call that begins now would wait for
    /// another one to end, or calls that need a stream of their own do so already. When it stays so, a second connection
    /// to the same server may take more.
    pub fn is_saturated(&self) -> bool {
        self.0.lanes.is_saturated()
    }

    /// Round-trip time as QUIC estimates it.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Whether the server takes no new calls, as it said when the connection was made and whenever that changed. New calls
    /// fail at once with [`Code::Draining`](crate::Code::Draining), those under way go on.
    pub fn is_draining(&self) -> bool {
        let later = self.confirmed_client();
        later.as_ref().unwrap_or(self).0.shared.is_draining()
    }

    /// Whether the connection is gone, so that every call fails.
    pub fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    /// Why the connection is gone; `None` while it stands.
    pub fn close_reason(&self) -> Option<CloseReason> {
        let reason = self.0.connection.close_reason()?;
        Some(self.0.shared.close_reason(&reason))
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) -> CloseReason {
        let reason = self.0.connection.closed().await;
        self.0.shared.close_reason(&reason)
    }

    /// Calls `announced_draining` when the server says that it takes no new calls, or that it does again, and when the connection is gone;
    /// at once if either is so already. In place of the one that was given before. It is to be quick, not to wait, and not to
    /// call this again; it is kept for as long as the connection is, so it must not hold the client.
    pub fn on_event(&self, told: impl Fn(ConnectionEvent) + Send + Sync + 'static) {
        if let Some(later) = self.confirmed_client() {
            return later.on_event(told);
        }
        self.0
            .shared
            .events()
            .set(Box::new(told), || match self.close_reason() {
                Some(reason) => Some(ConnectionEvent::Closed(reason)),
                None => self
                    .is_draining()
                    .then_some(ConnectionEvent::Draining(true)),
            });
    }

    /// Closes the connection at once, however much is under way. Calls under way fail with
    /// [`Code::Unavailable`](crate::Code::Unavailable); they and the other side learn the reason.
    pub fn close(&self, reason: &str) {
        if !reason.is_empty() {
            let why = format!("the connection was closed here: {reason}");
            self.0.shared.local_close.note(&why);
        }
        close_at_once(&self.0.connection, CLOSE_DONE, reason.as_bytes());
    }

    fn confirmed_client(&self) -> Option<Self> {
        self.0.early.as_ref().and_then(EarlyHandshake::client)
    }

    fn count_call(&self) -> [GaugeGuard; 2] {
        [self.0.in_flight.enter().0, self.0.outgoing.enter().0]
    }

    /// Why a call does not even begin, if it does not.
    fn fail_fast(&self, now: Instant, deadline: Option<Instant>) -> Option<RpcError> {
        if on_stream::is_expired(deadline, now) {
            return Some(on_stream::deadline_exceeded(false));
        }
        if !self.is_draining() {
            return None;
        }
        let lost = self.0.connection.close_reason();
        Some(lost.map_or_else(on_stream::draining_error, reply::lost_before_sending))
    }

    fn with_peer_context(&self, error: RpcError) -> RpcError {
        let error = self.0.shared.runtime.explain(error);
        let error = self.0.shared.local_close.explain(error);
        error.with_peer(self.0.peer.clone())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.lanes.abort();
        // Else it is closed when nothing is under way any more.
        if self.early.is_none() && self.in_flight.count() == 0 {
            close_at_once(&self.connection, CLOSE_DONE, b"");
        }
        self.shared.client_dropped.cancel();
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
