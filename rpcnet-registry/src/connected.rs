//! Selection of workers that a caller is connected to, except for those that drain, reject the
//! method or are backing off.

use std::borrow::Cow;

use rpcnet_balance::{Endpoint, ExclusionFlags, PickContext, Time};

use crate::{
    NodeInfo, NodeState, SelectError, Worker, WorkerRegistry, rejections::RejectingWorkers,
    schemas::SchemaMismatches,
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

/// Workers that reject the method of a call, or may do so, as far as is known when it is made.
#[derive(Debug, Clone, Copy)]
pub struct Rejections<'a> {
    /// The workers that rejected the method, if any.
    pub workers: Option<&'a RejectingWorkers>,
    /// The workers whose types are not known to fit, if any.
    pub mismatches: Option<&'a SchemaMismatches>,
    /// When the call probes one of them.
    pub probe: RejectionProbe,
    /// The time of the call.
    pub now: Time,
}

impl<'a> Rejections<'a> {
    /// The ids of the workers that reject the method, in ascending order.
    fn ids(&self) -> Cow<'a, [u64]> {
        let incompatible = self.mismatches.map(SchemaMismatches::incompatible_ids);
        merged(self.workers.map(RejectingWorkers::ids), incompatible)
    }

    /// The ids of the workers that reject the method or may do so, in ascending order, if there are
    /// some of which it is not known.
    fn ids_with_unchecked(&self) -> Option<Cow<'a, [u64]>> {
        let mismatches = self.mismatches.filter(|these| these.has_unchecked())?;
        let rejecting = self.workers.map(RejectingWorkers::ids);
        Some(merged(rejecting, Some(mismatches.ids())))
    }

    fn claim_probe<T>(
        &self,
        pick: impl Fn(&NodeInfo) -> Option<(Worker, T)>,
    ) -> Option<(Worker, T)> {
        let is_repeatable = match self.probe {
            RejectionProbe::Never => return None,
            RejectionProbe::WhenDue => true,
            RejectionProbe::WhenOverdue => false,
        };
        let may_fit = |worker: &Worker| {
            let mismatches = self.mismatches;
            mismatches.is_none_or(|these| !these.contains(worker.endpoint_id()))
        };
        let pick = |node: &NodeInfo| pick(node).filter(|(worker, _)| may_fit(worker));
        self.workers?.claim_probe(self.now, is_repeatable, pick)
    }

    /// Some of those that reject the method, in rotation.
    fn in_rotation(&self) -> impl Iterator<Item = &'a NodeInfo> {
        let rejecting = self
            .workers
            .into_iter()
            .flat_map(|workers| (0..REJECTING_TRIED_MAX).map(|_| &**workers.next_in_rotation()));
        let mismatches = self.mismatches.into_iter();
        let incompatible = mismatches.flat_map(|these| {
            (0..REJECTING_TRIED_MAX).filter_map(|_| these.next_in_rotation().map(|node| &**node))
        });
        rejecting.chain(incompatible)
    }
}

/// The union of two lists of ids in ascending order.
fn merged<'a>(first: Option<&'a [u64]>, second: Option<&'a [u64]>) -> Cow<'a, [u64]> {
    let (first, second) = (first.unwrap_or_default(), second.unwrap_or_default());
    if first.is_empty() {
        return Cow::Borrowed(second);
    }
    if second.is_empty() {
        return Cow::Borrowed(first);
    }
    let mut all = [first, second].concat();
    all.sort_unstable();
    Cow::Owned(all)
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
        self.connect_selected(worker, filter, cx, connector)
    }

    /// A worker that was selected for this context, and the connection to it; another one as
    /// [`select_connected`](Self::select_connected) does.
    ///
    /// # Errors
    ///
    /// As [`select`](Self::select).
    pub fn connect_selected<C: WorkerConnector>(
        &self,
        worker: Worker,
        filter: Option<&str>,
        cx: &PickContext<'_>,
        connector: &C,
    ) -> Result<(Worker, C::Connection), SelectError> {
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
    /// rejects. A worker of which it is not known whether its types fit is selected only if no
    /// other worker is left that is alive and without a reason to pass it over.
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
        let healthy = |node: &NodeInfo| self.select_healthy(filter, node, connector);
        let is_first = cx.excluded().is_empty();
        if is_first && let Some(picked) = rejections.claim_probe(healthy) {
            return Ok(picked);
        }
        if let Some(ids) = rejections.ids_with_unchecked() {
            let matching = cx.with_incompatible(&ids);
            let picked = self.select_connected(filter, &matching, connector);
            if let Some(picked) = picked.ok().filter(|(worker, _)| is_usable(worker)) {
                return Ok(picked);
            }
        }
        let ids = rejections.ids();
        let incompatible = cx.with_incompatible(&ids);
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
            return match rejections.in_rotation().find_map(healthy) {
                Some(picked) => Ok(picked),
                None => compatible.or_else(|_| self.select_connected(filter, cx, connector)),
            };
        }
        let rejects = |id: &u64| ids.binary_search(id).is_ok();
        let has_answer = cx.excluded().iter().any(rejects);
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

/// Whether there is no reason to pass the worker over for another.
fn is_usable(worker: &Worker) -> bool {
    let is_healthy =
        worker.node().state == NodeState::Alive && worker.endpoint().flags().is_empty();
    is_healthy || worker.is_probe()
}

/// Limit of the workers that are looked at for one to be asked again, if all rejected a method.
const REJECTING_TRIED_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::HashSet};

    use super::*;
    use crate::{
        LoadBalancingStrategy, NodeId, StaticMembership,
        rejections::RejectedMethods,
        schema_tag::{schema_tag_key, schema_tag_value},
        schemas::{CallerService, Compatibility, ServiceSchemas},
    };

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
            workers: Some(rejecting),
            mismatches: None,
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

    /// Workers of these names that announce these hashes of a service, whose own hash is 0; all are
    /// connected.
    async fn announcing(
        hashes: &[(&'static str, u64)],
    ) -> (StaticMembership, WorkerRegistry, Connections) {
        let list = StaticMembership::new();
        for (name, hash) in hashes {
            let node = NodeInfo::new(NodeId::new(*name, 1), ([127, 0, 0, 1], 7000).into());
            list.insert(node.with_tag(schema_tag_key("s"), schema_tag_value(*hash)));
        }
        let registry = WorkerRegistry::new(list.clone(), LoadBalancingStrategy::RoundRobin);
        registry.start().await;
        let connections = Connections {
            ready: hashes.iter().map(|(name, _)| *name).collect(),
            ..Connections::default()
        };
        (list, registry, connections)
    }

    /// What calls of the method `"m"` select that were tried on these workers.
    fn selected(
        (registry, connections): (&WorkerRegistry, &Connections),
        schemas: &ServiceSchemas,
        rejecting: Option<&RejectingWorkers>,
        excluded: &[u64],
    ) -> HashSet<String> {
        let select = |_| {
            let hash = Some(0);
            let service = || CallerService { name: "s", hash };
            let mismatches = schemas.mismatches(registry, ("m".into(), None), service);
            let rejections = Rejections {
                workers: rejecting,
                mismatches: mismatches.as_deref(),
                probe: RejectionProbe::WhenDue,
                now: registry.now(),
            };
            let cx = PickContext::new().with_excluded(excluded);
            let picked = registry.select_compatible(None, &cx, connections, rejections);
            picked.ok().map(|(_, connection)| connection)
        };
        (0..12).filter_map(select).collect()
    }

    fn learn(registry: &WorkerRegistry, schemas: &ServiceSchemas, name: &str, fits: bool) {
        let node = registry.node(name).expect("it is listed");
        let compatibility = match fits {
            true => Compatibility::Compatible,
            false => Compatibility::Incompatible,
        };
        let (learned, hash) = ((&node, registry.now()), Some(0));
        let called = ("m".into(), CallerService { name: "s", hash });
        let recorded = schemas.record(called, compatibility, learned, |_| true);
        assert_eq!(recorded, Some(true), "{name}");
    }

    fn names<const N: usize>(names: [&str; N]) -> HashSet<String> {
        names.map(str::to_owned).into()
    }

    #[tokio::test]
    async fn workers_of_unknown_types_are_selected_once_they_fit_or_no_other_is_usable() {
        let hashes = [("same", 0), ("one", 1), ("two", 2), ("two-too", 2)];
        let (list, registry, connections) = announcing(&hashes).await;
        let schemas = ServiceSchemas::default();
        let all = (&registry, &connections);
        assert_eq!(selected(all, &schemas, None, &[]), names(["same"]));
        let same = registry.select_named(None, "same").expect("it is listed");
        let id = same.endpoint_id();
        let others = names(["one", "two", "two-too"]);
        let are_others = |selected: HashSet<String>| {
            assert!(
                !selected.is_empty() && selected.is_subset(&others),
                "{selected:?}"
            );
        };
        are_others(selected(all, &schemas, None, &[id]));
        list.suspect("same", 9.0);
        are_others(selected(all, &schemas, None, &[]));
        list.recover("same");
        learn(&registry, &schemas, "one", true);
        assert_eq!(selected(all, &schemas, None, &[]), names(["same", "one"]));
        learn(&registry, &schemas, "two", false);
        list.fail("one");
        assert_eq!(selected(all, &schemas, None, &[]), names(["same"]));
        assert_eq!(
            selected(all, &schemas, None, &[id]),
            names([]),
            "{hashes:?}"
        );
    }

    #[tokio::test]
    async fn a_call_that_all_reject_goes_to_one_of_them_in_rotation_and_not_on() {
        let (_, registry, connections) = announcing(&[("a", 1), ("b", 1), ("c", 2)]).await;
        let schemas = ServiceSchemas::default();
        let all = (&registry, &connections);
        learn(&registry, &schemas, "a", false);
        assert_eq!(selected(all, &schemas, None, &[]), names(["c"]));
        let rejected = reject(&registry, &["c"]);
        let rejecting = rejected.workers_rejecting("m").expect("one");
        let asked = selected(all, &schemas, Some(&rejecting), &[]);
        assert_eq!(
            asked,
            names(["c"]),
            "one that may have changed is asked first"
        );
        learn(&registry, &schemas, "c", false);
        let asked = selected(all, &schemas, None, &[]);
        assert_eq!(asked, names(["a", "b", "c"]));
        let a = registry.select_named(None, "a").expect("it is listed");
        let after = selected(all, &schemas, None, &[a.endpoint_id()]);
        assert_eq!(after, names([]), "the answer is final");
    }
}
