//! Tests of usual latencies and of the normalised latencies computed from them.

use proptest::prelude::*;

use super::*;
use crate::{
    KindLatency,
    latency::{NOISE_FACTOR, NOISE_NANOS},
};

const SHORT: u64 = 0;
const LONG: u64 = 1;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(ms: u64) -> Time {
    Time::from(Duration::from_millis(ms))
}

/// The normalised latency, in ms, of a reply of this kind.
fn answer(normalizer: &LatencyNormalizer, kind: u64, now: u64, took: Duration) -> f64 {
    let outcome = Outcome::new(OutcomeKind::Success, took).with_now(at(now));
    let outcome = normalizer.record(kind, outcome);
    assert_eq!(outcome.latency, took, "the measured one stays");
    let normalized = outcome.normalized_latency.expect("a latency");
    normalized.as_secs_f64() * 1e3
}

/// A normaliser that knows calls of 20 ms, a hundred a second, and of 3 s, one a second.
fn two_kinds() -> LatencyNormalizer {
    let normalizer = LatencyNormalizer::new();
    for now in (1_000..31_000).step_by(10) {
        answer(&normalizer, SHORT, now, ms(20));
        if now % 1_000 == 0 {
            answer(&normalizer, LONG, now, ms(3_000));
        }
    }
    normalizer
}

#[test]
fn latencies_of_a_single_kind_are_unchanged() {
    let normalizer = LatencyNormalizer::new();
    assert_eq!(normalizer.scale(SHORT), LatencyScale::ONE);
    for (now, took) in [(1, 3), (2, 3_000), (3, 0), (90_000, 7)] {
        assert_eq!(answer(&normalizer, SHORT, now, ms(took)), took as f64);
        assert_eq!(normalizer.scale(SHORT), LatencyScale::ONE);
    }
    let failed = Outcome::new(OutcomeKind::Failure, ms(5));
    assert_eq!(normalizer.record(SHORT, failed), failed);
}

#[test]
fn a_call_of_usual_latency_normalises_to_a_typical_one() {
    let normalizer = two_kinds();
    let typical = answer(&normalizer, SHORT, 31_000, ms(20));
    let long = answer(&normalizer, LONG, 31_000, ms(3_000));
    assert!((19.0..23.0).contains(&typical), "{typical}");
    assert!((long - typical).abs() < 1.0, "{long} and {typical}");
    // A latency that is ten times the usual one stays ten times, for either kind.
    for (kind, took) in [(SHORT, ms(200)), (LONG, ms(30_000))] {
        let slow = two_kinds();
        let slow = answer(&slow, kind, 31_000, took);
        assert!((slow / typical - 10.0).abs() < 2.0, "{slow} of {kind}");
    }
}

#[test]
fn a_further_kind_has_no_scale_before_its_first_reply() {
    let normalizer = LatencyNormalizer::new();
    answer(&normalizer, SHORT, 1, ms(20));
    assert_eq!(normalizer.scale(LONG), LatencyScale::UNKNOWN);
    let late = Outcome::new(OutcomeKind::Failure, ms(3_000));
    let late = normalizer.record(LONG, late);
    assert_eq!((late.latency, late.normalized_latency), (ms(3_000), None));
    // A failure is no reply; the first reply defines what is usual.
    assert_eq!(normalizer.scale(LONG), LatencyScale::UNKNOWN);
    let first = answer(&normalizer, LONG, 2, ms(3_000));
    let typical = answer(&normalizer, SHORT, 2, ms(20));
    // Within what a balancer treats as noise.
    assert!(first < 1.5 * 20.0 + 0.5, "{first}");
    assert!(typical < 1.5 * 20.0 + 0.5, "{typical}");
}

#[test]
fn attempts_that_were_not_served_keep_their_latency() {
    let normalizer = two_kinds();
    let of = |kind| normalizer.record(LONG, Outcome::new(kind, ms(900)));
    for kind in [
        OutcomeKind::Unreachable,
        OutcomeKind::Overloaded,
        OutcomeKind::Rejected,
    ] {
        assert_eq!(of(kind).normalized_latency, Some(ms(900)), "{kind:?}");
    }
    for kind in [OutcomeKind::Failure, OutcomeKind::Cancelled] {
        let normalized = of(kind).normalized_latency.expect("a usual latency");
        assert!(normalized < ms(10), "{kind:?}: {normalized:?}");
    }
}

#[test]
fn one_slow_worker_defines_what_is_usual_only_briefly() {
    // Ten times as slow as the others, and the first to serve.
    let normalizer = LatencyNormalizer::new();
    for (kind, took) in [(SHORT, 200), (LONG, 30_000)] {
        for now in 1..5 {
            answer(&normalizer, kind, now, ms(took));
        }
    }
    for now in 5..400 {
        answer(&normalizer, SHORT, now, ms(20));
        answer(&normalizer, LONG, now, ms(3_000));
    }
    let good = answer(&normalizer, LONG, 400, ms(3_000));
    let slow = answer(&normalizer, LONG, 400, ms(30_000));
    assert!(slow > 8.0 * good, "{slow} and {good}");
}

#[test]
fn the_usual_latency_follows_change_and_survives_idle_time() {
    let usual_ms = |average: &GeometricMean| f64::from(average.nanos()) / 1e6;
    let decay = Decay::over(LATENCY_DECAY);
    let average = GeometricMean::default();
    for now in (0..60_000).step_by(5) {
        average.record(
            at(now),
            ms(if now < 30_000 { 10 } else { 100 }),
            decay,
            f32::INFINITY,
        );
    }
    let usual = usual_ms(&average);
    assert!((80.0..100.1).contains(&usual), "{usual}");
    // After an hour one reply is one of sixteen.
    average.record(at(3_660_000), ms(10_000), decay, f32::INFINITY);
    let after = usual_ms(&average) / usual;
    assert!((after - 100_f64.powf(1.0 / 16.0)).abs() < 0.1, "{after}");
}

#[test]
fn kinds_are_bounded_and_an_idle_one_is_replaced() {
    let normalizer = LatencyNormalizer::new();
    for kind in 0..10 * KINDS_MAX as u64 {
        answer(&normalizer, kind, 1, ms(20));
    }
    // There is no room for it: it counts as one with the others that have none.
    let made_up = 99_999_999;
    answer(&normalizer, made_up, 1, ms(20));
    assert!(normalizer.find(made_up).is_none());
    assert_ne!(normalizer.scale(made_up), LatencyScale::UNKNOWN);
    assert!(normalizer.kinds.load(Relaxed) <= KINDS_MAX as u32 + 1);
    // A minute later those kinds are idle.
    answer(&normalizer, made_up, 70_000, ms(3_000));
    let usual = normalizer.find(made_up).expect("there is room");
    assert_eq!(usual.nanos(), 3e9);
    // The numbers of kinds are the caller's choice.
    for kind in [0, u64::MAX] {
        answer(&normalizer, kind, 140_000, ms(20));
        assert!(normalizer.find(kind).is_some());
    }
}

#[test]
fn concurrent_records_keep_the_usual_latency() {
    let normalizer = two_kinds();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let normalizer = &normalizer;
            scope.spawn(move || {
                for call in 0..2_000 {
                    let made_up = 1_000 + thread * 10_000 + call;
                    for (kind, took) in [(SHORT, 20), (LONG, 3_000), (made_up, 7)] {
                        let outcome = Outcome::new(OutcomeKind::Success, ms(took));
                        let outcome = outcome.with_now(at(31_000 + call));
                        let _ = normalizer.record(kind, outcome);
                    }
                }
            });
        }
    });
    let long = f64::from(normalizer.find(LONG).expect("a usual latency").nanos());
    assert!((long / 3e9 - 1.0).abs() < 0.01, "{long}");
}

proptest! {
    /// Two latencies are equal to a balancer if the greater is within noise of the lower.
    #[test]
    fn noise_stays_noise_after_scaling(
        usual in 1_000..100_000_000_000_u64,
        typical in 1_000..100_000_000_000_u64,
        one in 0..100_000_000_000_u64,
        other in prop_oneof![Just(0_u64), 0..100_000_000_000_u64],
        near in 0.5..2.0_f64,
    ) {
        let other = if other == 0 { (one as f64 * near) as u64 } else { other };
        let scale = LatencyScale::new(KindLatency {
            usual: Duration::from_nanos(usual),
            typical: Duration::from_nanos(typical),
        });
        let scaled = |nanos| scale.normalize_nanos(nanos as f64);
        let excess = |x: f64, y: f64| y - (f64::from(NOISE_FACTOR) * x + f64::from(NOISE_NANOS));
        let before = excess(one as f64, other as f64);
        let after = excess(scaled(one), scaled(other));
        // Unless it is about as long as the bound, or so short that there is nothing to scale.
        let is_clear = before.abs() > 0.001 * other as f64 + 1.0
            && scaled(one) > 0.0 && scaled(other) > 0.0;
        prop_assert!(!is_clear || (before > 0.0) == (after > 0.0), "{before} and {after}");
        prop_assert!(scale.normalize(Duration::MAX).is_some());
    }
}
