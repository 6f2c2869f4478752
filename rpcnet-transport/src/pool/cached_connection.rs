//! Cached connection: the only connection to a target, found without a lock.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};

use arc_swap::ArcSwapOption;

use crate::RpcClient;

/// The connection to a target, while there is exactly one, which is nearly always.
///
/// The user keeps it beside the target and gives it to the pool with
/// [`PoolTarget::with_cache`](super::PoolTarget::with_cache); calls look into it with
/// [`ConnectionPool::cached`](super::ConnectionPool::cached) before they ask the pool.
pub struct CachedConnection {
    pool_id: u64,
    client: ArcSwapOption<(SocketAddr, RpcClient)>,
    version: AtomicU64,
}

impl CachedConnection {
    pub(super) const fn new(pool_id: u64) -> Self {
        Self {
            pool_id,
            client: ArcSwapOption::const_empty(),
            version: AtomicU64::new(0),
        }
    }

    /// Number that rises whenever another connection, or none, is in the cache, right after that:
    /// for callers that keep what they found there. A single atomic read.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    #[inline]
    pub(super) fn is_of(&self, pool_id: u64) -> bool {
        self.pool_id == pool_id
    }

    /// The connection, if it was made to this address.
    #[inline]
    pub(super) fn client(&self, addr: SocketAddr) -> Option<RpcClient> {
        let kept = self.client.load();
        let (connected_to, client) = kept.as_deref()?;
        (*connected_to == addr).then(|| client.clone())
    }

    /// Puts a connection into the cache, or takes it out. One that is there already stays. Called
    /// under the lock of the pool.
    pub(super) fn set(&self, addr: SocketAddr, client: Option<&RpcClient>) {
        let is_there = match (client, self.client.load().as_deref()) {
            (Some(client), Some((before, kept))) => *before == addr && kept.is_same(client),
            (None, None) => true,
            _ => false,
        };
        if is_there {
            return;
        }
        let kept = client.map(|client| Arc::new((addr, client.clone())));
        self.client.store(kept);
        self.version.fetch_add(1, Release);
    }
}

impl fmt::Debug for CachedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedConnection")
            .field("client", &self.client.load())
            .finish_non_exhaustive()
    }
}
