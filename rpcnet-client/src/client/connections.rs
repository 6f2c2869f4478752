//! Connections to workers: the connection pool between cluster events and the registry.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
};

use rpcnet_balance::{Endpoint as BalancedEndpoint, Outcome, OutcomeKind, Time};
use rpcnet_registry::{
    ClusterEvent, Events, NodeId, Worker, WorkerRegistry, connected::WorkerConnector,
};
use rpcnet_transport::{
    Endpoint, RpcClient,
    pool::{CachedConnection, ConnectionPool, PoolTarget, PooledConnection},
};
use tokio::{task::AbortHandle, time::Instant};

use super::{
    ClusterClientConfig,
    registry_link::{RegistryLink, process},
};

/// Connections to workers, shared by all calls of a client.
pub(super) struct WorkerConnections {
    pool: Arc<Pool>,
    /// Link whose records of a worker are removed when that is another process.
    link: RegistryLink,
    /// The task that follows the cluster. Started by the first call, since a client may be made
    /// outside of a runtime.
    follower: OnceLock<AbortHandle>,
    /// Zero of the times of the registry.
    epoch: std::time::Instant,
}

type Pool = ConnectionPool<Arc<BalancedEndpoint>>;

impl WorkerConnections {
    pub(super) fn new(
        config: &ClusterClientConfig,
        link: RegistryLink,
        epoch: std::time::Instant,
    ) -> Self {
        let (endpoint, listener) = (config.endpoint.clone(), link.clone());
        Self {
            pool: Arc::new(Pool::with_listener(endpoint, config.pool, listener)),
            link,
            follower: OnceLock::new(),
            epoch,
        }
    }

    /// A time as balancers have it.
    #[inline]
    pub(super) fn time(&self, at: Instant) -> Time {
        Time::from(at.into_std().saturating_duration_since(self.epoch))
    }

    /// The endpoint that connections are made from.
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.pool.endpoint()
    }

    /// Starts to follow the cluster, if that has not started.
    pub(super) fn follow(&self, registry: &WorkerRegistry) {
        self.follower.get_or_init(|| {
            let pool = Arc::downgrade(&self.pool);
            let task = follow(pool, self.link.clone(), registry.subscribe());
            self.endpoint().runtime().spawn(task).abort_handle()
        });
    }

    /// A call waits for capacity on its connection: the pool opens another one if this lasts.
    pub(super) fn on_saturated(&self, worker: &Worker) {
        let id = process(worker.id());
        let pool = &self.pool;
        pool.on_saturated(id, worker.addr, || self.target(worker));
    }

    /// A connection to the worker was lost.
    pub(super) fn prune_closed(&self, worker: &Worker) {
        self.pool.prune_closed(process(worker.id()));
    }

    /// Whether the worker is known to be at another address than this one.
    pub(super) fn has_moved(&self, id: &NodeId, addr: SocketAddr) -> bool {
        self.pool.has_moved(process(id), addr)
    }

    /// The number of connections, those being made included.
    pub(super) fn len(&self) -> usize {
        self.pool.len()
    }

    fn target(&self, worker: &Worker) -> PoolTarget<Arc<BalancedEndpoint>> {
        let (id, pool) = (worker.id(), &self.pool);
        let cache = self.cache(worker).filter(|cache| pool.owns(cache));
        let endpoint = Arc::clone(worker.endpoint());
        PoolTarget::new(Arc::clone(&id.name), worker.addr)
            .with_context(endpoint)
            .with_generation(id.epoch)
            .with_cache(cache.cloned())
    }

    /// The connection to a worker, if there is one alone and this client has its cache.
    pub(super) fn cached(&self, worker: &Worker) -> Option<RpcClient> {
        let cache = self.cache(worker)?;
        self.pool.cached(cache, worker.addr)
    }

    /// Cache of the connection in the entry of the worker, which the first client that calls the
    /// worker has. Other clients ask their pool.
    pub(super) fn cache<'a>(&self, worker: &'a Worker) -> Option<&'a Arc<CachedConnection>> {
        worker.extension(|| Arc::new(self.pool.new_cache()))
    }
}

impl WorkerConnector for WorkerConnections {
    type Connection = PooledConnection;

    /// The least busy connection to a worker, or the wait for the first one. Takes no lock if there
    /// is one alone.
    fn connection(&self, worker: &Worker) -> PooledConnection {
        let pool = &self.pool;
        match self.cached(worker) {
            Some(client) => PooledConnection::Ready(client),
            None => pool.connection_with(process(worker.id()), worker.addr, || self.target(worker)),
        }
    }

    fn is_ready(&self, connection: &PooledConnection) -> bool {
        matches!(connection, PooledConnection::Ready(_))
    }

    fn is_draining(&self, connection: &PooledConnection) -> bool {
        connection.is_draining()
    }

    /// Probes a worker that calls pass over: no call waits for the connection. A connection that is
    /// made reports itself.
    fn probe(&self, worker: Worker, connection: PooledConnection) {
        let PooledConnection::Pending(pending) = connection else {
            return;
        };
        self.endpoint().runtime().spawn(async move {
            let started_at = Instant::now();
            match pending.await {
                Ok(_) => {}
                Err(error) if error.is_local() => {}
                Err(_) => {
                    let took = started_at.elapsed();
                    worker.report(&Outcome::new(OutcomeKind::Unreachable, took));
                }
            }
        });
    }
}

impl Drop for WorkerConnections {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get() {
            follower.abort();
        }
    }
}

/// Follows the cluster.
async fn follow(pool: Weak<Pool>, link: RegistryLink, mut events: Events) {
    while let Some(event) = events.recv().await {
        let Some(pool) = pool.upgrade() else {
            return;
        };
        on_cluster_event(&pool, &link, &event);
    }
}

fn on_cluster_event(pool: &Pool, link: &RegistryLink, event: &ClusterEvent) {
    if matches!(event, ClusterEvent::Lagged(_)) {
        link.retain_nodes(|known| link.is_as_known(known));
        pool.reconcile();
        return;
    }
    let Some(node) = event.node() else { return };
    let id = process(&node.id);
    pool.on_addr_changed(id);
    link.retain_nodes(|known| known.id.name != node.id.name || link.is_as_known(known));
    match event {
        ClusterEvent::NodeFailed(_) => pool.on_failed(id),
        ClusterEvent::NodeLeft(_) => pool.on_left(id),
        ClusterEvent::NodeJoined(_) => pool.on_started(id),
        _ => {}
    }
}
