//! Handles of an endpoint: their accessors, and the end of the last one.

use std::{fmt, time::Duration};

use super::{DialTarget, Endpoint, EndpointHandle, EndpointShared, ShutdownReport};
use crate::ConnectError;

impl EndpointShared {
    pub(super) fn report(&self) -> ShutdownReport {
        let stats = self.counters.snapshot();
        ShutdownReport {
            completed: stats.calls_completed,
            cancelled: self.cancelled_by_shutdown.value(),
            rejected: stats.calls_refused_draining,
        }
    }
}

impl EndpointShared {
    /// Calls that were neither answered nor counted as cancelled at the end of a shutdown, because
    /// their handlers block.
    pub(super) fn blocked_calls(&self) -> u64 {
        let cut = std::mem::take(&mut *self.aborted_by_shutdown.lock());
        let counted = cut.iter().filter(|task| !task.is_finished()).count();
        self.in_flight.count().saturating_sub(counted) as u64
    }
}

impl DialTarget {
    pub(crate) fn timed_out(&self, after: Duration) -> ConnectError {
        let addr = self.peer.addr();
        ConnectError::Timeout { addr, after }
    }

    /// Waits for a connection to be established, unless its node is disconnected meanwhile.
    pub(crate) async fn or_disconnected<T>(
        &self,
        made: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let addr = self.peer.addr();
        tokio::select! {
            biased;
            () = self.registered.disconnected() => Err(ConnectError::Disconnected { addr }),
            made = made => made,
        }
    }
}

impl Drop for EndpointHandle {
    fn drop(&mut self) {
        self.shared.begin_shutdown();
        self.shared.cancel_calls.cancel();
        self.shared.stopped.cancel();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("node_name", &self.node_name())
            .field("local_addr", &self.0.local_addr)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
