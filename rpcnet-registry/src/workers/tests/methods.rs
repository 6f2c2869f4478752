//! Tests of latencies relative to the usual latency of a method.

use super::*;

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3);

/// A call to this worker that has been answered by now.
fn answered(registry: &WorkerRegistry, name: &str, method: &str, took: Duration) {
    let mut worker = registry.select_named(None, name).unwrap();
    worker.set_method(method, registry.now());
    worker.report(&Outcome::new(OutcomeKind::Success, took));
}

fn latency(registry: &WorkerRegistry, name: &str) -> Duration {
    let workers = registry.workers(None).unwrap();
    let worker = workers.iter().find(|one| &*one.label == name);
    worker.and_then(|one| one.latency).expect("a latency")
}

#[test]
fn a_worker_is_not_slow_because_of_a_long_method() {
    let registry = started(&cluster(), LoadBalancingStrategy::PeakEwma);
    for _ in 0..20 {
        answered(&registry, "a", "short", SHORT);
        answered(&registry, "b", "short", SHORT);
    }
    answered(&registry, "b", "long", LONG);
    assert!(latency(&registry, "b") < SHORT * 3 / 2);
    // A worker that takes ten times as long as others is slow.
    answered(&registry, "b", "short", 10 * SHORT);
    assert!(latency(&registry, "b") > 5 * SHORT);
    // With a single method, and without a method, the latency is used as measured.
    let registry = started(&cluster(), LoadBalancingStrategy::PeakEwma);
    answered(&registry, "a", "long", LONG);
    let worker = registry.select_named(None, "b").unwrap();
    worker.report(&Outcome::new(OutcomeKind::Success, LONG));
    for name in ["a", "b"] {
        assert!(latency(&registry, name).abs_diff(LONG) < LONG / 100);
    }
}

#[test]
fn a_stream_does_not_change_the_latency_of_calls() {
    let registry = started(&cluster(), LoadBalancingStrategy::PeakEwma);
    answered(&registry, "a", "short", SHORT);
    let begun = registry.now();
    let mut stream = registry.select_named(None, "a").unwrap();
    stream.set_stream(begun);
    let later = begun + Duration::from_secs(5);
    assert_eq!(stream.endpoint().silence(later), Duration::ZERO);
    // Its first message after a minute was an error.
    stream.report(&Outcome::new(OutcomeKind::Failure, 20 * LONG));
    assert!(latency(&registry, "a") <= SHORT);
}
