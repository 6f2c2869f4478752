//! Tests of the simulator.

use std::{sync::Arc, time::Duration};

use super::{fleet::Fleet, *};
use crate::{Balancer, LeastConnections, PeakEwma, Random, RoundRobin, from_fn};

type BalancerFactory = fn(u64) -> Arc<dyn Balancer>;

const RANDOM: BalancerFactory = |seed| Arc::new(Random::seeded(seed));
const ROUND_ROBIN: BalancerFactory = |seed| Arc::new(RoundRobin::seeded(seed));
const LEAST: BalancerFactory = |seed| Arc::new(LeastConnections::seeded(seed));

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A worker that serves 800 requests a second.
fn worker() -> SimWorker {
    SimWorker::new(ServiceTime::Exponential { mean: ms(10) }).with_concurrency(8)
}

/// A scenario with every kind of change, within four seconds.
fn scenario_with_all_changes() -> FleetScenario {
    let worker = worker().with_cold_start(ms(500), 10.0);
    let workers = [vec![worker; 5], vec![worker.absent()]].concat();
    let load = Load::open(3_000.0).then(ms(3_000), 6_000.0);
    FleetScenario::new(workers, load)
        .with_clients(3)
        .with_duration(ms(4_000))
        .with_policy(ClientPolicy::new().with_hedging(0.9).with_deadline(ms(300)))
        .with_change(ms(500), 0, WorkerChange::Slowdown(20.0))
        .with_change(ms(800), 0, WorkerChange::Slowdown(1.0))
        .with_change(ms(900), 1, WorkerChange::Fail)
        .with_change(ms(1_200), 1, WorkerChange::Recover)
        .with_change(ms(1_300), 2, WorkerChange::Hang)
        .with_change(ms(1_800), 2, WorkerChange::Recover)
        .with_change(ms(1_900), 3, WorkerChange::Crash)
        .with_change(ms(2_200), 3, WorkerChange::Start)
        .with_change(ms(2_300), 4, WorkerChange::Drain)
        .with_change(ms(3_600), 4, WorkerChange::Crash)
        .with_change(ms(1_000), 5, WorkerChange::Start)
        .with_change(ms(3_100), 0, WorkerChange::Reject)
        .with_change(ms(3_300), 0, WorkerChange::Recover)
        .with_change(ms(3_400), 1, WorkerChange::Move)
        .with_change(ms(3_500), 3, WorkerChange::Underreport)
        // While it hangs.
        .with_change(ms(2_500), 2, WorkerChange::Hang)
        .with_change(ms(2_700), 2, WorkerChange::Crash)
        .with_change(ms(2_800), 2, WorkerChange::Start)
}

#[test]
fn every_call_ends_once_and_nothing_is_left_anywhere() {
    for make in [RANDOM, ROUND_ROBIN, LEAST] {
        for seed in 0..3 {
            let scenario = scenario_with_all_changes();
            let backoff = retries::backoff(seed);
            let mut fleet = Fleet::new(&scenario, seed, &backoff, make);
            fleet.begin();
            while let Some(event) = fleet.events.pop() {
                fleet.handle(event);
            }
            assert!(
                fleet.servers.iter().all(|server| server.is_idle()),
                "seed {seed}"
            );
            assert!(
                fleet.attempts.iter().all(|attempt| !attempt.is_open()),
                "seed {seed}"
            );
            // That calls end once is asserted on the way.
            let report = fleet.report();
            let calls = report.calls();
            assert!(calls.len() > 10_000, "{}", calls.len());
            assert!(calls.iter().all(|call| call.took <= ms(300)));
            let firsts = report
                .attempts()
                .iter()
                .filter(|it| it.kind == AttemptKind::First);
            let nowhere = calls
                .iter()
                .filter(|call| call.outcome == CallOutcome::NoWorker);
            assert_eq!(firsts.count() + nowhere.count(), calls.len());
        }
    }
}

#[test]
fn the_scenario_has_every_kind_of_change() {
    let report = run(&scenario_with_all_changes(), 1, RANDOM);
    let ended = |end| report.calls().iter().any(|call| call.outcome == end);
    assert!(ended(CallOutcome::Answered) && ended(CallOutcome::DeadlineExceeded));
    let tried = |reason| report.attempts().iter().any(|it| it.kind == reason);
    assert!(tried(AttemptKind::Retry) && tried(AttemptKind::Hedge));
    // A worker that drains gets no calls before it rejects them; a new worker is found.
    assert!(report.between(ms(2_000), ms(2_300)).share_of(4) > 0.1);
    assert_eq!(report.between(ms(2_700), ms(3_600)).share_of(4), 0.0);
    assert_eq!(report.between(ms(0), ms(1_300)).share_of(5), 0.0);
    assert!(report.between(ms(1_400), ms(1_900)).share_of(5) > 0.1);
}

#[test]
fn equal_seeds_give_equal_reports_and_others_do_not() {
    let report = |seed| run(&scenario_with_all_changes(), seed, LEAST);
    assert_eq!(report(3), report(3));
    assert_ne!(report(3), report(4));
}

#[test]
fn all_balancers_get_the_same_calls() {
    let begins = |make: BalancerFactory| {
        let report = run(&scenario_with_all_changes(), 3, make);
        let begins = report.calls().iter().map(|call| (call.began, call.client));
        begins.collect::<Vec<_>>()
    };
    assert_eq!(begins(RANDOM), begins(LEAST));
}

#[test]
fn a_closed_load_keeps_its_calls_in_flight() {
    let latency = ServiceTime::Fixed(ms(10));
    let worker = SimWorker::new(latency).with_concurrency(50);
    let scenario = FleetScenario::new(vec![worker; 2], Load::closed(20, 1_000))
        .with_clients(4)
        .with_network_delay(Duration::ZERO);
    let report = run(&scenario, 1, RANDOM);
    assert_eq!((report.calls().len(), report.all().failed()), (1_000, 0));
    // Fifty rounds of twenty.
    assert_eq!(report.ended(), ms(500).into());
}

#[test]
fn a_single_queue_agrees_with_queueing_theory() {
    // M/M/1 at 0.8: the time in the system is exponential, with mean 10 ms / (1 - 0.8).
    let worker = SimWorker::new(ServiceTime::Exponential { mean: ms(10) })
        .with_concurrency(1)
        .with_queue(100_000, Duration::MAX);
    let scenario = FleetScenario::new(vec![worker], Load::open(80.0))
        .with_network_delay(Duration::ZERO)
        .with_duration(Duration::from_secs(2_000))
        .with_policy(ClientPolicy::new().with_deadline(Duration::from_secs(100)));
    let report = run(&scenario, 1, RANDOM);
    let sum: Duration = report.calls().iter().map(|call| call.took).sum();
    let mean = sum.as_secs_f64() / report.calls().len() as f64;
    assert!((mean - 0.050).abs() < 0.003, "{mean}");
    let p99 = report.all().latency(0.99).as_secs_f64();
    assert!((p99 - 0.230).abs() < 0.025, "{p99}");
}

#[test]
fn an_overloaded_worker_rejects_the_excess_and_serves_the_rest() {
    let policy = ClientPolicy::new().with_attempts_max(1);
    let scenario = FleetScenario::new(vec![worker()], Load::open(1_600.0))
        .with_duration(ms(5_000))
        .with_policy(policy);
    let report = run(&scenario, 1, RANDOM);
    let steady = report.between(ms(1_000), ms(5_000));
    assert!((steady.goodput_per_s() / 800.0 - 1.0).abs() < 0.05);
    let answered = report
        .calls()
        .iter()
        .filter(|call| call.outcome == CallOutcome::Answered);
    // Few are served for longer than 100 ms.
    let most = answered.map(|call| call.took).max().expect("a call");
    assert!(most < ms(50 + 150), "{most:?}");
}

#[test]
fn retries_stay_within_their_budget() {
    let policy = ClientPolicy::new().with_budget(0.1, 100.0);
    let scenario = FleetScenario::new(vec![worker(); 4], Load::open(10_000.0)).with_policy(policy);
    let report = run(&scenario, 1, RANDOM);
    let extra = report.all().extra_attempts() * report.calls().len() as f64;
    let answered = report.calls().len() - report.all().failed();
    assert!(
        extra <= 0.1 * answered as f64 + 100.0 + 10.0 * 10.1,
        "{extra}"
    );
    assert!(extra > 100.0, "{extra}");
}

#[test]
fn an_unreachable_worker_fails_no_call() {
    let scenario = FleetScenario::new(vec![worker(); 5], Load::open(1_000.0)).with_change(
        ms(2_000),
        1,
        WorkerChange::Crash,
    );
    let report = run(&scenario, 1, RANDOM);
    assert_eq!(report.all().failed(), 0);
    let extra = report.attempts().len() - report.calls().len();
    assert!(extra > 0, "the first calls have to find out");
    // Found out by the first few calls, and not tried by every call from then on.
    assert!(extra < 60, "{extra}");
}

/// A scenario in which one of five workers rejects everything from 1 s on.
fn old_version(policy: ClientPolicy) -> FleetScenario {
    FleetScenario::new(vec![worker(); 5], Load::open(2_000.0))
        .with_policy(policy)
        .with_duration(ms(20_000))
        .with_change(ms(1_000), 1, WorkerChange::Reject)
}

#[test]
fn a_worker_that_rejects_is_avoided_and_probed_rarely() {
    for seed in 0..3 {
        let report = run(&old_version(ClientPolicy::new()), seed, LEAST);
        assert_eq!(report.all().failed(), 0, "seed {seed}");
        let after = report.between(ms(1_100), Duration::MAX);
        let probes = report.attempts().iter();
        let probes = probes.filter(|it| it.worker == 1 && it.began >= ms(1_100).into());
        // After 5 and another 10 s, by one client.
        assert_eq!(probes.count(), 2, "seed {seed}");
        assert!(after.extra_attempts() < 0.001, "seed {seed}");
    }
    let scenario =
        old_version(ClientPolicy::new()).with_change(ms(8_000), 1, WorkerChange::Recover);
    let report = run(&scenario, 1, LEAST);
    // The probe at 16 s finds out.
    assert!(report.between(ms(17_000), Duration::MAX).share_of(1) > 0.15);
}

#[test]
fn quick_rejections_do_not_attract_calls() {
    // So few calls that all are idle as a rule: balancers can only compare latencies.
    let scenario = FleetScenario::new(vec![worker(); 5], Load::open(40.0))
        .with_policy(ClientPolicy::new().with_rejection_avoidance(false))
        .with_duration(ms(60_000))
        .with_change(ms(10_000), 1, WorkerChange::Reject);
    let peak_ewma: BalancerFactory = |seed| Arc::new(PeakEwma::seeded(seed));
    for seed in 0..3 {
        let report = run(&scenario, seed, peak_ewma);
        assert_eq!(report.all().failed(), 0, "seed {seed}");
        let share = report.between(ms(20_000), Duration::MAX).share_of(1);
        assert!(share < 0.3, "seed {seed}: {share}");
    }
}

#[test]
fn a_worker_that_moves_fails_no_call_and_is_found_again() {
    let scenario = FleetScenario::new(vec![worker(); 5], Load::open(1_000.0)).with_change(
        ms(2_000),
        1,
        WorkerChange::Move,
    );
    let report = run(&scenario, 1, RANDOM);
    assert_eq!(report.all().failed(), 0);
    let before_it_is_known = report.between(ms(2_000), ms(5_000));
    assert!(before_it_is_known.share_of(1) < 0.02);
    assert!(report.between(ms(5_100), ms(10_000)).share_of(1) > 0.15);
}

#[test]
fn a_hung_worker_recovers() {
    let scenario = FleetScenario::new(vec![worker(); 1], Load::open(100.0))
        .with_duration(ms(4_000))
        .with_change(ms(1_000), 0, WorkerChange::Hang)
        .with_change(ms(3_000), 0, WorkerChange::Recover);
    let report = run(&scenario, 1, RANDOM);
    let hung = report.between(ms(1_000), ms(1_900));
    assert_eq!(hung.failed(), hung.calls().len());
    assert_eq!(report.between(ms(3_000), ms(4_000)).failed(), 0);
    // Calls that began shortly before the end have a reply after all.
    let waited = report.between(ms(2_500), ms(2_900));
    assert!(waited.failed() < waited.calls().len());
}

#[test]
fn a_call_is_rejected_at_the_queue_timeout() {
    let worker = SimWorker::new(ServiceTime::Fixed(ms(200)))
        .with_concurrency(1)
        .with_queue(10, ms(50));
    let scenario = FleetScenario::new(vec![worker], Load::closed(2, 2))
        .with_network_delay(Duration::ZERO)
        .with_policy(ClientPolicy::new().with_attempts_max(1));
    let report = run(&scenario, 1, RANDOM);
    let ends: Vec<_> = report
        .calls()
        .iter()
        .map(|it| (it.took, it.outcome))
        .collect();
    assert_eq!(
        ends,
        [
            (ms(200), CallOutcome::Answered),
            (ms(50), CallOutcome::Failed)
        ]
    );
}

/// Two calls at once to a worker that serves one for 200 ms and rejects the other.
fn one_of_two_is_rejected(deadline: Duration) -> Report {
    let worker = SimWorker::new(ServiceTime::Fixed(ms(200)))
        .with_concurrency(1)
        .with_queue(0, ms(50));
    let scenario = FleetScenario::new(vec![worker], Load::closed(2, 2))
        .with_network_delay(Duration::ZERO)
        .with_policy(ClientPolicy::new().with_deadline(deadline));
    run(&scenario, 1, RANDOM)
}

#[test]
fn a_rejected_call_is_retried_after_the_time_that_the_worker_asked_for() {
    let report = one_of_two_is_rejected(ms(1_000));
    assert_eq!((report.calls().len(), report.all().failed()), (2, 0));
    let kinds: Vec<_> = report.attempts().iter().map(|it| it.kind).collect();
    let expected = [AttemptKind::First, AttemptKind::First, AttemptKind::Retry];
    assert_eq!(kinds, expected, "the worker was free by then");
}

#[test]
fn a_call_ends_when_no_retry_can_begin_before_its_deadline() {
    let report = one_of_two_is_rejected(ms(150));
    let ends = report.calls().iter().map(|it| (it.took, it.outcome));
    let [(_, served), (took, rejected)] = ends.collect::<Vec<_>>()[..] else {
        panic!("{report:?}");
    };
    assert_eq!(served, CallOutcome::DeadlineExceeded);
    assert!(rejected == CallOutcome::Failed && took < ms(1), "{took:?}");
}

#[test]
fn a_call_that_all_workers_reject_ends_at_once() {
    let scenario = FleetScenario::new(vec![worker(); 2], Load::closed(1, 10))
        .with_change(ms(0), 0, WorkerChange::Reject)
        .with_change(ms(0), 1, WorkerChange::Reject);
    let report = run(&scenario, 1, RANDOM);
    assert_eq!(report.all().failed(), 10);
    // The first call finds out that both reject; the others ask one.
    assert_eq!(report.attempts().len(), 2 + 9);
}

#[test]
fn clients_learn_of_a_drain_without_a_call() {
    let scenario = FleetScenario::new(vec![worker(); 10], Load::open(100.0))
        .with_clients(20)
        .with_duration(ms(2_000))
        .with_change(ms(500), 3, WorkerChange::Drain);
    let report = run(&scenario, 1, RANDOM);
    assert!(report.between(ms(0), ms(500)).share_of(3) > 0.0);
    assert_eq!(report.between(ms(801), ms(2_000)).share_of(3), 0.0);
}

#[test]
fn a_balancer_that_ignores_load_fails_calls() {
    // Always the first endpoint that is allowed.
    let first: BalancerFactory = |_| {
        Arc::new(from_fn(|view, cx| {
            view.endpoints().iter().position(|one| cx.allows(one))
        }))
    };
    let scenario = FleetScenario::new(vec![worker(); 5], Load::open(2_400.0));
    let (bad, good) = (run(&scenario, 1, first), run(&scenario, 1, LEAST));
    assert!(bad.all().share_of(0) > 0.8);
    assert!(bad.all().failed() > 1_000);
    assert_eq!(good.all().failed(), 0);
    assert!(good.all().latency(0.99) < ms(80));
}

#[test]
fn a_rare_long_method_does_not_slow_the_others() {
    let latency = ServiceTime::LogNormal {
        mean: ms(20),
        sigma: 0.3,
    };
    let workers = vec![SimWorker::new(latency).with_concurrency(8); 5];
    // One each 2 s, of a capacity of 2,000 a second.
    let rare = SimMethod::new(1.0 / 2_400.0, ServiceTime::Fixed(ms(3_000)));
    let policy = ClientPolicy::new().with_attempts_max(1);
    let scenario = FleetScenario::new(workers, Load::open(1_200.0))
        .with_method(rare)
        .with_duration(ms(20_000));
    let peak_ewma: BalancerFactory = |seed| Arc::new(PeakEwma::seeded(seed));
    // The 99th percentile of the short calls, and how many of them failed.
    let short_calls = |policy, seed| {
        let report = run(&scenario.clone().with_policy(policy), seed, peak_ewma);
        let long = report.of_method(1);
        assert!(long.calls().len() > 4 && long.all().failed() == 0);
        assert!(long.all().latency(0.0) > ms(3_000));
        let short = report.of_method(0);
        let span = short.between(ms(3_000), ms(20_000));
        (span.latency(0.99), span.failed())
    };
    for seed in 1..3 {
        let (p99, failed) = short_calls(policy, seed);
        assert!(
            p99 < ms(45) && failed == 0,
            "seed {seed}: {p99:?}, {failed}"
        );
        // With latencies as measured, each long call makes its worker look slow, and the others are
        // overloaded.
        let measured = policy.with_normalized_latencies(false);
        let (p99, failed) = short_calls(measured, seed);
        assert!(p99 > ms(55), "seed {seed}: {p99:?}, {failed}");
    }
}

#[test]
fn normalisation_changes_nothing_for_a_single_method() {
    let peak_ewma: BalancerFactory = |seed| Arc::new(PeakEwma::seeded(seed));
    let report = |normalizes| {
        let scenario = scenario_with_all_changes();
        let policy = scenario.policy.with_normalized_latencies(normalizes);
        run(&scenario.with_policy(policy), 3, peak_ewma)
    };
    assert_eq!(report(true), report(false));
}
