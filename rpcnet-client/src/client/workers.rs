//! Workers of a client: selection of a worker with a connection, retries on the same one.

use std::sync::Arc;

use rpcnet_balance::{ExclusionFlags, PickContext, Time};
use rpcnet_registry::{
    Candidate, NodeId, NodeInfo, NodeState, SelectError, Worker, WorkerRegistry,
    refusals::RefusingWorkers,
};
use rpcnet_transport::pool::PooledConnection;
use tokio::time::Instant;

use super::{
    ClusterClientConfig,
    call_plan::{ClusterCall, Destination, ProbeMode},
    connections::WorkerConnections,
    registry_link::RegistryLink,
};

/// The workers of a client: who can be selected, the connections to them, and which methods they
/// refused.
pub(super) struct Workers {
    pub(super) registry: Arc<WorkerRegistry>,
    pub(super) connections: WorkerConnections,
    pub(super) link: RegistryLink,
}

impl Workers {
    pub(super) fn new(registry: Arc<WorkerRegistry>, config: &ClusterClientConfig) -> Self {
        let link = RegistryLink::new(&registry);
        Self {
            connections: WorkerConnections::new(config, link.clone()),
            link,
            registry,
        }
    }

    /// Starts to follow the cluster, if that has not started.
    pub(super) fn follow(&self) {
        self.connections.follow(&self.registry);
    }

    /// A time as balancers have it.
    pub(super) fn time(&self, at: Instant) -> Time {
        self.registry.time(at.into_std())
    }

    /// All workers that match and can be reached, those that refused the method last. None counts
    /// as in flight before its call begins.
    pub(super) fn candidates(
        &self,
        method: &str,
        filter: Option<&str>,
    ) -> Result<Vec<Candidate>, SelectError> {
        self.follow();
        let mut candidates = self.registry.candidates(filter)?;
        if let Some(refusing) = self.link.refused_methods.workers_refusing(method) {
            // A caller that wants only some replies need not wait for refusals.
            candidates.sort_by_key(|worker| refusing.contains(worker.endpoint_id()));
        }
        Ok(candidates)
    }

    /// A worker that is not excluded, and the connection to it. If there is another, not one that
    /// could not be reached a moment ago, nor one that drains, as it has said on its connection.
    pub(super) fn pick(
        &self,
        call: &ClusterCall<'_>,
        excluded: &[u64],
        now: Time,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        self.pick_probing(call, excluded, now, call.plan.probe_mode())
    }

    /// A worker for a hedge: none that is busy or refused the method.
    pub(super) fn pick_hedge(
        &self,
        call: &ClusterCall<'_>,
        excluded: &[u64],
        now: Time,
    ) -> Option<(Worker, PooledConnection)> {
        let picked = self.pick_probing(call, excluded, now, ProbeMode::Never);
        picked.ok().filter(|(worker, _)| {
            let load = worker.endpoint().reported_load();
            load.is_none_or(|load| !load.busy)
        })
    }

    fn pick_probing(
        &self,
        call: &ClusterCall<'_>,
        excluded: &[u64],
        now: Time,
        probe_mode: ProbeMode,
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
        let (mut worker, connection) = match self.link.refused_methods.workers_refusing(call.method)
        {
            None => self.pick_not_draining(filter, &cx)?,
            Some(refusing) => self.pick_avoiding_refusals(&refusing, filter, &cx, probe_mode)?,
        };
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

    /// A worker that has not refused the method, except for the one call that probes whether it
    /// still does.
    #[cold]
    fn pick_avoiding_refusals(
        &self,
        refusing: &RefusingWorkers,
        filter: Option<&str>,
        cx: &PickContext<'_>,
        probe_mode: ProbeMode,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let is_first = cx.excluded().is_empty();
        if is_first && probe_mode != ProbeMode::Never {
            let is_repeatable = probe_mode == ProbeMode::WhenDue;
            let pick = |node: &NodeInfo| self.pick_healthy_named(filter, node);
            if let Some(picked) = refusing.claim_probe(cx.now(), is_repeatable, pick) {
                return Ok(picked);
            }
        }
        let compatible = self.pick_not_draining(filter, &cx.with_incompatible(refusing.ids()));
        if compatible
            .as_ref()
            .is_ok_and(|picked| !is_backing_off(picked))
        {
            return compatible;
        }
        // All that can be reached have refused it: one is asked, once, since that may have changed;
        // in rotation, which balancers promise only for one pick a call.
        if is_first {
            let mut rotation = (0..REFUSING_TRIED_MAX).map(|_| refusing.next_in_rotation());
            let asked = rotation.find_map(|node| self.pick_healthy_named(filter, node));
            return match asked {
                Some(picked) => Ok(picked),
                None => compatible.or_else(|_| self.pick_not_draining(filter, cx)),
            };
        }
        // Its answer ends the call, which does not wait for workers that cannot be reached.
        let has_answer = cx.excluded().iter().any(|id| refusing.contains(*id));
        compatible.and_then(|picked| match has_answer {
            true => Err(SelectError::AllExcluded {
                filter: String::new(),
                reachable: 1,
            }),
            false => Ok(picked),
        })
    }

    /// The worker of this name, if there is no other reason to pass it over and no need to wait for
    /// a connection.
    fn pick_healthy_named(
        &self,
        filter: Option<&str>,
        node: &NodeInfo,
    ) -> Option<(Worker, PooledConnection)> {
        let worker = self.registry.select_named(filter, &node.id.name).ok()?;
        let is_healthy =
            worker.node().state == NodeState::Alive && worker.endpoint().flags().is_empty();
        match self.connections.connection(&worker) {
            PooledConnection::Ready(client) if is_healthy && !client.is_draining() => {
                Some((worker, PooledConnection::Ready(client)))
            }
            _ => None,
        }
    }

    fn pick_not_draining(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let worker = self.registry.select(filter, cx)?;
        let (mut worker, mut connection) = match self.connections.connection(&worker) {
            // Whether it can be reached again is probed beside the call, which goes elsewhere.
            PooledConnection::Pending(pending) if worker.is_probe() => {
                self.connections.probe(worker, pending);
                self.pick_without_probe(filter, cx)?
            }
            connection => (worker, connection),
        };
        // Each round flags one more, unless a user's balancer picks flagged ones all the same.
        while connection.is_draining()
            && !worker.endpoint().flags().contains(ExclusionFlags::DRAINING)
        {
            self.registry.set_draining(worker.endpoint(), true);
            // The drain may have ended before that was noted, and no event would say so again.
            if !connection.is_draining() {
                self.registry.set_draining(worker.endpoint(), false);
            }
            (worker, connection) = self.pick_without_probe(filter, cx)?;
        }
        Ok((worker, connection))
    }

    fn pick_without_probe(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let worker = self.registry.select_without_probe(filter, cx)?;
        let connection = self.connections.connection(&worker);
        Ok((worker, connection))
    }
}

/// Whether a worker could not be reached a moment ago, and is not connected since.
fn is_backing_off((worker, connection): &(Worker, PooledConnection)) -> bool {
    matches!(connection, PooledConnection::Pending(_))
        && (worker.endpoint().flags()).contains(ExclusionFlags::UNREACHABLE)
}

/// Limit of the workers that are looked at for one to be asked again, if all refused a method.
const REFUSING_TRIED_MAX: usize = 4;
