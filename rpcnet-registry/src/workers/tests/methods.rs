//! What a call takes, compared with what its method usually takes.

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
    worker.and_then(|one| one.latency).expect("it has answered")
}

#[test]
fn a_worker_that_serves_a_method_that_takes_long_is_not_slow() {
    let registry = started(&cluster(), LoadBalancingStrategy::PeakEwma);
    for _ in 0..20 {
        answered(&registry, "a", "short", SHORT);
        answered(&registry, "b", "short", SHORT);
    }
    answered(&registry, "b", "long", LONG);
    assert!(latency(&registry, "b") < SHORT * 3 / 2);
    // One that takes ten times as long as others is.
    answered(&registry, "b", "short", 10 * SHORT);
    assert!(latency(&registry, "b") > 5 * SHORT);
    // Of a single method, and where no method is named, it is as measured.
    let registry = started(&cluster(), LoadBalancingStrategy::PeakEwma);
    answered(&registry, "a", "long", LONG);
    let worker = registry.select_named(None, "b").unwrap();
    worker.report(&Outcome::new(OutcomeKind::Success, LONG));
    for name in ["a", "b"] {
        assert!(latency(&registry, name).abs_diff(LONG) < LONG / 100);
    }
}

#[test]
fn a_stream_says_nothing_about_the_time_of_calls() {
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
