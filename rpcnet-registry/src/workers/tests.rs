//! Tests of selection by tags, state and load.

use std::{sync::Arc, time::Duration};

use futures::executor::block_on;
use parking_lot::Mutex;
use rpcnet_balance::{Balancer, Outcome, OutcomeKind, PickContext, ReportedLoad, View, from_fn};

use super::{selection_state::FILTERS_MAX, *};
use crate::{
    ClusterEvent, Events, NodeId, NodeInfo, NodeState, Observer, SelectError, StaticMembership,
    Tags,
};

fn node(name: &str, epoch: u64, tags: &[(&str, &str)]) -> NodeInfo {
    let tags: Tags = tags.iter().copied().collect();
    NodeInfo::new(NodeId::new(name, epoch), ([127, 0, 0, 1], 7000).into()).with_tags(tags)
}

fn worker(name: &str) -> NodeInfo {
    node(name, 1, &[("role", "worker")])
}

fn started(cluster: &StaticMembership, strategy: LoadBalancingStrategy) -> WorkerRegistry {
    let registry = WorkerRegistry::new(cluster.clone(), strategy);
    block_on(registry.start());
    registry
}

/// Three workers and a director.
fn cluster() -> StaticMembership {
    let director = node("director", 1, &[("role", "director")]);
    [worker("a"), worker("b"), worker("c"), director]
        .into_iter()
        .collect()
}

/// The names of the workers of 60 selections.
fn selected(registry: &WorkerRegistry, filter: &str) -> Vec<String> {
    let mut names: Vec<String> = (0..60)
        .filter_map(|_| block_on(registry.select_worker(Some(filter))).ok())
        .map(|worker| worker.id().to_string())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn selection_error(registry: &WorkerRegistry, filter: &str) -> SelectError {
    block_on(registry.select_worker(Some(filter))).expect_err("no worker")
}

const ALL: &[LoadBalancingStrategy] = LoadBalancingStrategy::ALL;

#[test]
fn exactly_the_matching_workers_are_selected() {
    for &strategy in ALL {
        let registry = started(&cluster(), strategy);
        assert_eq!(
            selected(&registry, "role=worker"),
            ["a", "b", "c"],
            "{strategy:?}"
        );
        assert_eq!(selected(&registry, "role!=worker"), ["director"]);
        assert_eq!(selected(&registry, ""), ["a", "b", "c", "director"]);
        assert!(block_on(registry.select_worker(None)).is_ok());
    }
}

#[test]
fn a_node_that_serves_no_methods_is_not_a_worker() {
    let cluster = cluster();
    let gateway = node("gateway", 1, &[(crate::SERVES_TAG, crate::SERVES_NOTHING)]);
    assert!(cluster.insert(gateway));
    for &strategy in ALL {
        let registry = started(&cluster, strategy);
        assert_eq!(selected(&registry, ""), ["a", "b", "c", "director"]);
        let all = registry.workers(None).unwrap();
        assert!(all.iter().all(|one| &*one.label != "gateway"));
        assert!(registry.node("gateway").is_none());
        assert_eq!(registry.select_all(None).unwrap().len(), 4);
    }
    // It may begin to serve, and stop.
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    cluster.insert(node("gateway", 1, &[]));
    assert_eq!(selected(&registry, "").len(), 5);
    cluster.insert(node(
        "gateway",
        1,
        &[(crate::SERVES_TAG, crate::SERVES_NOTHING)],
    ));
    assert_eq!(selected(&registry, "").len(), 4);
}

#[test]
fn a_candidate_counts_no_call_before_begin() {
    let registry = started(&cluster(), LoadBalancingStrategy::RoundRobin);
    let all = registry.candidates(Some("role=worker")).unwrap();
    let in_flight = || {
        let all = registry.workers(Some("role=worker")).unwrap();
        all.iter().map(|one| one.in_flight).collect::<Vec<_>>()
    };
    assert_eq!((all.len(), in_flight()), (3, vec![0, 0, 0]));
    let call = all[1].begin();
    assert_eq!(
        (call.id(), call.endpoint_id()),
        (all[1].id(), all[1].endpoint_id())
    );
    assert_eq!(in_flight(), [0, 1, 0]);
    drop(call);
    assert_eq!(in_flight(), [0, 0, 0]);
}

#[test]
fn a_worker_is_selected_by_name_if_it_matches() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    let worker = registry.select_named(Some("role=worker"), "b").unwrap();
    assert_eq!((&*worker.id().name, worker.in_flight()), ("b", 1));
    let found = |name| registry.select_named(Some("role=worker"), name).is_ok();
    assert!(found("a") && !found("director") && !found("d"));
    cluster.fail("a");
    assert!(!found("a"));
}

#[test]
fn a_selection_by_name_says_why_it_failed() {
    let cluster = cluster();
    cluster.insert(node("Mixed", 1, &[]).with_local(true));
    cluster.insert(node(
        "gateway",
        1,
        &[(crate::SERVES_TAG, crate::SERVES_NOTHING)],
    ));
    for (name, state) in [("failed", NodeState::Failed), ("left", NodeState::Left)] {
        cluster.insert(node(name, 1, &[("role", "worker")]).with_state(state));
    }
    let registry = WorkerRegistry::new(cluster, LoadBalancingStrategy::RoundRobin);
    let error = |name| {
        let error = registry.select_named(Some("role!=director"), name);
        let error = error.expect_err(name);
        (error.to_string(), error.is_retryable())
    };
    assert_eq!(error("a").0, "the worker registry was not started");
    block_on(registry.start());
    let similar = "no node has this name; a similar name exists:";
    for (name, reason, is_retryable) in [
        ("z", "no node has this name", true),
        ("A", &format!("{similar} \"a\""), false),
        (" b.", &format!("{similar} \"b\""), false),
        ("mixed", &format!("{similar} \"Mixed\""), false),
        ("director", "its tags do not match `role!=director`", true),
        ("failed", "it is not reachable (state: failed)", true),
        ("left", "it is not reachable (state: left)", true),
        ("gateway", "it serves no methods", true),
        (
            "Mixed",
            "it is the local node, which the settings of the registry exclude",
            false,
        ),
    ] {
        let text = format!("the worker {name:?} cannot be selected: {reason}");
        assert_eq!(error(name), (text, is_retryable));
    }
}

#[test]
fn failed_and_leaving_workers_are_not_selected() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    assert_eq!(selected(&registry, "role=worker"), ["a", "b", "c"]);
    cluster.fail("a");
    assert_eq!(selected(&registry, "role=worker"), ["b", "c"]);
    cluster.drain("b");
    assert_eq!(selected(&registry, "role=worker"), ["c"]);
    cluster.remove("c");
    assert_eq!(
        selection_error(&registry, "role=worker"),
        SelectError::NoneReachable {
            filter: "role=worker".into(),
            matching: 2
        }
    );
    cluster.recover("a");
    assert_eq!(selected(&registry, "role=worker"), ["a"]);
}

#[test]
fn a_suspect_takes_calls_only_when_no_alive_one_is_left() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::LeastConnections);
    cluster.suspect("a", 9.0);
    assert_eq!(selected(&registry, "role=worker"), ["b", "c"]);

    let tried: Vec<u64> = ["b", "c"].map(|name| id_of(&registry, name)).into();
    let cx = PickContext::new().with_excluded(&tried);
    let worker = registry.select(Some("role=worker"), &cx).unwrap();
    assert_eq!(worker.id().to_string(), "a");
    assert_eq!(worker.node().phi, Some(9.0));

    cluster.fail("b");
    cluster.fail("c");
    assert_eq!(selected(&registry, "role=worker"), ["a"]);
}

#[test]
fn a_balancer_sees_which_workers_are_slow() {
    let cluster = cluster();
    let prompt_ones_first = from_fn(|view, cx| {
        let allowed = (0..view.len()).filter(|&index| cx.allows(&view[index]));
        allowed.min_by_key(|&index| view[index].is_slow())
    });
    let registry = WorkerRegistry::with_balancer(cluster.clone(), Arc::new(prompt_ones_first));
    block_on(registry.start());
    let pick = || {
        let worker = block_on(registry.select_worker(Some("role=worker"))).unwrap();
        (
            worker.label.to_string(),
            worker.is_slow(),
            worker.node().is_slow,
        )
    };
    assert_eq!(pick(), ("a".to_owned(), false, false));
    cluster.slow("a");
    assert_eq!(pick(), ("b".to_owned(), false, false));
    // It is better than none.
    cluster.slow("b");
    cluster.slow("c");
    assert_eq!(pick(), ("a".to_owned(), true, true));
    cluster.responsive("a");
    assert_eq!(pick(), ("a".to_owned(), false, false));
}

fn id_of(registry: &WorkerRegistry, name: &str) -> u64 {
    let all = registry.select_all(None).unwrap();
    all.iter()
        .find(|worker| worker.id().name.as_ref() == name)
        .unwrap()
        .endpoint_id()
}

#[test]
fn errors_say_why_no_worker_was_selected() {
    let cluster = cluster();
    let registry = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::default());
    assert_eq!(
        selection_error(&registry, "role=worker"),
        SelectError::NotStarted
    );
    block_on(registry.start());

    let error = selection_error(&registry, "role=cook");
    assert_eq!(
        error,
        SelectError::NoMatch {
            filter: "role=cook".into()
        }
    );
    assert_eq!(error.to_string(), "there is no worker matching `role=cook`");

    let error = selection_error(&registry, "role=");
    assert!(matches!(&error, SelectError::InvalidFilter(error) if error.position() == 5));
    assert!(!error.is_retryable());

    let all: Vec<u64> = registry
        .select_all(None)
        .unwrap()
        .iter()
        .map(Worker::endpoint_id)
        .collect();
    let cx = PickContext::new().with_excluded(&all);
    let error = registry.select(Some("role=worker"), &cx).unwrap_err();
    assert_eq!(
        error,
        SelectError::AllExcluded {
            filter: "role=worker".into(),
            reachable: 3
        }
    );

    for name in ["a", "b", "c"] {
        cluster.fail(name);
    }
    let error = selection_error(&registry, "role=worker");
    assert_eq!(
        error.to_string(),
        "none of 3 workers matching `role=worker` is reachable"
    );
    assert!(registry.select_all(Some("role=worker")).is_err());
    assert!(error.is_retryable());

    cluster.remove("director");
    assert_eq!(
        selection_error(&registry, "role=director"),
        SelectError::NoMatch {
            filter: "role=director".into()
        }
    );
}

#[test]
fn calls_in_flight_survive_every_change_but_a_restart() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::LeastConnections);
    let in_flight = |name: &str| {
        let workers = registry.workers(Some("role=worker")).unwrap();
        workers
            .iter()
            .find(|one| one.node.id.name.as_ref() == name)
            .map(|one| one.in_flight)
    };
    let calls: Vec<Worker> = (0..6)
        .map(|_| block_on(registry.select_worker(Some("role=worker"))).unwrap())
        .collect();
    assert_eq!(["a", "b", "c"].map(in_flight), [Some(2); 3]);

    cluster.set_tags("a", Tags::from([("role", "worker"), ("zone", "eu-1")]));
    cluster.suspect("b", 8.0);
    cluster.recover("b");
    cluster.fail("c");
    cluster.recover("c");
    assert_eq!(["a", "b", "c"].map(in_flight), [Some(2); 3]);
    // Another filter sees the same load.
    let worker = block_on(registry.select_worker(Some("zone=eu-1"))).unwrap();
    assert_eq!(worker.in_flight(), 3);
    drop(worker);

    cluster.insert(node("a", 2, &[("role", "worker")]));
    assert_eq!(["a", "b", "c"].map(in_flight), [Some(0), Some(2), Some(2)]);
    drop(calls);
    assert_eq!(["a", "b", "c"].map(in_flight), [Some(0); 3]);
}

#[test]
fn late_events_of_a_former_process_are_ignored() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    let mut restarted = node("a", 2, &[("role", "worker")]);
    restarted.addr = ([127, 0, 0, 1], 9000).into();
    cluster.insert(restarted);
    registry
        .selection_state
        .on_event(ClusterEvent::NodeFailed(Arc::new(worker("a"))));
    assert_eq!(selected(&registry, "role=worker"), ["a", "b", "c"]);
    let workers = registry.select_all(Some("role=worker")).unwrap();
    assert_eq!(workers[0].addr.port(), 9000);
}

#[test]
fn changed_tags_move_a_worker_from_one_filter_to_another() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::Random);
    assert_eq!(selected(&registry, "zone=eu-1"), [""; 0]);
    cluster.set_tags("b", Tags::from([("zone", "eu-1"), ("label", "Berlin")]));
    assert_eq!(selected(&registry, "zone=eu-1"), ["b"]);
    assert_eq!(selected(&registry, "role=worker"), ["a", "c"]);
    let worker = block_on(registry.select_worker(Some("zone=eu-1"))).unwrap();
    assert_eq!(
        (&*worker.label, worker.tags().value("zone")),
        ("Berlin", Some("eu-1"))
    );
}

#[test]
fn the_local_node_is_selected_only_if_allowed() {
    let cluster = cluster();
    cluster.insert(worker("me").with_local(true));
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    assert_eq!(selected(&registry, "role=worker"), ["a", "b", "c"]);
    assert_eq!(registry.workers(None).unwrap().len(), 4);
    let registry = registry.with_local(true);
    assert_eq!(selected(&registry, "role=worker"), ["a", "b", "c", "me"]);
}

#[test]
fn a_snapshot_replaces_all_nodes() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    let mut events = registry.subscribe();
    let call = block_on(registry.select_worker(Some("role=worker"))).unwrap();
    let name = call.id().to_string();
    let survivor = NodeInfo::clone(call.node()).with_state(NodeState::Suspect);
    registry
        .selection_state
        .on_snapshot(vec![survivor, worker("new")]);

    assert_eq!(selected(&registry, "role=worker"), ["new"]);
    let workers = registry.workers(None).unwrap();
    let survivor = workers
        .iter()
        .find(|one| one.node.id.name.as_ref() == name)
        .unwrap();
    assert_eq!(survivor.in_flight, 1);
    let mut reported: Vec<String> = std::iter::from_fn(|| events.try_recv())
        .map(|event| match event {
            ClusterEvent::NodeLeft(_) => "left".into(),
            ClusterEvent::NodeSuspect { .. } => "suspect".into(),
            ClusterEvent::NodeJoined(node) => format!("{node} joined", node = node.id),
            other => panic!("{other:?}"),
        })
        .collect();
    reported.sort();
    assert_eq!(reported, ["left", "left", "left", "new joined", "suspect"]);
}

#[test]
fn selection_includes_an_event_before_subscribers_receive_it() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    let mut events = registry.subscribe();
    cluster.fail("a");
    assert!(matches!(
        block_on(events.recv()),
        Some(ClusterEvent::NodeFailed(_))
    ));
    assert_eq!(selected(&registry, "role=worker"), ["b", "c"]);
    drop(registry);
    assert!(block_on(events.recv()).is_none());
}

#[test]
fn filters_in_use_are_not_evicted() {
    let registry = started(&cluster(), LoadBalancingStrategy::RoundRobin);
    let hot = "role=worker";
    for index in 0..4 * FILTERS_MAX {
        assert!(block_on(registry.select_worker(Some(hot))).is_ok());
        assert!(block_on(registry.select_worker(Some(&format!("!tag-{index}")))).is_ok());
        let selection = registry.selection_state.selection.load();
        assert!(selection.groups.len() <= FILTERS_MAX);
    }
}

#[test]
fn the_filters_that_are_evicted_among_used_ones_are_not_always_the_same() {
    let registry = started(&cluster(), LoadBalancingStrategy::RoundRobin);
    assert!(block_on(registry.select_worker(None)).is_ok());
    for index in 0..4 * FILTERS_MAX {
        // All are used.
        let selection = registry.selection_state.selection.load_full();
        for group in selection.groups.values() {
            group.build_state.mark_used();
        }
        assert!(selection.groups.contains_key(""), "the least text, {index}");
        assert!(block_on(registry.select_worker(Some(&format!("!tag-{index:05}")))).is_ok());
    }
}

#[test]
fn node_finds_a_worker_by_name_in_any_state() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    for name in ["a", "b", "c", "director"] {
        let node = registry.node(name).expect("a worker");
        assert_eq!((&*node.id.name, node.state), (name, NodeState::Alive));
    }
    assert!(registry.node("unknown").is_none());
    cluster.fail("b");
    assert_eq!(registry.node("b").unwrap().state, NodeState::Failed);
    cluster.insert(node("b", 7, &[]));
    assert_eq!(registry.node("b").unwrap().id, NodeId::new("b", 7));
}

#[test]
fn reported_load_is_visible_at_the_next_pick() {
    let by_report = from_fn(|view, cx| {
        (0..view.len())
            .filter(|&index| cx.allows(&view[index]))
            .min_by_key(|&index| view[index].reported_load().map(|load| load.in_flight))
    });
    let registry = WorkerRegistry::with_balancer(cluster(), Arc::new(by_report));
    block_on(registry.start());
    let report = |worker: &Worker, calls| {
        let load = ReportedLoad::new().with_in_flight(calls);
        let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO);
        worker.report(&outcome.with_reported_load(Some(load)));
    };
    let select = |filter| block_on(registry.select_worker(Some(filter))).unwrap();
    for calls in [30, 10, 20] {
        report(&select("role=worker"), calls);
    }
    let least = select("role=worker");
    assert_eq!(&*least.label, "b");
    // The same under another filter, and until it reports something else.
    assert_eq!(&*select("role").label, "director");
    report(&select("role"), 40);
    assert_eq!(&*select("role").label, "b");
    report(&least, 25);
    assert_eq!(&*select("role=worker").label, "c");
}

#[test]
fn outcomes_reach_the_balancer_and_an_invalid_index_is_ignored() {
    #[derive(Debug, Default)]
    struct Listening(Mutex<Vec<(u64, OutcomeKind)>>);

    impl Balancer for Listening {
        fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
            view.endpoints()
                .iter()
                .position(|endpoint| cx.allows(endpoint))
        }

        fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
            self.0.lock().push((view[index].id(), outcome.kind));
        }
    }

    let balancer = Arc::new(Listening::default());
    let registry = WorkerRegistry::with_balancer(cluster(), Arc::clone(&balancer) as Arc<_>);
    block_on(registry.start());
    let worker = block_on(registry.select_worker(Some("role=worker"))).unwrap();
    worker.report(&Outcome::new(
        OutcomeKind::Overloaded,
        Duration::from_millis(1),
    ));
    assert_eq!(
        *balancer.0.lock(),
        [(worker.endpoint_id(), OutcomeKind::Overloaded)]
    );

    let invalid = Arc::new(from_fn(|view, _| Some(view.len() + 7)));
    let registry = WorkerRegistry::with_balancer(cluster(), invalid);
    block_on(registry.start());
    assert!(matches!(
        selection_error(&registry, ""),
        SelectError::AllExcluded { reachable: 4, .. }
    ));
}

#[test]
fn selections_on_many_threads_include_every_change() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::LeastConnections);
    std::thread::scope(|scope| {
        let selecting: Vec<_> = (0..3)
            .map(|thread| {
                let registry = &registry;
                scope.spawn(move || {
                    for round in 0..2000 {
                        // Filters that are known, and some that are not yet.
                        let filter = format!("role=worker,!tag-{}", (round * thread) % 300);
                        let worker = block_on(registry.select_worker(Some(&filter)));
                        assert_ne!(worker.expect("two are there").label.as_ref(), "director");
                    }
                })
            })
            .collect();
        while !selecting.iter().all(|thread| thread.is_finished()) {
            for name in ["a", "b", "c"] {
                cluster.fail(name);
                let left = registry.select_all(Some("role=worker")).unwrap();
                assert!(left.len() == 2 && left.iter().all(|one| one.id().name.as_ref() != name));
                cluster.recover(name);
            }
        }
    });
    assert!(
        registry
            .workers(None)
            .unwrap()
            .iter()
            .all(|worker| worker.in_flight == 0)
    );
}

#[test]
fn a_worker_is_send_and_sync() {
    fn sendable<T: Send + Sync + 'static>() {}
    sendable::<Worker>();
    sendable::<WorkerRegistry>();
}

mod changes;
mod clock;
mod groups;
mod health;
mod methods;
mod weights;
