//! Tests of passive health: flagged workers and their recovery.

use rpcnet_balance::{
    BackoffRange, ExclusionFlags, Time,
    health::{EjectionReason, HealthConfig, OutlierConfig},
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Unreachable workers are avoided for 60 s, with a jitter of a fifth.
fn slow_return() -> HealthConfig {
    HealthConfig::new().with_unreachable_backoff(BackoffRange::constant(60 * SECOND))
}

fn watched(config: HealthConfig) -> (StaticMembership, WorkerRegistry) {
    let cluster = cluster();
    let registry = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
    let registry = registry.with_health(config);
    block_on(registry.start());
    (cluster, registry)
}

fn named(registry: &WorkerRegistry, name: &str) -> Worker {
    let all = registry.select_all(Some("role=worker")).unwrap();
    let found = all.into_iter().find(|one| &*one.id().name == name);
    found.expect("a worker")
}

/// The names picked in six selections.
fn picked(registry: &WorkerRegistry, now: Time) -> Vec<String> {
    let cx = PickContext::new().with_now(now);
    let mut names: Vec<String> = (0..6)
        .map(|_| registry.select(Some("role=worker"), &cx).unwrap())
        .map(|worker| worker.id().to_string())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn fail(worker: &Worker, kind: OutcomeKind, times: usize) {
    let outcome = Outcome::new(kind, Duration::ZERO);
    (0..times).for_each(|_| worker.report(&outcome));
}

fn reported(events: &mut HealthEvents) -> Vec<String> {
    std::iter::from_fn(|| events.try_recv())
        .map(|event| match event {
            HealthEvent::NodeUnreachable { node, failures, .. } => {
                format!("{} unreachable {failures}", node.id)
            }
            HealthEvent::NodeReachable(node) => format!("{} reachable", node.id),
            HealthEvent::NodeEjected { node, reason, .. } => {
                format!("{} ejected: {reason}", node.id)
            }
            HealthEvent::NodeUnejected(node) => format!("{} unejected", node.id),
            HealthEvent::NodeDraining(node) => format!("{} drains", node.id),
            HealthEvent::NodeResumed(node) => format!("{} resumed", node.id),
            HealthEvent::PanicBegan {
                filter,
                healthy,
                total: of,
            } => format!("panic in {filter}: {healthy} of {of}"),
            HealthEvent::PanicEnded { filter, .. } => format!("no panic in {filter}"),
            HealthEvent::Lagged(missed) => format!("missed {missed}"),
        })
        .collect()
}

#[test]
fn an_unreachable_worker_is_avoided_until_a_probe_succeeds() {
    let (_cluster, registry) = watched(slow_return());
    let mut events = registry.subscribe_health();
    fail(&named(&registry, "b"), OutcomeKind::Unreachable, 3);
    assert_eq!(picked(&registry, registry.now()), ["a", "c"]);
    assert_eq!(reported(&mut events), ["b unreachable 1"]);
    let status = registry.workers(Some("role=worker")).unwrap();
    assert_eq!(status[1].flags, ExclusionFlags::UNREACHABLE);

    // Its time is over: one call goes there, whatever the balancer picks; the others wait for its
    // outcome.
    let later = registry.now() + 72 * SECOND;
    let cx = PickContext::new().with_now(later);
    let b = registry.endpoint_id_of("b");
    let excluded = [b];
    let without = registry.select(Some("role=worker"), &cx.with_excluded(&excluded));
    assert!(!without.unwrap().is_probe(), "it was tried already");
    let none = registry.select_without_probe(Some("role=worker"), &cx);
    assert!(!none.unwrap().is_probe());
    let probe = registry.select(Some("role=worker"), &cx).unwrap();
    assert!(probe.is_probe() && probe.endpoint_id() == b);
    assert_eq!(picked(&registry, later), ["a", "c"]);
    // Given up without an outcome: the next call is the probe.
    drop(probe);
    let probe = registry.select(Some("role=worker"), &cx).unwrap();
    assert!(probe.is_probe() && probe.endpoint_id() == b);
    fail(&probe, OutcomeKind::Success, 1);
    drop(probe);
    assert_eq!(picked(&registry, later), ["a", "b", "c"]);
    assert_eq!(reported(&mut events), ["b reachable"]);
    let stats = registry.health_stats();
    assert_eq!((stats.flagged_unreachable, stats.probes), (1, 2));
}

#[test]
fn a_cluster_update_clears_the_unreachable_flag() {
    let (cluster, registry) = watched(slow_return());
    let tags = Tags::from([("role", "worker"), ("news", "yes")]);
    fail(&named(&registry, "a"), OutcomeKind::Unreachable, 1);
    registry.set_draining(named(&registry, "a").endpoint(), true);
    assert_eq!(picked(&registry, registry.now()), ["b", "c"]);
    assert!(cluster.set_tags("a", tags));
    assert_eq!(picked(&registry, registry.now()), ["a", "b", "c"]);
    // Another process of the same name is another endpoint.
    fail(&named(&registry, "a"), OutcomeKind::Unreachable, 1);
    cluster.insert(node("a", 2, &[("role", "worker")]));
    assert_eq!(picked(&registry, registry.now()), ["a", "b", "c"]);
    // That it is slow does not make it reachable.
    fail(&named(&registry, "a"), OutcomeKind::Unreachable, 1);
    cluster.slow("a");
    assert_eq!(picked(&registry, registry.now()), ["b", "c"]);
}

/// A node that says, through other nodes, that it is alive says nothing about the connection to it.
#[test]
fn a_refuted_suspicion_clears_no_flags() {
    let (cluster, registry) = watched(slow_return());
    let mut events = registry.subscribe_health();
    fail(&named(&registry, "a"), OutcomeKind::Unreachable, 1);
    for _ in 0..20 {
        cluster.suspect("a", 8.0);
        cluster.recover("a");
        assert_eq!(picked(&registry, registry.now()), ["b", "c"]);
    }
    assert_eq!(reported(&mut events), ["a unreachable 1"]);
    // After a failure, the next call probes it, and its flags are cleared when that succeeds.
    cluster.fail("a");
    cluster.recover("a");
    let cx = PickContext::new().with_now(registry.now());
    let probe = registry.select(Some("role=worker"), &cx).unwrap();
    assert!(probe.is_probe() && &*probe.id().name == "a");
    assert_eq!(picked(&registry, registry.now()), ["b", "c"]);
    fail(&probe, OutcomeKind::Unreachable, 1);
    assert_eq!(reported(&mut events), ["a unreachable 2"]);
    drop(probe);
    assert_eq!(picked(&registry, registry.now()), ["b", "c"]);
}

#[test]
fn an_unreachable_node_is_avoided_while_there_are_others() {
    for trusting in [false, true] {
        let cluster = cluster();
        let mut registry = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
        if trusting {
            // It is no suspicion.
            registry = registry.without_suspicion();
        }
        block_on(registry.start());
        assert!(cluster.unreachable("a"));
        assert_eq!(picked(&registry, registry.now()), ["b", "c"]);
        cluster.fail("b");
        cluster.fail("c");
        assert_eq!(picked(&registry, registry.now()), ["a"]);
        cluster.recover("b");
        cluster.reachable("a");
        assert_eq!(picked(&registry, registry.now()), ["a", "b"]);
    }
}

#[test]
fn a_flagged_worker_is_better_than_none_and_a_draining_one_the_last() {
    let (_cluster, registry) = watched(slow_return());
    let select = |excluded: &[u64]| {
        let cx = PickContext::new().with_excluded(excluded);
        let worker = registry.select(Some("role=worker"), &cx).unwrap();
        worker.id().to_string()
    };
    fail(&named(&registry, "a"), OutcomeKind::Failure, 5);
    fail(&named(&registry, "b"), OutcomeKind::Unreachable, 1);
    registry.set_draining(named(&registry, "c").endpoint(), true);
    let [a, b, c] = ["a", "b", "c"].map(|name| registry.endpoint_id_of(name));
    for _ in 0..5 {
        assert_eq!(select(&[]), "a", "it fails at times");
        assert_eq!(select(&[a]), "b", "it may be back");
        assert_eq!(select(&[a, b]), "c", "it rejects");
    }
    let cx = PickContext::new();
    let all = [a, b, c];
    let error = registry.select(Some("role=worker"), &cx.with_excluded(&all));
    assert!(matches!(
        error,
        Err(SelectError::AllExcluded { reachable: 3, .. })
    ));
}

#[test]
fn a_suspect_without_flags_comes_before_an_alive_one_with_flags() {
    let (cluster, registry) = watched(slow_return());
    cluster.suspect("c", 8.0);
    for name in ["a", "b"] {
        fail(&named(&registry, name), OutcomeKind::Unreachable, 1);
    }
    assert_eq!(picked(&registry, registry.now()), ["c"]);
}

#[test]
fn failures_eject_and_panic_mode_ignores_ejections() {
    let config = OutlierConfig::new().with_ejected_percent_max(100);
    let (_cluster, registry) = watched(config.into());
    let mut events = registry.subscribe_health();
    fail(&named(&registry, "a"), OutcomeKind::Failure, 5);
    assert_eq!(picked(&registry, registry.now()), ["b", "c"]);
    fail(&named(&registry, "b"), OutcomeKind::Failure, 5);
    assert_eq!(picked(&registry, registry.now()), ["a", "b", "c"]);
    assert_eq!(
        reported(&mut events),
        [
            "a ejected: 5 consecutive failures",
            "b ejected: 5 consecutive failures",
            "panic in role=worker: 1 of 3"
        ]
    );
    // Among the workers of another filter they are not the majority.
    let all = registry.select(None, &PickContext::new()).unwrap();
    assert!(["c", "director"].contains(&&*all.id().name));
    let cx = PickContext::new().with_now(registry.now() + 31 * SECOND);
    let probe = registry.select(Some("role=worker"), &cx).unwrap();
    assert!(probe.is_probe());
    fail(&probe, OutcomeKind::Success, 1);
    assert_eq!(picked(&registry, registry.now()).len(), 2);
    let reported = reported(&mut events);
    assert!(reported[0].ends_with("unejected"), "{reported:?}");
    assert_eq!(reported[1], "no panic in role=worker");
}

#[test]
fn panic_mode_ends_when_the_failed_workers_are_gone() {
    let config = OutlierConfig::new().with_ejected_percent_max(100);
    let (cluster, registry) = watched(config.into());
    let mut events = registry.subscribe_health();
    for name in ["a", "b"] {
        fail(&named(&registry, name), OutcomeKind::Failure, 5);
    }
    picked(&registry, registry.now());
    cluster.insert(node(
        "director",
        1,
        &[("role", "director"), ("news", "yes")],
    ));
    picked(&registry, registry.now());
    assert!(cluster.remove("a"));
    assert_eq!(picked(&registry, registry.now()), ["c"]);
    let reported = reported(&mut events);
    assert_eq!(reported[2], "panic in role=worker: 1 of 3");
    assert_eq!(reported[3..], ["no panic in role=worker"]);
    assert_eq!(registry.health_stats().panics, 1);
}

#[test]
fn outcomes_of_a_former_process_do_not_affect_its_successor() {
    let (cluster, registry) = watched(HealthConfig::new());
    let mut events = registry.subscribe_health();
    let former = named(&registry, "a");
    cluster.insert(node("a", 2, &[("role", "worker")]));
    fail(&former, OutcomeKind::Unreachable, 1);
    fail(&former, OutcomeKind::Failure, 5);
    assert_eq!(reported(&mut events), [""; 0]);
    assert_eq!(picked(&registry, registry.now()), ["a", "b", "c"]);
    let flags = named(&registry, "a").endpoint().flags();
    assert_eq!(flags, ExclusionFlags::NONE);
}

#[test]
fn a_load_reported_without_a_time_is_of_now() {
    let (_cluster, registry) = watched(HealthConfig::new());
    let worker = named(&registry, "a");
    let busy = ReportedLoad::new().with_busy(true);
    let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO);
    worker.report(&outcome.with_reported_load(Some(busy)));
    assert_eq!(
        worker.endpoint().recent_reported_load(registry.now()),
        Some(busy)
    );
    let later = registry.now() + 2 * SECOND;
    assert_eq!(worker.endpoint().recent_reported_load(later), None);
}

#[test]
fn a_recovered_worker_may_start_slowly() {
    let (_cluster, registry) = watched(slow_return());
    let worker = named(&registry, "a");
    let endpoint = worker.endpoint();
    let before = registry.now();
    registry.on_unreachable(endpoint);
    assert_eq!(endpoint.ready_since(), None);
    registry.on_reachable(endpoint);
    let reached = endpoint.ready_since().expect("a time");
    assert!(reached >= before);
    registry.set_draining(endpoint, true);
    let before = registry.now();
    registry.set_draining(endpoint, false);
    assert!(endpoint.ready_since().expect("a time") >= before);
}

#[test]
fn without_suspicion_ignores_suspicion() {
    let cluster = cluster();
    let registry = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin)
        .without_suspicion()
        .with_health(slow_return());
    block_on(registry.start());
    cluster.suspect("a", 9.0);
    assert_eq!(picked(&registry, registry.now()), ["a", "b", "c"]);
    fail(&named(&registry, "a"), OutcomeKind::Unreachable, 1);
    assert_eq!(picked(&registry, registry.now()), ["b", "c"]);
}

#[test]
fn success_rates_are_compared_after_the_interval() {
    let (cluster, registry) = watched(HealthConfig::new());
    for name in ["d", "e"] {
        cluster.insert(worker(name));
    }
    let mut events = registry.subscribe_health();
    let names = ["a", "b", "c", "d", "e"];
    let began = registry.now();
    let report = |name: &str, kind, now| {
        let outcome = Outcome::new(kind, Duration::ZERO).with_now(now);
        named(&registry, name).report(&outcome);
    };
    for index in 0..200 {
        for name in names {
            let fails = name == "c" && index % 2 == 0;
            let kind = if fails {
                OutcomeKind::Failure
            } else {
                OutcomeKind::Success
            };
            report(name, kind, began);
        }
    }
    assert!(events.try_recv().is_none());
    report("a", OutcomeKind::Success, began + 11 * SECOND);
    let event = events.try_recv().expect("an event");
    let HealthEvent::NodeEjected { node, reason, .. } = event else {
        panic!("{event:?}");
    };
    assert_eq!(&*node.id.name, "c");
    assert!(matches!(reason, EjectionReason::SuccessRate { rate, .. } if rate == 0.5));
    assert_eq!(registry.health_stats().ejected_success_rate, 1);
}

#[test]
fn with_health_off_a_draining_worker_is_still_avoided() {
    let cluster = cluster();
    let registry = WorkerRegistry::new(cluster, LoadBalancingStrategy::RoundRobin).without_health();
    block_on(registry.start());
    fail(&named(&registry, "a"), OutcomeKind::Unreachable, 10);
    fail(&named(&registry, "a"), OutcomeKind::Failure, 10);
    assert_eq!(picked(&registry, registry.now()), ["a", "b", "c"]);
    registry.set_draining(named(&registry, "a").endpoint(), true);
    assert_eq!(picked(&registry, registry.now()), ["b", "c"]);
}

#[test]
fn a_subscriber_that_falls_behind_receives_lagged() {
    let (_cluster, registry) = watched(HealthConfig::new());
    let mut events = registry.subscribe_health();
    let worker = named(&registry, "a");
    for _ in 0..200 {
        registry.set_draining(worker.endpoint(), true);
        registry.set_draining(worker.endpoint(), false);
    }
    assert!(matches!(
        block_on(events.recv()),
        Some(HealthEvent::Lagged(144))
    ));
    assert_eq!(reported(&mut events).len(), 256);
    drop((worker, registry));
    assert!(block_on(events.recv()).is_none());
}

#[test]
fn balancers_see_the_tags() {
    #[derive(Debug)]
    struct Reading(Mutex<Vec<Option<String>>>);

    impl Balancer for Reading {
        fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
            (0..view.len()).find(|&index| cx.allows(&view[index]))
        }

        fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
            let zones = (0..view.len()).map(|index| view.tag(index, "zone"));
            self.0
                .lock()
                .extend(zones.map(|zone| zone.map(String::from)));
            None
        }
    }

    let cluster = cluster();
    cluster.set_tags("b", Tags::from([("role", "worker"), ("zone", "eu-1")]));
    let balancer = Arc::new(Reading(Mutex::default()));
    let registry = WorkerRegistry::with_balancer(cluster, Arc::clone(&balancer) as Arc<_>);
    block_on(registry.start());
    block_on(registry.select_worker(Some("role=worker"))).unwrap();
    assert_eq!(*balancer.0.lock(), [None, Some("eu-1".to_owned()), None]);
}

#[test]
fn an_extension_is_kept_for_as_long_as_its_process() {
    let (cluster, registry) = watched(HealthConfig::new());
    let extension = |made: u32| named(&registry, "a").extension(|| made).copied();
    assert_eq!((extension(1), extension(2)), (Some(1), Some(1)));
    assert_eq!(named(&registry, "a").extension(String::new), None);
    cluster.set_tags("a", Tags::from([("role", "worker"), ("n", "1")]));
    assert_eq!(extension(3), Some(1));
    cluster.insert(node("a", 2, &[("role", "worker")]));
    assert_eq!(extension(4), Some(4));
}

impl WorkerRegistry {
    fn endpoint_id_of(&self, name: &str) -> u64 {
        id_of(self, name)
    }
}
