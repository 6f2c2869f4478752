//! Selection of workers that a caller is connected to, except for those that drain, reject the
//! method or are backing off.

use rpcnet_balance::{Endpoint, ExclusionFlags, PickContext, Time};

use crate::{
    NodeInfo, NodeState, SelectError, Worker, WorkerRegistry, rejections::RejectingWorkers,
};

/// Connections of a caller to workers, which the selection asks for.
pub trait WorkerConnector {
    /// A connection, or the wait for one.
    type Connection;

    /// The connection to this worker. If there is none, it is made beside the call.
    fn connection(&self, worker: &Worker) -> Self::Connection;

    /// Whether a call can be sent on the connection without a wait.
    fn is_ready(&self, connection: &Self::Connection) -> bool;

    /// Whether the worker says on the connection that it takes no calls.
    fn is_draining(&self, connection: &Self::Connection) -> bool;

    /// Probes a worker that could not be reached, beside the call, which goes elsewhere.
    fn probe(&self, worker: Worker, connection: Self::Connection);
}

/// When a call probes a worker that rejected its method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionProbe {
    /// Never.
    Never,
    /// When a probe is due: if the worker still rejects, another attempt follows.
    WhenDue,
    /// When a probe is overdue: if the worker still rejects, the call fails.
    WhenOverdue,
}

/// Workers that reject the method of a call, as far as is known when it is made.
#[derive(Debug, Clone, Copy)]
pub struct Rejections<'a> {
    /// The workers that reject the method.
    pub workers: &'a RejectingWorkers,
    /// When the call probes one of them.
    pub probe: RejectionProbe,
    /// The time of the call.
    pub now: Time,
}

impl WorkerRegistry {
    /// Selects a worker as [`select`](Self::select) does, and the connection to it. One that could
    /// not be reached a moment ago, or that says on its connection that it drains, is selected only
    /// if there is no other.
    ///
    /// # Errors
    ///
    /// As [`select`](Self::select).
    #[inline]
    pub fn select_connected<C: WorkerConnector>(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
        connector: &C,
    ) -> Result<(Worker, C::Connection), SelectError> {
        let worker = self.select(filter, cx)?;
        let connection = connector.connection(&worker);
        let (mut worker, mut connection) = if worker.is_probe() && !connector.is_ready(&connection)
        {
            connector.probe(worker, connection);
            self.select_connected_without_probe(filter, cx, connector)?
        } else {
            (worker, connection)
        };
        // Each round flags one more, unless a user's balancer picks flagged ones all the same.
        while connector.is_draining(&connection)
            && !worker.endpoint().flags().contains(ExclusionFlags::DRAINING)
        {
            self.set_draining(worker.endpoint(), true);
            // The drain may have ended before that was recorded, and no event would say so again.
            if !connector.is_draining(&connection) {
                self.set_draining(worker.endpoint(), false);
            }
            (worker, connection) = self.select_connected_without_probe(filter, cx, connector)?;
        }
        Ok((worker, connection))
    }

    /// Like [`select_connected`](Self::select_connected), for a call of a method that some workers
    /// reject: selects another worker, except for the one call that probes whether a worker still
    /// rejects.
    ///
    /// If all other workers are backing off because they could not be reached, the first attempt of
    /// a call goes to one that rejects, in rotation. The answer of such a worker is final: the call
    /// does not wait for the others. A worker whose connection was lost is not backing off before
    /// an attempt to connect to it has failed.
    ///
    /// # Errors
    ///
    /// As [`select`](Self::select), and [`SelectError::AllExcluded`] if only workers are left that
    /// the call should not wait for.
    #[cold]
    pub fn select_compatible<C: WorkerConnector>(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
        connector: &C,
        rejections: Rejections<'_>,
    ) -> Result<(Worker, C::Connection), SelectError> {
        let rejecting = rejections.workers;
        let healthy = |node: &NodeInfo| self.select_healthy(filter, node, connector);
        let is_first = cx.excluded().is_empty();
        if is_first && rejections.probe != RejectionProbe::Never {
            let is_repeatable = rejections.probe == RejectionProbe::WhenDue;
            if let Some(picked) = rejecting.claim_probe(rejections.now, is_repeatable, healthy) {
                return Ok(picked);
            }
        }
        let incompatible = cx.with_incompatible(rejecting.ids());
        let compatible = self.select_connected(filter, &incompatible, connector);
        if let Ok((worker, connection)) = &compatible {
            if !is_backing_off(worker.endpoint()) || connector.is_ready(connection) {
                return compatible;
            }
            let other = self.select_past_backing_off(filter, &incompatible, connector);
            if let Some(other) = other {
                return Ok(other);
            }
        }
        // All that can be reached have rejected the method: one is asked again, once, since that
        // may have changed; in rotation, which balancers promise only for one pick a call.
        if is_first {
            let mut rotation = (0..REJECTING_TRIED_MAX).map(|_| rejecting.next_in_rotation());
            return match rotation.find_map(|node| healthy(node)) {
                Some(picked) => Ok(picked),
                None => compatible.or_else(|_| self.select_connected(filter, cx, connector)),
            };
        }
        let has_answer = cx.excluded().iter().any(|id| rejecting.contains(*id));
        compatible.and_then(|picked| match has_answer {
            true => Err(SelectError::AllExcluded {
                filter: filter.unwrap_or_default().to_owned(),
                reachable: self.candidates(filter)?.len(),
            }),
            false => Ok(picked),
        })
    }

    /// A worker that is neither backing off nor draining, where the balancer picked one that backs
    /// off: it prefers these to workers without weight.
    fn select_past_backing_off<C: WorkerConnector>(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
        connector: &C,
    ) -> Option<(Worker, C::Connection)> {
        let is_out = |endpoint: &Endpoint| {
            is_backing_off(endpoint) || endpoint.flags().contains(ExclusionFlags::DRAINING)
        };
        let all = self.candidates(filter).ok()?;
        let (out, others): (Vec<_>, Vec<_>) = all.iter().partition(|one| is_out(one.endpoint()));
        if !others.iter().any(|one| cx.allows_id(one.endpoint_id())) {
            return None;
        }
        let out = out.iter().map(|one| one.endpoint_id());
        let mut incompatible: Vec<_> = out.chain(cx.incompatible().iter().copied()).collect();
        incompatible.sort_unstable();
        let cx = cx.with_incompatible(&incompatible);
        let picked = self.select_connected(filter, &cx, connector).ok()?;
        (!is_out(picked.0.endpoint())).then_some(picked)
    }

    /// The worker of this name, if there is no other reason to pass it over and no need to wait for
    /// a connection.
    fn select_healthy<C: WorkerConnector>(
        &self,
        filter: Option<&str>,
        node: &NodeInfo,
        connector: &C,
    ) -> Option<(Worker, C::Connection)> {
        let worker = self.select_named(filter, &node.id.name).ok()?;
        let connection = connector.connection(&worker);
        let is_healthy = worker.node().state == NodeState::Alive
            && worker.endpoint().flags().is_empty()
            && connector.is_ready(&connection)
            && !connector.is_draining(&connection);
        is_healthy.then_some((worker, connection))
    }

    fn select_connected_without_probe<C: WorkerConnector>(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
        connector: &C,
    ) -> Result<(Worker, C::Connection), SelectError> {
        let worker = self.select_without_probe(filter, cx)?;
        let connection = connector.connection(&worker);
        Ok((worker, connection))
    }
}

/// Whether an attempt to connect to the endpoint has failed a moment ago.
fn is_backing_off(endpoint: &Endpoint) -> bool {
    endpoint.flags().contains(ExclusionFlags::UNREACHABLE) && !endpoint.is_disconnected()
}

/// Limit of the workers that are looked at for one to be asked again, if all rejected a method.
const REJECTING_TRIED_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::HashSet};

    use super::*;
    use crate::{LoadBalancingStrategy, NodeId, StaticMembership, rejections::RejectedMethods};

    /// Connections by the names of workers.
    #[derive(Default)]
    struct Connections {
        ready: HashSet<&'static str>,
        draining: RefCell<HashSet<&'static str>>,
        probed: RefCell<Vec<String>>,
    }

    impl WorkerConnector for Connections {
        type Connection = String;

        fn connection(&self, worker: &Worker) -> String {
            worker.label.to_string()
        }

        fn is_ready(&self, connection: &String) -> bool {
            self.ready.contains(&**connection)
        }

        fn is_draining(&self, connection: &String) -> bool {
            self.draining.borrow().contains(&**connection)
        }

        fn probe(&self, _: Worker, connection: String) {
            self.probed.borrow_mut().push(connection);
        }
    }

    /// Workers of these names, of which the latter ones are connected.
    async fn workers(
        unreachable: &[&'static str],
        ready: &[&'static str],
    ) -> (WorkerRegistry, Connections) {
        let list = StaticMembership::new();
        for name in unreachable.iter().chain(ready) {
            let addr = ([127, 0, 0, 1], 7000).into();
            assert!(list.insert(NodeInfo::new(NodeId::new(*name, 1), addr)));
        }
        let registry = WorkerRegistry::new(list, LoadBalancingStrategy::RoundRobin);
        registry.start().await;
        for name in unreachable {
            let worker = registry.select_named(None, name).expect("it is listed");
            registry.on_unreachable(worker.endpoint());
        }
        let connections = Connections {
            ready: ready.iter().copied().collect(),
            ..Connections::default()
        };
        (registry, connections)
    }

    /// Records that these workers reject the method `"m"`.
    fn reject(registry: &WorkerRegistry, names: &[&str]) -> RejectedMethods {
        let rejected = RejectedMethods::default();
        for name in names {
            let worker = registry.select_named(None, name).expect("it is listed");
            let node = (worker.endpoint_id(), worker.node());
            rejected.record_rejection("m", node, registry.now(), |_| true);
        }
        rejected
    }

    #[tokio::test]
    async fn a_worker_that_says_that_it_drains_is_passed_over_if_there_is_another() {
        let (registry, connections) = workers(&[], &["a", "b"]).await;
        connections.draining.borrow_mut().insert("a");
        let cx = PickContext::new();
        for _ in 0..4 {
            let picked = registry.select_connected(None, &cx, &connections);
            assert_eq!(picked.expect("b").1, "b");
        }
        connections.draining.borrow_mut().insert("b");
        assert!(registry.select_connected(None, &cx, &connections).is_ok());
    }

    /// What a call selects that was tried on these workers.
    fn select(
        registry: &WorkerRegistry,
        connections: &Connections,
        (rejecting, probe): (&RejectingWorkers, RejectionProbe),
        excluded: &[u64],
    ) -> Result<(Worker, String), SelectError> {
        let now = registry.now();
        let cx = PickContext::new().with_excluded(excluded).with_now(now);
        let rejections = Rejections {
            workers: rejecting,
            probe,
            now,
        };
        registry.select_compatible(None, &cx, connections, rejections)
    }

    #[tokio::test]
    async fn workers_that_back_off_are_selected_only_if_none_can_be_reached() {
        let (registry, connections) = workers(&["dead"], &["old", "older"]).await;
        let rejected = reject(&registry, &["old", "older"]);
        let rejecting = rejected.workers_rejecting("m").expect("both");
        let probe = (&*rejecting, RejectionProbe::WhenDue);
        let (asked, _) = select(&registry, &connections, probe, &[]).expect("one that rejects");
        assert!(rejecting.contains(asked.endpoint_id()));
        let none = select(&registry, &connections, probe, &[asked.endpoint_id()]);
        let all_excluded = SelectError::AllExcluded {
            filter: String::new(),
            reachable: 3,
        };
        assert_eq!(none.err(), Some(all_excluded));
        // None has answered, and none can be asked.
        let picked = select(&registry, &Connections::default(), probe, &[]);
        assert_eq!(picked.expect("it is connected to").1, "dead");
    }

    #[tokio::test]
    async fn a_worker_whose_connection_was_lost_is_selected_until_the_next_cannot_be_made() {
        let (registry, connections) = workers(&["lost"], &["old"]).await;
        let rejected = reject(&registry, &["old"]);
        let rejecting = rejected.workers_rejecting("m").expect("one");
        let probe = (&*rejecting, RejectionProbe::WhenDue);
        let selected = || {
            select(&registry, &connections, probe, &[])
                .expect("a worker")
                .1
        };
        let worker = registry.select_named(None, "lost").expect("it is listed");
        registry.on_disconnected(worker.endpoint());
        assert_eq!(selected(), "lost");
        registry.on_unreachable(worker.endpoint());
        assert_eq!(selected(), "old");
    }

    #[tokio::test]
    async fn workers_that_back_off_hide_no_other_that_has_the_method() {
        for change in [
            |registry: &WorkerRegistry, new: &Endpoint| registry.on_disconnected(new),
            |_: &WorkerRegistry, new: &Endpoint| new.set_weight(0.0),
        ] {
            let (registry, connections) = workers(&["p", "q", "r"], &["new", "old"]).await;
            let rejected = reject(&registry, &["old"]);
            let rejecting = rejected.workers_rejecting("m").expect("one");
            let [new, old] = ["new", "old"].map(|name| registry.select_named(None, name));
            change(&registry, new.expect("it is listed").endpoint());
            let old = old.expect("it is listed").endpoint_id();
            for excluded in [&[][..], &[old]] {
                for _ in 0..8 {
                    let probe = (&*rejecting, RejectionProbe::Never);
                    let picked = select(&registry, &connections, probe, excluded);
                    assert_eq!(picked.expect("new").1, "new");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_call_goes_to_the_workers_that_have_the_method() {
        let (registry, connections) = workers(&[], &["new", "old"]).await;
        let rejected = reject(&registry, &["old"]);
        let rejecting = rejected.workers_rejecting("m").expect("one");
        for probe in [RejectionProbe::Never, RejectionProbe::WhenOverdue] {
            for _ in 0..4 {
                let picked = select(&registry, &connections, (&rejecting, probe), &[]);
                assert_eq!(picked.expect("new").1, "new");
            }
        }
    }
}
