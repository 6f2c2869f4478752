//! The connection to a worker, found without a lock.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwapOption;
use rpcnet_balance::Endpoint;
use rpcnet_registry::{NodeInfo, Worker};
use rpcnet_transport::RpcClient;

use super::PoolShared;

/// The connection to a worker while there is one alone, which is nearly always. Kept with the worker in the registry, for
/// the first client of it; others look into their pool.
pub(super) struct CachedConnection {
    pool: Weak<PoolShared>,
    client: ArcSwapOption<(SocketAddr, RpcClient)>,
}

/// Somebody to connect to.
#[derive(Clone)]
pub(super) struct ConnectTarget {
    pub(super) node: Arc<NodeInfo>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) cached: Option<Arc<CachedConnection>>,
}

impl CachedConnection {
    pub(super) fn new(pool: Weak<PoolShared>) -> Self {
        Self {
            pool,
            client: ArcSwapOption::empty(),
        }
    }

    /// The connection, if it was made to this address.
    pub(super) fn client(&self, addr: SocketAddr) -> Option<RpcClient> {
        let kept = self.client.load();
        let (dialled, client) = kept.as_deref()?;
        (*dialled == addr).then(|| client.clone())
    }

    pub(super) fn set(&self, addr: SocketAddr, client: Option<&RpcClient>) {
        if client.is_none() && self.client.load().is_none() {
            return;
        }
        let kept = client.map(|client| Arc::new((addr, client.clone())));
        self.client.store(kept);
    }

    /// That of a worker, if it is this pool's.
    pub(super) fn of<'a>(pool: &Arc<PoolShared>, worker: &'a Worker) -> Option<&'a Arc<Self>> {
        let way: &Arc<Self> = worker.extension(|| Arc::new(Self::new(Arc::downgrade(pool))))?;
        std::ptr::eq(way.pool.as_ptr(), Arc::as_ptr(pool)).then_some(way)
    }
}

impl ConnectTarget {
    pub(super) fn of(pool: &Arc<PoolShared>, worker: &Worker) -> Self {
        Self {
            // The worker may have been selected just before it moved.
            node: pool.current_node(worker.node()),
            endpoint: Arc::clone(worker.endpoint()),
            cached: CachedConnection::of(pool, worker).cloned(),
        }
    }
}
