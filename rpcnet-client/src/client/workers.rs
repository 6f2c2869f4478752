//! Workers of a client: selection of a worker with a connection, retries on the same one.

use std::sync::Arc;

use rpcnet_balance::{PickContext, Time};
use rpcnet_registry::{
    Candidate, NodeId, SelectError, Worker, WorkerRegistry,
    connected::{RejectionProbe, Rejections, WorkerConnector},
};
use rpcnet_transport::pool::PooledConnection;
use tokio::time::Instant;

use super::{
    ClusterClientConfig,
    call_plan::{ClusterCall, Destination},
    connections::WorkerConnections,
    plain_call::PlainCall,
    registry_link::RegistryLink,
    route_cache::RouteCache,
    routes::{ReadyConnection, Route},
};

/// The workers of a client: who can be selected, the connections to them, which methods they
/// rejected, and whose types fit.
pub(super) struct Workers {
    pub(super) registry: Arc<WorkerRegistry>,
    pub(super) connections: WorkerConnections,
    pub(super) link: RegistryLink,
    pub(super) routes: RouteCache,
}

impl Workers {
    pub(super) fn new(registry: Arc<WorkerRegistry>, config: &ClusterClientConfig) -> Self {
        let link = RegistryLink::new(&registry);
        Self {
            connections: WorkerConnections::new(config, link.clone(), registry.epoch()),
            link,
            routes: RouteCache::default(),
            registry,
        }
    }

    /// The route of a filter, which the caller keeps.
    pub(super) fn route(&self, filter: Option<&str>) -> Arc<Route> {
        self.routes.find_or_new(filter, &self.registry)
    }

    /// Starts to follow the cluster, if that has not started.
    pub(super) fn follow(&self) {
        self.connections.follow(&self.registry);
    }

    /// A time as balancers have it.
    #[inline]
    pub(super) fn time(&self, at: Instant) -> Time {
        self.connections.time(at)
    }

    /// All workers that match and can be reached, those that rejected the method last. None counts
    /// as in flight before its call begins.
    pub(super) fn candidates(
        &self,
        method: &str,
        filter: Option<&str>,
    ) -> Result<Vec<Candidate>, SelectError> {
        self.follow();
        let mut candidates = self.registry.candidates(filter)?;
        if let Some(rejecting) = self.link.rejected_methods.workers_rejecting(method) {
            // A caller that wants only some replies need not wait for rejections.
            candidates.sort_by_key(|worker| rejecting.contains(worker.endpoint_id()));
        }
        Ok(candidates)
    }

    /// A worker that is not excluded, and the connection to it. One that could not be reached a
    /// moment ago, or whose connection says that it drains, is picked only if there is no other.
    pub(super) fn pick(
        &self,
        call: &ClusterCall<'_>,
        excluded: &[u64],
        now: Time,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        self.pick_probing(call, excluded, now, call.plan.rejection_probe())
    }

    /// A worker for a hedge: none that is busy or rejected the method.
    pub(super) fn pick_hedge(
        &self,
        call: &ClusterCall<'_>,
        excluded: &[u64],
        now: Time,
    ) -> Option<(Worker, PooledConnection)> {
        let picked = self.pick_probing(call, excluded, now, RejectionProbe::Never);
        picked.ok().filter(|(worker, _)| {
            let load = worker.endpoint().reported_load();
            load.is_none_or(|load| !load.busy)
        })
    }

    /// A worker, and the connection to it if there is one that can be used at once. `None` if it
    /// takes more than a look at the route of the call, as when workers reject its method or may
    /// have other types.
    #[inline]
    pub(super) fn pick_plain(
        &self,
        call: &PlainCall<'_>,
        now: Time,
    ) -> Option<(Worker, Option<ReadyConnection>)> {
        let rejected = &self.link.rejected_methods;
        let found;
        let route = match (call.route, call.filter) {
            (Some(route), _) => route,
            (None, None) => self.routes.unfiltered(),
            (None, Some(filter)) => {
                found = self.routes.find(filter)?;
                found.as_deref()?
            }
        };
        let fits = rejected.is_empty()
            && call
                .typed
                .is_none_or(|method| self.mismatches(*method, call.filter).is_none());
        if !fits {
            return None;
        }
        let mut cx = PickContext::new().with_now(now);
        if let Some(key) = call.key {
            cx = cx.with_key(key);
        }
        let (mut worker, client) = route.pick_ready(&cx, &self.connections)?;
        call.set_latency_kind(&mut worker, now);
        Some((worker, client))
    }

    /// A worker that was picked for a call, and the connection to it; another one if it drains, or
    /// is probed and cannot be reached.
    pub(super) fn connect_picked(
        &self,
        call: &ClusterCall<'_>,
        worker: Worker,
        now: Time,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let Destination::Matching(filter) = call.destination else {
            return Ok(self.start_on(worker, call, now));
        };
        let mut cx = PickContext::new().with_now(now);
        if let Some(key) = call.plan.key {
            cx = cx.with_key(key);
        }
        let (registry, connections) = (&self.registry, &self.connections);
        let picked = registry.connect_selected(worker, filter, &cx, connections);
        picked.map(|(mut worker, connection)| {
            call.set_latency_kind(&mut worker, now);
            (worker, connection)
        })
    }

    fn pick_probing(
        &self,
        call: &ClusterCall<'_>,
        excluded: &[u64],
        now: Time,
        probe: RejectionProbe,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let filter = match call.destination {
            Destination::Matching(filter) => filter,
            Destination::Only(candidate) => {
                if excluded.contains(&candidate.endpoint_id()) {
                    return Err(SelectError::AllExcluded {
                        filter: String::new(),
                        reachable: 1,
                    });
                }
                return Ok(self.start_on(candidate.begin(), call, now));
            }
        };
        let mut cx = PickContext::new().with_excluded(excluded).with_now(now);
        if let Some(key) = call.plan.key {
            cx = cx.with_key(key);
        }
        let (registry, connections) = (&self.registry, &self.connections);
        let found;
        let route = match (call.route, filter) {
            (Some(route), _) => Some(route),
            (None, None) => Some(&**self.routes.unfiltered()),
            (None, Some(filter)) => {
                found = self.routes.find_or_insert(filter, registry);
                found.as_deref().and_then(|found| found.as_deref())
            }
        };
        let rejecting = self.link.rejected_methods.workers_rejecting(call.method);
        let mismatches = call
            .typed
            .and_then(|method| self.mismatches(*method, filter));
        let (mut worker, connection) = if rejecting.is_none() && mismatches.is_none() {
            match route {
                Some(route) => route.pick(&cx, registry, connections)?,
                None => registry.select_connected(filter, &cx, connections)?,
            }
        } else {
            let rejections = Rejections {
                workers: rejecting.as_deref(),
                mismatches: mismatches.as_deref(),
                probe,
                now,
            };
            registry.select_compatible(filter, &cx, connections, rejections)?
        };
        if let (Some(method), Some(mismatches)) = (call.typed, &mismatches)
            && !mismatches.contains(worker.endpoint_id())
        {
            self.on_passed_over(*method, mismatches, now);
        }
        call.set_latency_kind(&mut worker, now);
        Ok((worker, connection))
    }

    /// The same process again, if it can be reached.
    pub(super) fn pick_same_process(
        &self,
        call: &ClusterCall<'_>,
        id: &NodeId,
        now: Time,
    ) -> Option<(Worker, PooledConnection)> {
        let Destination::Matching(filter) = call.destination else {
            return None;
        };
        let worker = self.registry.select_named(filter, &id.name).ok()?;
        (worker.id() == id).then(|| self.start_on(worker, call, now))
    }

    fn start_on(
        &self,
        mut worker: Worker,
        call: &ClusterCall<'_>,
        now: Time,
    ) -> (Worker, PooledConnection) {
        call.set_latency_kind(&mut worker, now);
        let connection = self.connections.connection(&worker);
        (worker, connection)
    }
}
