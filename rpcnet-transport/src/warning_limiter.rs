//! Rate limit of warnings in the log.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Rate limit of warnings that a peer, or a fault that lasts, could repeat without end.
#[derive(Debug, Default)]
pub(crate) struct WarningLimiter(Mutex<Option<Instant>>);

impl WarningLimiter {
    /// Whether a warning may be logged now: at most one every [`INTERVAL_MIN`].
    pub(crate) fn take(&self) -> bool {
        let (now, mut last) = (Instant::now(), self.0.lock());
        let is_due = last.is_none_or(|last| now.duration_since(last) >= INTERVAL_MIN);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

/// Shortest time between two warnings.
const INTERVAL_MIN: Duration = Duration::from_secs(10);
