//! Calls that an endpoint serves: counts, tasks, and what a shutdown cancelled.

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{gauge::Gauge, stats::Counter};

/// Calls that an endpoint serves.
#[derive(Default)]
pub(crate) struct ServedCalls {
    /// Calls being served.
    pub(crate) in_flight: Gauge,
    /// Calls whose reply may not have reached the caller yet. A call enters this gauge first and
    /// leaves it last.
    pub(crate) unacknowledged: Gauge,
    /// Tasks of the streams that peers opened here, one for each stream.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when handlers are dropped.
    pub(crate) cancel: CancellationToken,
    pub(crate) cancelled_by_shutdown: Counter,
    /// Tasks of calls that were counted as cancelled by the shutdown. They may go on if they block
    /// their threads.
    pub(crate) aborted_by_shutdown: Mutex<Vec<AbortHandle>>,
}

impl ServedCalls {
    /// Calls that were neither answered nor counted as cancelled at the end of a shutdown, because
    /// their handlers block.
    pub(super) fn blocked(&self) -> u64 {
        let aborted = std::mem::take(&mut *self.aborted_by_shutdown.lock());
        let counted = aborted.iter().filter(|task| !task.is_finished()).count();
        self.in_flight.count().saturating_sub(counted) as u64
    }
}
