//! Wall clock of a node, in place of that of the system.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A wall clock that was set in a configuration.
#[derive(Clone)]
pub(crate) struct ConfiguredClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl ConfiguredClock {
    pub(super) fn new(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(clock))
    }

    /// Time that the clock shows now.
    pub(crate) fn read(&self) -> SystemTime {
        (self.0)()
    }

    /// Milliseconds since the Unix epoch at a time.
    pub(crate) fn unix_millis(at: SystemTime) -> u64 {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for ConfiguredClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfiguredClock")
            .field(&self.read())
            .finish()
    }
}
