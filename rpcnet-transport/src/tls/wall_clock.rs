//! Wall clock of an identity, in place of that of the system.

use std::{fmt, time::SystemTime};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// A wall clock that was set for an identity.
pub(super) struct IdentityClock(Box<dyn Fn() -> SystemTime + Send + Sync>);

impl IdentityClock {
    pub(super) fn new(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Box::new(clock))
    }
}

impl TimeProvider for IdentityClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = (self.0)().duration_since(SystemTime::UNIX_EPOCH);
        Some(UnixTime::since_unix_epoch(since_epoch.unwrap_or_default()))
    }
}

impl fmt::Debug for IdentityClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityClock")
            .field(&self.current_time())
            .finish()
    }
}
