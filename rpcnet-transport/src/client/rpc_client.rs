//! Client: the connection to one node, its state and its end.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use quinn::VarInt;
use tokio::time::Instant;

use super::{
    CloseReason, ConnectionEvent, MinReplyRate,
    agreements::Agreements,
    call_error::{deadline_exceeded, draining_error},
    call_limits::CallLimits,
    connection_shared::ConnectionShared,
    connection_task::ConnectionTask,
    early_handshake::EarlyHandshake,
    lanes::{LaneLimits, Lanes},
    reply,
};
use crate::{
    Endpoint, LoadReport, OutgoingCall, Peer, RpcError, TransportConfig,
    accounts::ConnectionAccount,
    close::{CLOSE_DONE, close_at_once},
    deadline::is_expired,
    dial::{Dialer, OpenedConnection},
    gauge::{Gauge, GaugeGuard},
    layers::LayerStack,
    stream::WriteTurns,
};

/// Connection to one node, for any number of concurrent calls. Cheap to clone.
///
/// The connection ends with its last clone and the last of its streams, with
/// [`close`](Self::close), or when the peer or the network ends it. It does not reconnect. Dropping
/// the future of a call cancels its handler on the server.
#[derive(Clone)]
pub struct RpcClient(pub(super) Arc<Inner>);

/// Connection that may have ended; see [`RpcClient::downgrade`].
#[derive(Clone)]
pub struct WeakRpcClient(Weak<Inner>);

impl WeakRpcClient {
    /// The connection; `None` once its last clone is dropped.
    #[inline]
    #[must_use]
    pub fn upgrade(&self) -> Option<RpcClient> {
        self.0.upgrade().map(RpcClient)
    }
}

impl fmt::Debug for WeakRpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakRpcClient")
            .field(&self.upgrade())
            .finish()
    }
}

pub(super) struct Inner {
    pub(super) connection: quinn::Connection,
    pub(super) peer: Peer,
    pub(super) account: Arc<ConnectionAccount>,
    /// Turns in which calls write large messages.
    pub(super) write_turns: Arc<WriteTurns>,
    pub(super) limits: CallLimits,
    pub(super) lanes: Arc<Lanes>,
    pub(super) shared: Arc<ConnectionShared>,
    /// Calls with streams of their own.
    pub(super) in_flight: Gauge,
    /// How typed methods are called on the connection.
    pub(super) agreements: Agreements,
    /// Layers that its calls pass.
    pub(super) layers: LayerStack<OutgoingCall>,
    /// Set if the client was returned before its handshake completed. It forwards calls to another
    /// client afterwards.
    pub(super) early: Option<EarlyHandshake<RpcClient>>,
    /// Endpoint of a client that was opened by [`RpcClient::connect`].
    pub(super) _endpoint: Option<Endpoint>,
}

impl RpcClient {
    pub(crate) fn new(
        opened: OpenedConnection,
        dialer: &Dialer,
        endpoint: Option<Endpoint>,
    ) -> Self {
        let config: &TransportConfig = &dialer.config;
        let OpenedConnection {
            connection,
            peer,
            account,
            hello,
            control,
            registered,
        } = opened;
        // Large enough for all streams that the server accepts, so that unread streams leave credit
        // for the lanes.
        let streams_bytes =
            u64::from(hello.streams_max) * u64::from(config.quic.stream_window_bytes.get());
        if streams_bytes > u64::from(config.quic.connection_window_bytes.get()) {
            let window = VarInt::from_u64(streams_bytes).unwrap_or(VarInt::MAX);
            connection.set_receive_window(window);
        }
        let shared = Arc::new(ConnectionShared::new(dialer, &registered, Some(&hello)));
        let lanes = Arc::new(Lanes::new(
            connection.clone(),
            LaneLimits {
                lanes: config
                    .lanes_max(hello.streams_max)
                    .min(hello.lanes_max)
                    .into(),
                calls_max: hello.lane_calls_max.into(),
                body_bytes_max: hello.lane_body_bytes_max.into(),
                queue_len_max: config.lane.queue_len_max,
            },
            Arc::clone(&shared),
        ));
        let in_flight = Gauge::default();
        let task = ConnectionTask {
            lanes: Arc::clone(&lanes),
            shared: Arc::clone(&shared),
            in_flight: in_flight.clone(),
            account: Arc::clone(&account),
            reply_rate: MinReplyRate::of(config),
        };
        let guard = shared.guard(connection.clone());
        dialer
            .runtime
            .spawn(task.run(guard, registered, control, config.message_bytes_max));
        Self(Arc::new(Inner {
            connection,
            peer,
            write_turns: Arc::default(),
            account,
            limits: CallLimits::new(config, &hello),
            lanes,
            shared,
            in_flight,
            agreements: Agreements::default(),
            layers: config.client_layers.clone(),
            early: None,
            _endpoint: endpoint,
        }))
    }

    /// Node at the other end of the connection.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Calls in flight on this connection. A stream counts until both of its halves are dropped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let confirmed = self.confirmed_client();
        let confirmed = confirmed.map_or(0, |client| client.in_flight());
        self.0.in_flight.count() + self.0.lanes.waiting() + confirmed
    }

    /// Load report of the last reply on this connection; `None` before the first.
    #[must_use]
    pub fn load(&self) -> Option<LoadReport> {
        let confirmed = self.confirmed_client();
        confirmed.as_ref().unwrap_or(self).0.shared.load()
    }

    /// Instant at which the connection was made: zero of [`SentCall::read_after`].
    ///
    /// [`SentCall::read_after`]: super::SentCall::read_after
    #[must_use]
    pub fn created_at(&self) -> std::time::Instant {
        self.0.shared.created_at().into_std()
    }

    /// Whether the connection carries as many calls as the server accepts on it: a new call would
    /// wait for another one to end, or calls that need a stream of their own wait already. If that
    /// lasts, a second connection to the same server may carry more.
    #[must_use]
    #[inline]
    pub fn is_saturated(&self) -> bool {
        self.0.lanes.is_saturated()
    }

    /// Round-trip time as QUIC estimates it.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Whether the server drains, as it says when the connection is established and whenever that
    /// changes. New calls fail at once with [`Code::Draining`](crate::Code::Draining); calls in
    /// flight go on.
    #[must_use]
    #[inline]
    pub fn is_draining(&self) -> bool {
        if self.0.early.is_some() {
            let confirmed = self.confirmed_client();
            return confirmed.as_ref().unwrap_or(self).0.shared.is_draining();
        }
        self.0.shared.is_draining()
    }

    /// Whether the connection is closed, so that every call fails.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    /// Reason for which the connection was closed; `None` while it is open.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        let reason = self.0.connection.close_reason()?;
        Some(self.0.shared.close_reason(&reason))
    }

    /// Error of a call on a closed connection; `None` while it is open.
    #[cfg(feature = "tower")]
    pub(crate) fn closed_error(&self) -> Option<RpcError> {
        let lost = self.0.connection.close_reason()?;
        Some(self.with_peer_context(reply::lost_before_sending(lost)))
    }

    /// Waits until the connection is closed.
    pub async fn closed(&self) -> CloseReason {
        let reason = self.0.connection.closed().await;
        self.0.shared.close_reason(&reason)
    }

    /// Sets the callback for [`ConnectionEvent`]s: the server starts or stops draining, or the
    /// connection is closed. If either is the case already, the callback runs at once. It replaces
    /// the previous callback. It has to be quick, must not block and must not call this method; the
    /// connection keeps it, so it must not hold the client.
    pub fn on_event(&self, callback: impl Fn(ConnectionEvent) + Send + Sync + 'static) {
        if let Some(confirmed) = self.confirmed_client() {
            return confirmed.on_event(callback);
        }
        self.0
            .shared
            .events()
            .set(Box::new(callback), || match self.close_reason() {
                Some(reason) => Some(ConnectionEvent::Closed(reason)),
                None => self
                    .is_draining()
                    .then_some(ConnectionEvent::Draining(true)),
            });
    }

    /// Closes the connection at once, however much is in flight. Calls in flight fail with
    /// [`Code::Unavailable`](crate::Code::Unavailable); they and the peer learn the reason.
    pub fn close(&self, reason: &str) {
        if !reason.is_empty() {
            let why = format!("connection closed by this node: {reason}");
            self.0.shared.local_close.record(&why);
        }
        close_at_once(&self.0.connection, CLOSE_DONE, reason.as_bytes());
    }

    /// The connection, which does not last because of what is returned.
    #[must_use]
    pub fn downgrade(&self) -> WeakRpcClient {
        WeakRpcClient(Arc::downgrade(&self.0))
    }

    /// Whether both are clones of one client.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn confirmed_client(&self) -> Option<Self> {
        self.0.early.as_ref().and_then(EarlyHandshake::client)
    }

    pub(super) fn count_call(&self) -> [GaugeGuard; 2] {
        [self.0.in_flight.enter().0, self.0.shared.outgoing.enter().0]
    }

    pub(super) fn count_streaming_call(&self) -> [GaugeGuard; 2] {
        let (in_flight, outgoing) = (&self.0.in_flight, &self.0.shared.outgoing);
        [in_flight.enter_stream(), outgoing.enter_stream()]
    }

    /// Error of a call that cannot start: its deadline has passed, or the server drains.
    pub(super) fn fail_fast(&self, now: Instant, deadline: Option<Instant>) -> Option<RpcError> {
        if is_expired(deadline, now) {
            return Some(deadline_exceeded(false));
        }
        if !self.is_draining() {
            return None;
        }
        let lost = self.0.connection.close_reason();
        Some(lost.map_or_else(draining_error, reply::lost_before_sending))
    }

    pub(super) fn with_peer_context(&self, error: RpcError) -> RpcError {
        let error = self.0.shared.runtime.explain(error);
        let error = self.0.shared.local_close.explain(error);
        error.with_peer(self.0.peer.clone())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.lanes.abort();
        // Otherwise the connection is closed when the last call ends.
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
