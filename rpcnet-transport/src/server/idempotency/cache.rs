//! Idempotency cache: its bounds, and the table that its clones share.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    detached_result::DetachedResult,
    key_table::{CacheBounds, KeyTable},
};

/// Cache of the results of calls with [idempotency keys](crate::CallOptions::with_idempotency_key),
/// so that a repeat is answered and not run again. Cheap to clone: clones share the cache. See
/// [`Router::with_idempotency`](crate::Router::with_idempotency).
///
/// The cache lives in the memory of one server: a repeat that goes to another server, or comes
/// after a restart, runs again there.
#[derive(Clone)]
pub struct IdempotencyCache {
    pub(super) bounds: CacheBounds,
    shared: Arc<CacheState>,
}

struct CacheState {
    epoch: Instant,
    table: Mutex<Option<CallTable>>,
}

pub(super) type CallTable =
    KeyTable<Arc<str>, CallKey, DetachedResult, oneshot::Sender<DetachedResult>>;

/// Identity of a call, the same for all its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CallKey {
    pub(super) peer: Arc<str>,
    pub(super) method: Arc<str>,
    pub(super) key: u128,
}

impl IdempotencyCache {
    /// A cache of 16,384 calls and 16 MiB of replies, for 60 s.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bounds: CacheBounds {
                len_max: 16_384,
                bytes_max: 16 * 1024 * 1024,
                ttl: Duration::from_secs(60),
            },
            shared: Arc::new(CacheState {
                epoch: Instant::now(),
                table: Mutex::default(),
            }),
        }
    }

    /// Number of cached calls, running ones included; default 16,384, at least one. It has to hold
    /// the calls of [`with_ttl`](Self::with_ttl). Beyond it the oldest result of the caller that
    /// has most is evicted. The running calls of one caller are at most half of what those of
    /// others leave, but at least 16. Its further calls with keys, and those that find the cache
    /// full of running calls, are [`Overloaded`](crate::Code::Overloaded).
    #[must_use]
    pub fn with_capacity(mut self, calls: usize) -> Self {
        self.bounds.len_max = calls.max(1);
        self
    }

    /// Bytes of cached replies; default 16 MiB. Beyond it the oldest result of the caller that has
    /// most is evicted. A single larger reply is not cached, so its call runs again if it is
    /// repeated.
    #[must_use]
    pub fn with_bytes_max(mut self, bytes: usize) -> Self {
        self.bounds.bytes_max = bytes;
        self
    }

    /// How long a result is cached, and how long a call with a key may run; default 60 s. It has to
    /// be longer than the time in which callers repeat their calls; a longer time costs memory.
    #[must_use]
    pub fn with_ttl(mut self, time: Duration) -> Self {
        self.bounds.ttl = time;
        self
    }

    /// Calls in the cache now, running ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|keys| keys.len())
    }

    /// Whether the cache is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of replies in the cache now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.with(|keys| keys.bytes())
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut CallTable) -> R) -> R {
        let mut keys = self.shared.table.lock();
        f(keys.get_or_insert_with(|| KeyTable::new(self.bounds)))
    }

    pub(super) fn now(&self) -> Duration {
        self.shared.epoch.elapsed()
    }
}

impl Default for IdempotencyCache {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for IdempotencyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyCache")
            .field("bounds", &self.bounds)
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish()
    }
}
