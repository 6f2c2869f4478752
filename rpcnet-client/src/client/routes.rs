//! Routes: the workers that match a filter and the connections to them, found without a look-up.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use rpcnet_balance::{PickContext, Time};
use rpcnet_registry::{SelectError, Worker, WorkerGroup, WorkerRegistry};
use rpcnet_transport::{
    RpcClient, WeakRpcClient,
    pool::{CachedConnection, PooledConnection},
};
use tokio::time::Instant;

use super::connections::WorkerConnections;

/// Route of the calls with one filter.
#[derive(Debug)]
pub(super) struct Route {
    filter: Option<Box<str>>,
    table: ArcSwapOption<RouteTable>,
}

/// Workers of a route, made anew when they change, and the connections to them, each of which is
/// found anew when it changes.
#[derive(Debug)]
struct RouteTable {
    group: WorkerGroup,
    /// Connections by health tier and index, found at the first call of each worker. They do not
    /// last because of the table, which may not be used for long.
    connections: [Box<[KeptSlot]>; 2],
}

/// Slot of the connection to a worker.
type KeptSlot = OnceLock<Box<KeptConnection>>;

/// Connection to a worker, and the one that was found after it. Readers take no lock: the list
/// grows until the table is made anew.
#[derive(Debug)]
struct KeptConnection {
    client: WeakRpcClient,
    created_at: Time,
    cache: Arc<CachedConnection>,
    /// Version of the cache before the connection was found there.
    version: u64,
    next: KeptSlot,
}

/// Connection that a call can be sent on.
pub(super) struct ReadyConnection {
    pub(super) client: RpcClient,
    /// Zero of the times of its replies.
    pub(super) created_at: Time,
}

impl RouteTable {
    fn new(group: WorkerGroup) -> Self {
        let empty = |size| (0..size).map(|_| OnceLock::new()).collect();
        Self {
            connections: group.tier_sizes().map(empty),
            group,
        }
    }

    fn slot(&self, worker: &Worker) -> Option<&KeptSlot> {
        let (tier, index) = self.group.position(worker)?;
        self.connections[tier].get(index)
    }
}

impl KeptConnection {
    /// The connection, if it is still the one in the cache.
    #[inline]
    fn ready(&self) -> Option<ReadyConnection> {
        if self.cache.version() != self.version {
            return None;
        }
        Some(ReadyConnection {
            client: self.client.upgrade()?,
            created_at: self.created_at,
        })
    }

    /// Finds the connection to a worker, and keeps it in the slot if there is one.
    #[cold]
    fn find(
        slot: Option<&KeptSlot>,
        worker: &Worker,
        connections: &WorkerConnections,
    ) -> Option<ReadyConnection> {
        let cache = connections.cache(worker)?;
        // Read before the connection is: a change meanwhile is noticed.
        let version = cache.version();
        let client = connections.cached(worker)?;
        let created_at = connections.time(Instant::from_std(client.created_at()));
        if let Some(slot) = slot {
            let kept = Self {
                client: client.downgrade(),
                created_at,
                cache: Arc::clone(cache),
                version,
                next: OnceLock::new(),
            };
            // Another caller may have been faster, with the same one.
            let _ = slot.set(Box::new(kept));
        }
        Some(ReadyConnection { client, created_at })
    }
}

impl Route {
    pub(super) fn new(filter: Option<&str>) -> Self {
        Self {
            filter: filter.map(Into::into),
            table: ArcSwapOption::empty(),
        }
    }

    /// Route with its table; `None` if the filter is not valid.
    pub(super) fn prepared(filter: &str, registry: &WorkerRegistry) -> Option<Self> {
        let group = registry.group(Some(filter)).ok()?;
        Some(Self {
            filter: Some(filter.into()),
            table: ArcSwapOption::from_pointee(RouteTable::new(group)),
        })
    }

    pub(super) fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// A worker, and the connection to it if there is exactly one and it can be used at once;
    /// `None` if the table is not current or has no worker for the call.
    #[inline]
    pub(super) fn pick_ready(
        &self,
        cx: &PickContext<'_>,
        connections: &WorkerConnections,
    ) -> Option<(Worker, Option<ReadyConnection>)> {
        let table = self.table.load();
        let table = table.as_deref()?;
        if !table.group.is_current() {
            return None;
        }
        let worker = table.group.select(cx)?;
        let kept = table.slot(&worker)?.get();
        let ready = match kept.and_then(|kept| kept.ready()) {
            Some(ready) => Some(ready),
            None => self.find_connection(table, &worker, connections),
        };
        Some((worker, ready))
    }

    /// The connection to a worker of which the first that was found is not current.
    #[cold]
    fn find_connection(
        &self,
        table: &RouteTable,
        worker: &Worker,
        connections: &WorkerConnections,
    ) -> Option<ReadyConnection> {
        let mut slot = table.slot(worker)?;
        for _ in 0..KEPT_MAX {
            let Some(kept) = slot.get() else {
                return KeptConnection::find(Some(slot), worker, connections);
            };
            if let Some(ready) = kept.ready() {
                return Some(ready);
            }
            slot = &kept.next;
        }
        self.table
            .store(Some(Arc::new(RouteTable::new(table.group.clone()))));
        KeptConnection::find(None, worker, connections)
    }

    /// A worker and the connection to it, as the registry selects them.
    ///
    /// # Errors
    ///
    /// As [`WorkerRegistry::select_connected`].
    pub(super) fn pick(
        &self,
        cx: &PickContext<'_>,
        registry: &WorkerRegistry,
        connections: &WorkerConnections,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let filter = self.filter();
        let table = self.table.load();
        let is_current = table.as_ref().is_some_and(|it| it.group.is_current());
        if !is_current {
            self.renew(registry);
        }
        registry.select_connected(filter, cx, connections)
    }

    /// Makes the table, unless no worker could be selected by it for want of a valid filter.
    #[cold]
    fn renew(&self, registry: &WorkerRegistry) {
        if let Ok(group) = registry.group(self.filter()) {
            self.table.store(Some(Arc::new(RouteTable::new(group))));
        }
    }
}

/// Connections to a worker that a table keeps, of which the last one may be current: after so many
/// changes it is made anew, which costs some time for each worker.
const KEPT_MAX: usize = 8;

#[cfg(test)]
mod tests;
