//! Cached connection: the only connection to a target, found without a lock.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Release},
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
    /// Number of the changes of all caches of the pool.
    version: Arc<AtomicU64>,
}

impl CachedConnection {
    pub(super) fn new(pool_id: u64, version: &Arc<AtomicU64>) -> Self {
        Self {
            pool_id,
            client: ArcSwapOption::empty(),
            version: Arc::clone(version),
        }
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

    pub(super) fn set(&self, addr: SocketAddr, client: Option<&RpcClient>) {
        if client.is_none() && self.client.load().is_none() {
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
