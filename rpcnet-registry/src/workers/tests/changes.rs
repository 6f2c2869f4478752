//! Tests of changes: how often balancers are rebuilt, and what selection does meanwhile.

use std::{
    collections::BTreeSet,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use super::*;

/// A round-robin balancer that counts its rebuilds and their endpoints.
#[derive(Debug, Default)]
struct Counting {
    work: Arc<Work>,
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Work {
    rebuilds: AtomicUsize,
    endpoints: AtomicUsize,
    /// Whether a rebuild waits for another thread, twice: when it begins and before it ends.
    meet: Mutex<Option<Arc<Barrier>>>,
    /// Whether the next rebuild panics.
    panics: AtomicBool,
    /// Notified when a rebuild begins, with the sender that lets it go on.
    hold: Mutex<Option<mpsc::SyncSender<mpsc::SyncSender<()>>>>,
}

impl Balancer for Counting {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut all = (0..view.len()).map(|step| (first + step) % view.len());
        all.find(|&index| cx.allows(&view[index]))
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        let meet = self.work.meet.lock().take();
        if let Some(barrier) = meet {
            barrier.wait();
            barrier.wait();
        }
        let hold = self.work.hold.lock().take();
        if let Some(begun) = hold {
            let (go_on, may_go_on) = mpsc::sync_channel(1);
            begun.send(go_on).expect("the test waits");
            // Not for ever: a caller that waits for this rebuild is to fail the test, not to hang.
            let _ = may_go_on.recv_timeout(HELD_MAX);
        }
        let panics = self.work.panics.swap(false, Ordering::Relaxed);
        assert!(!panics, "a balancer with a fault");
        self.work.rebuilds.fetch_add(1, Ordering::Relaxed);
        self.work.endpoints.fetch_add(view.len(), Ordering::Relaxed);
        Some(Arc::new(Self {
            work: Arc::clone(&self.work),
            turn: AtomicUsize::new(0),
        }))
    }
}

impl Work {
    /// The number of rebuilds since the last time, and of their endpoints.
    fn take(&self) -> (usize, usize) {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
        (take(&self.rebuilds), take(&self.endpoints))
    }
}

fn counting(cluster: &StaticMembership) -> (WorkerRegistry, Arc<Work>) {
    let balancer = Counting::default();
    let work = Arc::clone(&balancer.work);
    let registry = WorkerRegistry::with_balancer(cluster.clone(), Arc::new(balancer));
    block_on(registry.start());
    (registry, work)
}

/// A thousand nodes in ten zones.
fn thousand() -> StaticMembership {
    let member = |index: u64| {
        let zone = format!("{}", index % 10);
        node(&format!("n-{index:03}"), 1, &[("zone", &zone)])
    };
    (0..1000).map(member).collect()
}

fn select(registry: &WorkerRegistry, filter: &str) -> String {
    let worker = block_on(registry.select_worker(Some(filter))).unwrap();
    worker.id().to_string()
}

#[test]
fn events_build_nothing_and_the_next_selection_builds_once() {
    let cluster = thousand();
    let (registry, work) = counting(&cluster);
    let filters: Vec<_> = (0..64).map(|index| format!("!tag-{index}")).collect();
    for filter in &filters {
        select(&registry, filter);
    }
    assert_eq!(work.take(), (64, 64_000));

    for index in 0..200 {
        cluster.fail(&format!("n-{index:03}"));
    }
    assert_eq!(work.take(), (0, 0), "nothing was selected");
    (0..100).for_each(|_| drop(select(&registry, &filters[7])));
    assert_eq!(work.take(), (1, 800), "200 changes are one");
    select(&registry, &filters[8]);
    assert_eq!(work.take(), (1, 800), "each filter when it is used");
}

#[test]
fn only_filters_that_match_before_or_after_are_rebuilt() {
    let cluster = thousand();
    let (registry, work) = counting(&cluster);
    let select_all = || (0..10).for_each(|zone| drop(select(&registry, &format!("zone={zone}"))));
    select_all();
    assert_eq!(work.take(), (10, 1000));
    cluster.fail("n-003");
    select_all();
    assert_eq!(work.take(), (1, 99));
    // From one zone to another.
    cluster.set_tags("n-013", Tags::from([("zone", "4")]));
    select_all();
    assert_eq!(work.take(), (2, 98 + 101));
    cluster.insert(node("new", 1, &[("zone", "none of them")]));
    select_all();
    assert_eq!(work.take(), (0, 0));
}

#[test]
fn changes_that_balancers_ignore_rebuild_no_table() {
    let cluster = thousand();
    let (registry, work) = counting(&cluster);
    select(&registry, "zone=3");
    work.take();
    // Reported, and seen in the worker; but the same endpoints with the same tags.
    cluster.slow("n-003");
    cluster.insert(node("n-013", 1, &[("zone", "3")]).with_incarnation(9));
    let moved = node("n-023", 1, &[("zone", "3")]);
    let moved = NodeInfo {
        addr: ([127, 0, 0, 1], 9000).into(),
        ..moved
    };
    cluster.insert(moved);
    let workers: Vec<_> = (0..100)
        .map(|_| block_on(registry.select_worker(Some("zone=3"))).unwrap())
        .collect();
    assert_eq!(work.take(), (0, 0));
    let named = |name: &str| workers.iter().find(|one| &*one.id().name == name).unwrap();
    assert!(named("n-003").node().is_slow);
    assert_eq!(named("n-013").node().incarnation, 9);
    assert_eq!(named("n-023").addr.port(), 9000);
    // Suspect workers need a table only when they are picked from.
    cluster.suspect("n-003", 8.0);
    select(&registry, "zone=3");
    assert_eq!(work.take(), (1, 99));
}

#[test]
fn concurrent_callers_build_once_and_pick_from_the_previous_view_meanwhile() {
    let cluster = thousand();
    let (registry, work) = counting(&cluster);
    select(&registry, "zone=3");
    work.take();
    let barrier = Arc::new(Barrier::new(2));
    *work.meet.lock() = Some(Arc::clone(&barrier));
    cluster.fail("n-003");
    cluster.insert(node("n-013", 2, &[("zone", "3")]));
    cluster.drain("n-023");
    cluster.remove("n-033");
    thread::scope(|scope| {
        let building = scope.spawn(|| select(&registry, "zone=3"));
        barrier.wait();
        // One builds, and is kept at it for as long as the others select.
        let others: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> Vec<NodeId> {
                    let workers =
                        (0..300).map(|_| block_on(registry.select_worker(Some("zone=3"))));
                    workers.map(|worker| worker.unwrap().id().clone()).collect()
                })
            })
            .collect();
        let joined: Vec<_> = others.into_iter().map(|other| other.join()).collect();
        // Before anything can fail: the one that builds waits for it.
        barrier.wait();
        building.join().expect("a selection");
        let ids = joined.into_iter().flat_map(|ids| ids.expect("a selection"));
        let names: BTreeSet<String> = ids.map(|id| id.to_string()).collect();
        // A worker that is gone is not picked, nor is a former process; a new one is seen when the
        // view is built.
        assert_eq!(names.len(), 96, "{names:?}");
        let gone = ["n-003", "n-013", "n-023", "n-033"];
        assert!(gone.iter().all(|name| !names.contains(*name)), "{names:?}");
    });
    let names: Vec<_> = (0..97).map(|_| select(&registry, "zone=3")).collect();
    assert!(
        names.iter().any(|name| name.starts_with("n-013")),
        "{names:?}"
    );
    assert_eq!(work.take(), (1, 97), "five callers, one table");
}

#[test]
fn a_selection_without_candidates_waits_for_the_rebuild() {
    let cluster: StaticMembership = [worker("a")].into_iter().collect();
    let (registry, work) = counting(&cluster);
    select(&registry, "role=worker");
    work.take();
    let barrier = Arc::new(Barrier::new(2));
    *work.meet.lock() = Some(Arc::clone(&barrier));
    cluster.fail("a");
    cluster.insert(worker("b"));
    thread::scope(|scope| {
        let building = scope.spawn(|| select(&registry, "role=worker"));
        barrier.wait();
        // The previous view has only the one that failed.
        let waiting = scope.spawn(|| select(&registry, "role=worker"));
        let first = scope.spawn(|| select(&registry, "role=worker"));
        barrier.wait();
        for selecting in [building, waiting, first] {
            assert_eq!(selecting.join().expect("a selection"), "b");
        }
    });
    assert_eq!(work.take(), (1, 1));
}

#[test]
fn unused_filters_are_never_rebuilt() {
    let cluster = thousand();
    let (registry, work) = counting(&cluster);
    select(&registry, "zone=1");
    select(&registry, "");
    work.take();
    for round in 0..50 {
        cluster.suspect("n-001", 8.0);
        cluster.recover("n-001");
        cluster.set_tags(
            "n-001",
            Tags::from([("zone", "1"), ("round", &*round.to_string())]),
        );
        select(&registry, "zone=1");
    }
    assert_eq!(
        work.take(),
        (50, 5000),
        "and the one of all is not among them"
    );
}

#[test]
fn a_panic_in_a_rebuild_leaves_the_build_to_the_next_caller() {
    let cluster: StaticMembership = [worker("a")].into_iter().collect();
    let (registry, work) = counting(&cluster);
    let selects = || thread::scope(|scope| scope.spawn(|| select(&registry, "")).join());
    // The first build, and one after a change.
    for (name, expected) in [("a", (1, 1)), ("b", (1, 2))] {
        cluster.insert(worker(name));
        work.panics.store(true, Ordering::Relaxed);
        assert!(selects().is_err(), "the caller that builds hears of it");
        let workers: Vec<_> = (0..4).map(|_| selects().expect("a selection")).collect();
        assert!(workers.iter().any(|one| one == name), "{workers:?}");
        assert_eq!(work.take(), expected);
    }
}

#[test]
fn a_selection_by_name_and_a_list_of_all_wait_for_no_rebuild() {
    let cluster: StaticMembership = [worker("a")].into_iter().collect();
    let (registry, work) = counting(&cluster);
    // During the first build, and during one after a change.
    for (gone, come) in [("", "b"), ("a", "c")] {
        cluster.fail(gone);
        cluster.insert(worker(come));
        let (begun, begins) = mpsc::sync_channel(1);
        *work.hold.lock() = Some(begun);
        thread::scope(|scope| {
            let building = scope.spawn(|| select(&registry, "role=worker"));
            let go_on = begins.recv().expect("a build");
            let filter = Some("role=worker");
            let all = registry.candidates(filter).expect("two workers");
            assert_eq!(all.len(), 2, "with the latest changes: {all:?}");
            let named = registry.select_named(filter, come).expect("a worker");
            assert_eq!(named.in_flight(), 1);
            named.report(&Outcome::new(OutcomeKind::Success, Duration::ZERO));
            assert!(registry.select_named(filter, "a").is_ok() == gone.is_empty());
            assert_eq!(work.take(), (0, 0), "the rebuild is still under way");
            go_on.send(()).expect("the rebuild still waits");
            building.join().expect("a selection");
        });
        assert_eq!(work.take(), (1, 2));
    }
}

/// The longest time that a rebuild is held.
const HELD_MAX: Duration = Duration::from_secs(5);
