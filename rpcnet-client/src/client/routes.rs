//! Routes: the workers that match a filter and the connections to them, found without a look-up.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use rpcnet_balance::{PickContext, Time};
use rpcnet_registry::{SelectError, Worker, WorkerGroup, WorkerRegistry};
use rpcnet_transport::{RpcClient, WeakRpcClient, pool::PooledConnection};
use tokio::time::Instant;

use super::connections::WorkerConnections;

/// Route of the calls with one filter.
#[derive(Debug)]
pub(super) struct Route {
    filter: Option<Box<str>>,
    table: ArcSwapOption<RouteTable>,
}

/// Workers and connections of a route, made anew when either change.
#[derive(Debug)]
struct RouteTable {
    group: WorkerGroup,
    /// Version of the connections that are kept here.
    connections_version: u64,
    /// Connections by health tier and index, found at the first call of each worker. They do not
    /// last because of the table, which may not be used for long.
    connections: [Box<[OnceLock<KeptConnection>]>; 2],
}

#[derive(Debug)]
struct KeptConnection {
    client: WeakRpcClient,
    created_at: Time,
}

/// Connection that a call can be sent on.
pub(super) struct ReadyConnection {
    pub(super) client: RpcClient,
    /// Zero of the times of its replies.
    pub(super) created_at: Time,
}

impl RouteTable {
    fn new(group: WorkerGroup, connections_version: u64) -> Self {
        let empty = |size| (0..size).map(|_| OnceLock::new()).collect();
        Self {
            connections: group.tier_sizes().map(empty),
            group,
            connections_version,
        }
    }

    #[inline]
    fn is_current(&self, connections: &WorkerConnections) -> bool {
        self.connections_version == connections.version() && self.group.is_current()
    }

    /// The connection to a worker of the group, if there is exactly one and it can be used.
    #[inline]
    fn connection(
        &self,
        worker: &Worker,
        connections: &WorkerConnections,
    ) -> Option<ReadyConnection> {
        let (tier, index) = self.group.place(worker)?;
        let slot = self.connections[tier].get(index)?;
        match slot.get() {
            Some(kept) => Some(ReadyConnection {
                client: kept.client.upgrade()?,
                created_at: kept.created_at,
            }),
            None => find_connection(slot, worker, connections),
        }
    }
}

/// Finds the connection to a worker, and keeps it.
#[cold]
fn find_connection(
    slot: &OnceLock<KeptConnection>,
    worker: &Worker,
    connections: &WorkerConnections,
) -> Option<ReadyConnection> {
    let client = connections.cached(worker)?;
    let created_at = connections.time(Instant::from_std(client.created_at()));
    // Another caller may have been faster, with the same one.
    let _ = slot.set(KeptConnection {
        client: client.downgrade(),
        created_at,
    });
    Some(ReadyConnection { client, created_at })
}

impl Route {
    pub(super) fn new(filter: Option<&str>) -> Self {
        Self {
            filter: filter.map(Into::into),
            table: ArcSwapOption::empty(),
        }
    }

    pub(super) fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// A worker, and the connection to it if there is one that can be used at once; `None` if the
    /// table is not current or has no worker for the call.
    #[inline]
    pub(super) fn pick_ready(
        &self,
        cx: &PickContext<'_>,
        connections: &WorkerConnections,
    ) -> Option<(Worker, Option<ReadyConnection>)> {
        let table = self.table.load();
        let table = table.as_deref()?;
        if !table.is_current(connections) {
            return None;
        }
        let worker = table.group.select(cx)?;
        let client = table.connection(&worker, connections);
        Some((worker, client))
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
        let is_current = table.as_ref().is_some_and(|it| it.is_current(connections));
        if !is_current {
            self.renew(registry, connections);
        }
        registry.select_connected(filter, cx, connections)
    }

    /// Makes the table, unless no worker could be selected by it for want of a valid filter.
    #[cold]
    fn renew(&self, registry: &WorkerRegistry, connections: &WorkerConnections) {
        // Read before the connections are: a change meanwhile is noticed.
        let version = connections.version();
        if let Ok(group) = registry.group(self.filter()) {
            let table = RouteTable::new(group, version);
            self.table.store(Some(Arc::new(table)));
        }
    }
}

/// Routes of a client, by their filters. Those of the first filters are kept, up to a number; calls
/// with others ask the registry, which keeps more.
#[derive(Debug)]
pub(super) struct Routes {
    slots: [OnceLock<Arc<Route>>; SLOTS],
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            slots: [const { OnceLock::new() }; SLOTS],
        }
    }
}

impl Routes {
    /// The route of this filter.
    #[inline]
    pub(super) fn find(&self, filter: Option<&str>) -> Option<&Arc<Route>> {
        let text = filter.unwrap_or_default();
        // Filters are few: their lengths and ends tell them apart nearly always.
        let last = text.as_bytes().last().copied().unwrap_or_default();
        let start = text.len().wrapping_add(usize::from(last));
        (0..PROBES_MAX).find_map(|step| {
            let slot = &self.slots[start.wrapping_add(step) % SLOTS];
            let route = slot.get_or_init(|| Arc::new(Route::new(filter)));
            (route.filter() == filter).then_some(route)
        })
    }

    /// The route of this filter, which the caller keeps.
    pub(super) fn find_or_new(&self, filter: Option<&str>) -> Arc<Route> {
        let found = self.find(filter).cloned();
        found.unwrap_or_else(|| Arc::new(Route::new(filter)))
    }
}

/// Number of routes that are kept.
const SLOTS: usize = 64;
/// Slots in which a route is looked for.
const PROBES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_has_one_route_until_there_are_too_many() {
        let routes = Routes::default();
        let route = |filter| routes.find(Some(filter)).cloned();
        for filter in ["role=worker", "role=keeper", "a", "b"] {
            let found = route(filter).expect("a free slot");
            assert_eq!(found.filter(), Some(filter));
            assert!(Arc::ptr_eq(&found, &route(filter).expect("the same")));
        }
        assert_eq!(routes.find(None).expect("a free slot").filter(), None);
        let many: Vec<_> = (100..999).map(|n| format!("n={n}")).collect();
        let found = many.iter().filter_map(|filter| routes.find(Some(filter)));
        assert!(found.count() <= SLOTS);
    }
}
