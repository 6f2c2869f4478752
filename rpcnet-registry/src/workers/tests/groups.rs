//! Tests of groups that a caller keeps, and of replies that it records together.

use std::{collections::VecDeque, thread};

use rpcnet_balance::Time;

use super::*;

fn ms(ms: u64) -> Time {
    Time::from(Duration::from_millis(ms))
}

fn select(group: &WorkerGroup, now: Time) -> Option<Worker> {
    group.select(&PickContext::new().with_now(now))
}

#[test]
fn a_group_is_current_until_a_worker_that_matches_changes() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    let latest = || registry.group(Some("role=worker")).expect("a filter");
    let group = latest();
    assert_eq!(group.tier_sizes(), [3, 0]);
    cluster.insert(node("other", 1, &[("role", "director")]));
    assert!(group.is_current(), "none of the others matters");
    for change in [
        (|cluster: &StaticMembership| assert!(cluster.insert(worker("d")))) as fn(&_),
        |cluster| assert!(cluster.suspect("a", 9.0)),
        |cluster| assert!(cluster.fail("b")),
    ] {
        let group = latest();
        assert!(group.is_current());
        change(&cluster);
        assert!(!group.is_current());
        // Other callers have built the next one.
        assert!(latest().is_current() && !group.is_current());
    }
    let group = latest();
    assert_eq!(group.tier_sizes(), [2, 1]);
    let picked = select(&group, ms(1)).expect("a worker");
    let (tier, index) = group.position(&picked).expect("one of the group");
    assert!(tier == 0 && index < 2);
    assert_eq!(latest().position(&picked), Some((tier, index)));
    let others = registry.group(None).expect("no filter");
    assert_eq!(others.position(&picked), None);
}

#[test]
fn a_group_that_is_no_longer_followed_is_not_current() {
    let cluster = cluster();
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    let group = registry.group(Some("role=worker")).expect("a filter");
    for index in 0..4 * FILTERS_MAX {
        let other = format!("!tag-{index}");
        registry.group(Some(&other)).expect("a filter");
    }
    assert!(!group.is_current(), "it was evicted");
    let group = registry.group(Some("role=worker")).expect("a filter");
    registry
        .selection_state
        .on_event(ClusterEvent::SourceChanged(crate::SourceState::Stopped));
    assert!(!group.is_current());
    let ended = registry.group(Some("role=worker")).expect("a filter");
    assert!(select(&ended, ms(1)).is_none());
}

/// Keeps the outcomes that it is told of.
#[derive(Debug, Default)]
struct Outcomes(Mutex<Vec<(Duration, Option<ReportedLoad>)>>);

impl Balancer for Outcomes {
    fn pick(&self, view: &View, _: &PickContext<'_>) -> Option<usize> {
        (!view.is_empty()).then_some(0)
    }

    fn on_outcome(&self, _: &View, _: usize, outcome: &Outcome) {
        let told = (outcome.latency, outcome.reported_load);
        self.0.lock().push(told);
    }
}

fn registry_with(balancer: &Arc<Outcomes>) -> WorkerRegistry {
    let balancer = Arc::clone(balancer) as Arc<dyn Balancer>;
    let registry = WorkerRegistry::with_balancer(cluster(), balancer);
    block_on(registry.start());
    registry
}

#[test]
fn of_replies_that_are_read_together_the_balancer_is_told_at_once_of_those_that_say_more() {
    let balancer = Arc::new(Outcomes::default());
    let registry = registry_with(&balancer);
    let group = registry.group(Some("role=worker")).expect("a filter");
    let load = |in_flight| Some(ReportedLoad::new().with_in_flight(in_flight));
    let micros = Duration::from_micros;
    let in_flight = select(&group, ms(5)).expect("a worker");
    // When it was read, the method, the latency, the load; and what the balancer is told then:
    // of those before together, and of this one.
    let replies = [
        (ms(5), "m", 30, load(2), Some(&[][..])),
        (ms(5), "m", 20, load(2), None),
        (ms(5), "m", 30, load(2), None),
        (ms(5), "m", 40, load(2), Some(&[25, 25][..])),
        (ms(5), "m", 35, load(2), None),
        (ms(5), "m", 35, load(3), Some(&[35])),
        (ms(5), "other", 10, load(3), Some(&[][..])),
        (ms(6), "other", 10, load(3), Some(&[][..])),
        (ms(6), "other", 9, None, None),
    ];
    for (now, method, latency, load, told) in replies {
        let mut worker = select(&group, now).expect("a worker");
        worker.set_method(method, now);
        worker.report_reply(now, micros(latency), load);
        let before = told.into_iter().flatten().map(|us| (micros(*us), None));
        let this = told.map(|_| (micros(latency), load));
        let expected: Vec<_> = before.chain(this).collect();
        assert_eq!(std::mem::take(&mut *balancer.0.lock()), expected);
    }
    // Before another outcome is recorded, and when no call is in flight.
    in_flight.report(&Outcome::new(OutcomeKind::Failure, micros(1)));
    let told = std::mem::take(&mut *balancer.0.lock());
    assert_eq!(told, [9, 1].map(|us| (micros(us), None)));
    // The first reply after a failure says more, although it took no longer.
    let mut worker = select(&group, ms(6)).expect("a worker");
    worker.set_method("other", ms(6));
    worker.report_reply(ms(6), micros(9), None);
    let told = std::mem::take(&mut *balancer.0.lock());
    assert_eq!(told, [(micros(9), None)]);
    drop(worker);
    let mut pair = [(); 2].map(|()| select(&group, ms(7)).expect("a worker"));
    for worker in &mut pair {
        worker.set_method("m", ms(7));
        worker.report_reply(ms(7), micros(10), None);
    }
    drop(in_flight);
    assert_eq!(balancer.0.lock().len(), 1);
    drop(pair);
    assert_eq!(balancer.0.lock().len(), 2);
    // Those of a call of no method are all told at once.
    let pair = [(); 2].map(|()| select(&group, ms(7)).expect("a worker"));
    for worker in &pair {
        worker.report_reply(ms(7), micros(10), None);
    }
    assert_eq!(balancer.0.lock().len(), 4);
}

#[test]
fn a_balancer_is_told_of_each_success_of_concurrent_calls() {
    let balancer = Arc::new(Outcomes::default());
    let registry = registry_with(&balancer);
    let group = registry.group(Some("role=worker")).expect("a filter");
    let call = |number: u64| {
        // Several threads, at the same times.
        let now = ms(number / 64);
        let mut worker = select(&group, now).expect("a worker");
        worker.set_method("m", now);
        worker.report_reply(now, Duration::from_nanos(number % 7), None);
        worker
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut in_flight = VecDeque::new();
                for number in 0..CALLS {
                    in_flight.push_back(call(number));
                    let others = in_flight.len() > (number % 9) as usize;
                    in_flight.drain(..usize::from(others));
                }
            });
        }
    });
    assert_eq!(balancer.0.lock().len() as u64, THREADS * CALLS);
}

const THREADS: u64 = 4;
const CALLS: u64 = 2000;

#[test]
fn each_reply_makes_the_recorded_failures_fewer() {
    let registry = started(&cluster(), LoadBalancingStrategy::PeakEwma);
    let worker = || {
        let mut worker = registry.select_named(None, "a").expect("it is listed");
        worker.set_method("m", ms(1));
        worker
    };
    let endpoint = Arc::clone(worker().endpoint());
    assert!(!endpoint.has_backoff_record());
    // Each after the backoff of the one before: three in a row.
    for seconds in [1, 2, 4] {
        let failed = Outcome::new(OutcomeKind::Failure, Duration::from_millis(1));
        worker().report(&failed.with_now(ms(1000 * seconds)));
    }
    let reply = || worker().report_reply(ms(60_000), Duration::from_millis(1), None);
    reply();
    assert!(endpoint.has_backoff_record(), "three were halved");
    reply();
    assert!(!endpoint.has_backoff_record(), "and once more");
}
