//! Detached call: the resources of a call that runs independently of its callers.

use std::sync::Arc;

use super::admission::Permits;
use crate::{
    accounts::{BufferReservation, PeerAccount},
    endpoint::ServedCalls,
    stats::Counters,
};

/// Resources of a call that runs independently of its caller.
pub(super) struct DetachedCall {
    pub(super) permits: Permits,
    pub(super) served: Arc<ServedCalls>,
    pub(super) counters: Arc<Counters>,
    /// Account to which the run is charged, whether its caller is there or not.
    pub(super) account: Arc<PeerAccount>,
    /// Reservation for the body of its request.
    pub(super) request_buffer: Option<BufferReservation>,
}

impl DetachedCall {
    /// A call whose request reserves no buffer bytes.
    pub(super) fn new(
        served: &Arc<ServedCalls>,
        counters: &Arc<Counters>,
        account: &Arc<PeerAccount>,
        permits: Permits,
    ) -> Self {
        Self {
            permits,
            served: Arc::clone(served),
            counters: Arc::clone(counters),
            account: Arc::clone(account),
            request_buffer: None,
        }
    }
}
