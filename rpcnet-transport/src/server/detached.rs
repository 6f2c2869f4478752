//! Calls that run independently of their callers.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::admission::Permits;
use crate::{
    accounts::{BufferReservation, PeerAccount},
    gauge::Gauge,
    stats::Counters,
};

/// Resources of a call that runs independently of its caller.
pub(super) struct DetachedCall {
    pub(super) permits: Permits,
    pub(super) host: Arc<dyn DetachedHost>,
    /// Account to which the run is charged, whether its caller is there or not.
    pub(super) account: Arc<PeerAccount>,
    /// Reservation for the body of its request.
    pub(super) request_buffer: Option<BufferReservation>,
}

/// The server of a call that runs independently of its caller.
pub(super) trait DetachedHost: Send + Sync {
    fn counters(&self) -> &Arc<Counters>;
    /// Cancelled when handlers are dropped.
    fn cancel_calls(&self) -> &CancellationToken;
    /// Calls being served.
    fn in_flight(&self) -> &Gauge;
    /// Calls that a shutdown waits for.
    fn unacknowledged(&self) -> &Gauge;
}
