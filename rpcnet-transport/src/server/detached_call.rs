//! Detached call: the resources of a call that runs independently of its callers.

use std::sync::Arc;

use super::admission::Permits;
use crate::{
    accounts::{BufferReservation, PeerAccount},
    endpoint::{EndpointShared, ServedCalls},
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
        shared: &EndpointShared,
        account: &Arc<PeerAccount>,
        permits: Permits,
    ) -> Self {
        Self {
            permits,
            served: Arc::clone(&shared.served),
            counters: Arc::clone(&shared.counters),
            account: Arc::clone(account),
            request_buffer: None,
        }
    }
}
