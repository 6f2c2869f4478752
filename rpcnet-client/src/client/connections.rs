//! Connections to workers: the connection pool between cluster events and the registry.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
};

use rpcnet_balance::{Endpoint as BalancedEndpoint, Outcome, OutcomeKind};
use rpcnet_registry::{ClusterEvent, Events, NodeId, Worker, WorkerRegistry};
use rpcnet_transport::{
    Endpoint,
    pool::{
        CachedConnection, ConnectionPool, PendingConnection, PoolConfig, PoolTarget,
        PooledConnection, TargetId,
    },
};
use tokio::{task::AbortHandle, time::Instant};

use super::{ClusterClientConfig, registry_link::RegistryLink};

/// Connections to workers, shared by all calls of a client.
pub(super) struct WorkerConnections {
    shared: Arc<Shared>,
    /// The task that follows the cluster. Started by the first call, since a client may be made
    /// outside of a runtime.
    follower: OnceLock<AbortHandle>,
}

struct Shared {
    pool: ConnectionPool<Arc<BalancedEndpoint>>,
    /// Its refused methods are cleared for a worker that is another process now.
    link: RegistryLink,
}

impl WorkerConnections {
    pub(super) fn new(config: &ClusterClientConfig, link: RegistryLink) -> Self {
        let pool_config = PoolConfig::new()
            .with_connect_timeout(config.connect_timeout)
            .with_connections_per_target_max(config.connections_max)
            .with_surplus_idle_timeout(config.surplus_idle_timeout);
        let (endpoint, listener) = (config.endpoint.clone(), link.clone());
        let pool = ConnectionPool::with_listener(endpoint, pool_config, listener);
        Self {
            shared: Arc::new(Shared { pool, link }),
            follower: OnceLock::new(),
        }
    }

    /// The endpoint that connections are made from.
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.shared.pool.endpoint()
    }

    /// Starts to follow the cluster, if that has not started.
    pub(super) fn follow(&self, registry: &WorkerRegistry) {
        self.follower.get_or_init(|| {
            let task = follow(Arc::downgrade(&self.shared), registry.subscribe());
            self.endpoint().runtime().spawn(task).abort_handle()
        });
    }

    /// The least busy connection to a worker, or the wait for the first one. Takes no lock if there
    /// is one alone.
    pub(super) fn connection(&self, worker: &Worker) -> PooledConnection {
        let pool = &self.shared.pool;
        let cached = self
            .cache(worker)
            .and_then(|cache| pool.cached(cache, worker.addr));
        match cached {
            Some(client) => PooledConnection::Ready(client),
            None => pool.connection_with(process(worker.id()), worker.addr, || self.target(worker)),
        }
    }

    /// A call waits for a place on its connection: another one is made if it stays so.
    pub(super) fn on_saturated(&self, worker: &Worker) {
        let id = process(worker.id());
        let pool = &self.shared.pool;
        pool.on_saturated(id, worker.addr, || self.target(worker));
    }

    /// Probes a worker that calls pass over: no call waits for the connection. A connection that is
    /// made reports itself.
    pub(super) fn probe(&self, worker: Worker, pending: PendingConnection) {
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

    /// A connection to the worker was lost.
    pub(super) fn prune_closed(&self, worker: &Worker) {
        self.shared.pool.prune_closed(process(worker.id()));
    }

    /// Whether the worker is known to be at another address than this one.
    pub(super) fn has_moved(&self, id: &NodeId, addr: SocketAddr) -> bool {
        self.shared.pool.has_moved(process(id), addr)
    }

    /// The number of connections, those being made included.
    pub(super) fn len(&self) -> usize {
        self.shared.pool.len()
    }

    fn target(&self, worker: &Worker) -> PoolTarget<Arc<BalancedEndpoint>> {
        let (id, pool) = (worker.id(), &self.shared.pool);
        let cache = self.cache(worker).filter(|cache| pool.owns(cache));
        let endpoint = Arc::clone(worker.endpoint());
        PoolTarget::with_context(Arc::clone(&id.name), worker.addr, endpoint)
            .with_generation(id.epoch)
            .with_cache(cache.cloned())
    }

    /// Where the registry keeps the connection beside the worker, for the first client that called
    /// it. Other clients ask their pool.
    fn cache<'a>(&self, worker: &'a Worker) -> Option<&'a Arc<CachedConnection>> {
        worker.extension(|| Arc::new(self.shared.pool.new_cache()))
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
async fn follow(connections: Weak<Shared>, mut events: Events) {
    while let Some(event) = events.recv().await {
        let Some(connections) = connections.upgrade() else {
            return;
        };
        connections.on_cluster_event(&event);
    }
}

impl Shared {
    fn on_cluster_event(&self, event: &ClusterEvent) {
        let (pool, link) = (&self.pool, &self.link);
        let refused_methods = &link.refused_methods;
        if matches!(event, ClusterEvent::Lagged(_)) {
            refused_methods.retain_nodes(|known| link.is_as_known(known));
            pool.reconcile();
            return;
        }
        let Some(node) = event.node() else { return };
        let id = process(&node.id);
        pool.on_addr_changed(id);
        refused_methods
            .retain_nodes(|known| known.id.name != node.id.name || link.is_as_known(known));
        match event {
            ClusterEvent::NodeFailed(_) => pool.on_failed(id),
            ClusterEvent::NodeLeft(_) => pool.on_left(id),
            ClusterEvent::NodeJoined(_) => pool.on_started(id),
            _ => {}
        }
    }
}

/// Identity of a node in the pool.
pub(super) fn process(id: &NodeId) -> TargetId<'_> {
    TargetId {
        key: &id.name,
        generation: id.epoch,
    }
}
