//! Tests of the clock and the seed of a registry.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use rpcnet_balance::{BackoffRange, health::HealthConfig};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn times_are_those_of_the_clock_that_was_set() {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    static PASSED_S: AtomicU64 = AtomicU64::new(5);
    let clock = || *BEGAN + SECOND * PASSED_S.load(SeqCst) as u32;
    let config = HealthConfig::new().with_unreachable_backoff(BackoffRange::constant(60 * SECOND));
    let cluster: StaticMembership = [worker("a"), worker("b")].into_iter().collect();
    let registry = WorkerRegistry::new(cluster, LoadBalancingStrategy::RoundRobin);
    let registry = registry.with_clock(clock).with_health(config);
    block_on(registry.start());
    let began = registry.now();
    PASSED_S.fetch_add(7, SeqCst);
    assert_eq!(registry.now(), began + 7 * SECOND);
    assert_eq!(registry.time(clock()), registry.now());

    // A backoff ends by it too.
    let all = registry.select_all(Some("role=worker")).unwrap();
    let b = all.iter().find(|one| &*one.id().name == "b").unwrap();
    b.report(&Outcome::new(OutcomeKind::Unreachable, Duration::ZERO));
    let select = || registry.select(Some("role=worker"), &PickContext::new());
    let probes = |count: usize| (0..count).filter(|_| select().unwrap().is_probe()).count();
    assert_eq!(probes(10), 0);
    PASSED_S.fetch_add(80, SeqCst);
    assert!(probes(10) > 0);
}

#[test]
fn backoff_of_health_checks_is_drawn_from_the_seed() {
    let probe_in = |seed: u64| {
        let registry = WorkerRegistry::new(cluster(), LoadBalancingStrategy::RoundRobin);
        let registry = registry
            .with_rng_seed(seed)
            .with_health(HealthConfig::new());
        block_on(registry.start());
        let mut events = registry.subscribe_health();
        let all = registry.select_all(Some("role=worker")).unwrap();
        all[0].report(&Outcome::new(OutcomeKind::Unreachable, Duration::ZERO));
        match events.try_recv() {
            Some(HealthEvent::NodeUnreachable { probe_in, .. }) => probe_in,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(probe_in(1), probe_in(1));
    assert_ne!(probe_in(1), probe_in(2));
}

#[test]
fn a_seeded_balancer_repeats_its_picks() {
    let picks = |seed: u64| {
        let balancer = LoadBalancingStrategy::Random.seeded_balancer(seed);
        let registry = WorkerRegistry::with_balancer(cluster(), balancer);
        block_on(registry.start());
        let pick = || registry.select(Some("role=worker"), &PickContext::new());
        let names = (0..30).map(|_| pick().unwrap().id().to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(picks(1), picks(1));
    assert_ne!(picks(1), picks(2));
}
