//! Time after which a retry is sensible, as its field on the wire.

use std::time::Duration;

/// Zero means "not said", so a wait that rounds to zero becomes one millisecond. The largest value
/// means "never", which only [`Duration::MAX`] becomes.
pub(super) fn retry_after_ms(wait: Option<Duration>) -> u32 {
    match wait {
        None => 0,
        Some(Duration::MAX) => RETRY_NEVER,
        Some(wait) => u32::try_from(wait.as_millis())
            .unwrap_or(u32::MAX)
            .clamp(1, RETRY_NEVER - 1),
    }
}

/// Inverse of [`retry_after_ms`].
pub(super) fn retry_after(ms: u32) -> Option<Duration> {
    match ms {
        0 => None,
        RETRY_NEVER => Some(Duration::MAX),
        ms => Some(Duration::from_millis(u64::from(ms))),
    }
}

/// Wait that never ends.
const RETRY_NEVER: u32 = u32::MAX;
