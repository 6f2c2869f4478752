//! Immediate close of a connection, however much is being sent, and the close codes.
//!
//! By RFC 9000 section 10.2 and RFC 9002 section 2 congestion control does not delay the frame
//! CONNECTION_CLOSE. The QUIC library (quinn-proto 0.11) does delay it while anything else waits to
//! be sent, and ignores acknowledgements once the connection is closed, so that the close of a
//! connection that is busy sending would never leave. Hence the congestion controller opens its
//! window when the connection is closed.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use quinn::{
    ApplicationClose, VarInt,
    congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig},
};
use quinn_proto::RttEstimator;

/// Closes a connection, unless it is closed already: QUIC would replace the reason of that close,
/// which may be the peer's. The peer is told with the next packet, and again with each packet that
/// it sends while QUIC still knows the connection: three probe timeouts (RFC 9000 section 10.2).
pub(crate) fn close_at_once(connection: &quinn::Connection, code: VarInt, reason: &[u8]) {
    if connection.close_reason().is_some() {
        return;
    }
    let congestion = connection.congestion_state().into_any();
    if let Ok(congestion) = congestion.downcast::<CubicUntilClose>() {
        congestion.is_closing.store(true, Relaxed);
    }
    connection.close(code, reason);
}

/// Number of streams that a server says it accepted before it closed the connection; `None` if it
/// does not say so.
pub(crate) fn streams_accepted(close: &ApplicationClose) -> Option<u64> {
    let has_count = [CLOSE_SHUTDOWN, CLOSE_DISCONNECTED].contains(&close.error_code);
    let accepted = has_count
        .then(|| close.reason[..].try_into().ok())
        .flatten();
    accepted.map(u64::from_le_bytes)
}

/// Factory of the congestion controller: Cubic (RFC 9438) until the connection is closed.
#[derive(Debug)]
pub(crate) struct CongestionConfig(Arc<CubicConfig>);

impl CongestionConfig {
    pub(crate) fn new(initial_window_bytes: u32) -> Self {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(initial_window_bytes.into());
        Self(Arc::new(cubic))
    }
}

impl ControllerFactory for CongestionConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(CubicUntilClose {
            cubic: Cubic::new(Arc::clone(&self.0), now, current_mtu),
            is_closing: Arc::default(),
        })
    }
}

/// Congestion controller of one path of a connection.
#[derive(Debug, Clone)]
struct CubicUntilClose {
    cubic: Cubic,
    /// Only the close is still to be sent, which no window may delay. Shared by all copies of the
    /// state.
    is_closing: Arc<AtomicBool>,
}

impl Controller for CubicUntilClose {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        let largest = largest_packet_num_acked;
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        let is_persistent = is_persistent_congestion;
        self.cubic
            .on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        match self.is_closing.load(Relaxed) {
            // Not paced either (quinn-proto: windows beyond 32 bits are not).
            true => u64::MAX,
            false => self.cubic.window(),
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Close code: the connection is not needed any more.
pub(crate) const CLOSE_DONE: VarInt = VarInt::from_u32(0);

/// Close code: the server shuts down; the reason is the number of streams that it accepted.
pub(crate) const CLOSE_SHUTDOWN: VarInt = VarInt::from_u32(1);

/// Close code: the certificate names no single node.
pub(crate) const CLOSE_NO_NAME: VarInt = VarInt::from_u32(2);

/// Close code: the peer violated the protocol at the start of the connection.
pub(crate) const CLOSE_PROTOCOL: VarInt = VarInt::from_u32(3);

/// Close code: the caller's certificate, from its resumed session, is not trusted any more.
pub(crate) const CLOSE_UNTRUSTED: VarInt = VarInt::from_u32(4);

/// Close code: the node was disconnected; the reason is the number of streams that were accepted.
pub(crate) const CLOSE_DISCONNECTED: VarInt = VarInt::from_u32(5);

/// Close code: the authorizer denied the caller; the reason is its text.
pub(crate) const CLOSE_DENIED: VarInt = VarInt::from_u32(6);

/// Close code: the caller has as many connections as one node may have.
pub(crate) const CLOSE_TOO_MANY: VarInt = VarInt::from_u32(7);
