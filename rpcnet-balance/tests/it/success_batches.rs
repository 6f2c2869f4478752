//! Batches of successes: recorded at once, they mean what their replies mean one by one.

#![allow(
    clippy::disallowed_types,
    reason = "a balancer that keeps what it is told picks nothing"
)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use rpcnet_balance::{
    Balancer, Endpoint, ExclusionFlags, LatencyNormalizer, LatencyScale, Maglev, Outcome,
    OutcomeKind, PeakEwma, PickContext, PowerOfTwo, Prequal, Rendezvous, ReportedLoad, SlowStart,
    Sticky, Subset, SuccessBatch, Tiered, Time, View, WeightedByLoad,
    health::{HealthConfig, OutlierConfig, OutlierDetector},
};

/// What is reported of an endpoint, some time after the report before.
#[derive(Debug, Clone)]
enum Report {
    Successes(Vec<u64>),
    Failure,
}

fn report() -> impl Strategy<Value = (u64, Report)> {
    let latencies = prop::collection::vec(20_u64..30_000, 0..12);
    let report =
        prop_oneof![4 => latencies.prop_map(Report::Successes), 1 => Just(Report::Failure)];
    // Microseconds between reports: of one moment, within an update interval, and seconds.
    (prop_oneof![Just(0), 0_u64..100, 0_u64..5_000_000], report)
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

fn success(latency: u64, now: Time) -> Outcome {
    Outcome::new(OutcomeKind::Success, us(latency)).with_now(now)
}

fn batch(latencies: &[u64], now: Time) -> SuccessBatch {
    let mut batch = SuccessBatch::new();
    latencies.iter().for_each(|latency| batch.add(us(*latency)));
    batch.with_now(now)
}

/// Balancers that record something in the endpoint.
fn recording_balancers() -> [Arc<dyn Balancer>; 6] {
    [
        Arc::new(PeakEwma::seeded(1)),
        Arc::new(Prequal::seeded(1)),
        Arc::new(PowerOfTwo::seeded(1)),
        Arc::new(WeightedByLoad::seeded(1)),
        Arc::new(Rendezvous::seeded(1)),
        Arc::new(Maglev::seeded(1)),
    ]
}

fn views() -> [View; 2] {
    [0, 1].map(|_| View::new([Arc::new(Endpoint::new(7))], 1))
}

/// The latency of the endpoint in seconds.
fn latency(view: &View, now: Time) -> f64 {
    let latency = view[0].latency(now, Duration::from_secs(10));
    latency.unwrap_or_default().as_secs_f64()
}

/// What balancers know of the endpoint besides.
fn state(view: &View, now: Time) -> impl PartialEq + std::fmt::Debug + use<> {
    let endpoint = &view[0];
    (
        endpoint.silence(now + Duration::from_secs(1)),
        endpoint.in_backoff(now),
        endpoint.in_backoff(now + Duration::from_millis(350)),
    )
}

proptest! {
    #[test]
    fn balancers_record_a_batch_as_its_replies(reports in prop::collection::vec(report(), 1..20)) {
        for balancer in recording_balancers() {
            let [batched, singly] = views();
            let _calls = [batched[0].begin(), singly[0].begin()];
            let mut now = Time::from(Duration::from_secs(1));
            for (after, report) in &reports {
                now = now + us(*after);
                match report {
                    Report::Failure => {
                        let failure = Outcome::new(OutcomeKind::Failure, us(1)).with_now(now);
                        balancer.on_outcome(&batched, 0, &failure);
                        balancer.on_outcome(&singly, 0, &failure);
                    }
                    Report::Successes(latencies) => {
                        // A backoff counts them by when they began: the first of a batch.
                        let longest = latencies.iter().max().copied().unwrap_or(0);
                        let began = Time::ZERO + now.since(Time::ZERO + us(longest));
                        let is_split = singly[0].in_backoff(began) && !singly[0].in_backoff(now);
                        prop_assume!(!is_split);
                        balancer.on_successes(&batched, 0, &batch(latencies, now));
                        for latency in latencies {
                            balancer.on_outcome(&singly, 0, &success(*latency, now));
                        }
                    }
                }
                prop_assert_eq!(state(&batched, now), state(&singly, now), "{:?}", &balancer);
                // A step that is too small to show is taken with the next reply.
                let (batched, singly) = (latency(&batched, now), latency(&singly, now));
                prop_assert!((batched - singly).abs() <= 0.005 * singly, "{batched} {singly}");
            }
        }
    }

    /// Singly, the first 16 replies of a kind all count, of a batch but the first: equal latencies
    /// until then.
    #[test]
    fn normalizers_record_a_batch_as_its_replies(
        batches in prop::collection::vec((0_u64..2, prop::collection::vec(20_u64..30_000, 0..12)), 1..40)
    ) {
        let (batched, singly) = (LatencyNormalizer::new(), LatencyNormalizer::new());
        let mut now = Time::from(Duration::from_secs(1));
        for number in 0..40 {
            now = now + Duration::from_millis(2);
            let _ = batched.record_successes(number % 2, batch(&[500 + 900 * (number % 2)], now));
            let _ = singly.record(number % 2, success(500 + 900 * (number % 2), now));
        }
        for (kind, latencies) in batches {
            now = now + Duration::from_millis(3);
            let recorded = batched.record_successes(kind, batch(&latencies, now));
            let each: Vec<_> = latencies
                .iter()
                .map(|latency| singly.record(kind, success(*latency, now)))
                .collect();
            if !each.is_empty() {
                prop_assert_eq!(recorded.scale(), singly.scale(kind));
                let longest = each.iter().filter_map(|outcome| outcome.normalized_latency).max();
                prop_assert_eq!(recorded.scale().normalize(recorded.max_latency()), longest);
            }
        }
    }
}

#[test]
fn the_first_replies_of_a_kind_come_to_the_same_in_batches() {
    let (batched, singly) = (LatencyNormalizer::new(), LatencyNormalizer::new());
    let replies = [300, 310, 290, 305, 295, 300, 315, 285];
    for round in 0..50 {
        for kind in 0..2 {
            let now = Time::from(Duration::from_millis(10 * round + 5 * kind));
            let latencies = replies.map(|latency| latency * (1 + 9 * kind));
            let _ = batched.record_successes(kind, batch(&latencies, now));
            for latency in latencies {
                let _ = singly.record(kind, success(latency, now));
            }
        }
        let normalized = |one: &LatencyNormalizer| {
            let latency = one.scale(1).normalize(us(3_000)).expect("a usual latency");
            latency.as_secs_f64()
        };
        let ratio = normalized(&batched) / normalized(&singly);
        let tolerance = if round < 16 { 0.2 } else { 0.05 };
        assert!((ratio - 1.0).abs() < tolerance, "{ratio} in round {round}");
    }
}

#[test]
fn a_batch_of_unknown_scale_leaves_the_latency_unchanged() {
    let ([view, _], now) = (views(), Time::from(Duration::from_secs(1)));
    let balancer = PeakEwma::seeded(1);
    balancer.on_successes(&view, 0, &batch(&[900, 800], now));
    let slow = batch(&[90_000, 90_000], now).with_scale(LatencyScale::UNKNOWN);
    balancer.on_successes(&view, 0, &slow);
    assert_eq!(view[0].latency(now, Duration::from_secs(10)), Some(us(800)));
}

#[test]
fn detectors_count_every_success_of_a_batch() {
    // A failure percentage of 85 ejects: that of endpoint 0 depends on the size of its batch.
    for (successes, ejected) in [(0, true), (17, true), (19, false), (20_000, false)] {
        let view = View::new((0..6).map(|id| Arc::new(Endpoint::new(id))), 1);
        let rules = OutlierConfig::new()
            .with_consecutive_failures(0)
            .with_success_rate(None);
        let config = HealthConfig::new().with_outlier_detection(rules);
        let detector = OutlierDetector::seeded(config, 1);
        detector.set_view(&view);
        let now = Time::from(Duration::from_secs(1));
        assert!(!detector.claim_sweep(now));
        for endpoint in view.endpoints() {
            let count = if endpoint.id() == 0 { successes } else { 200 };
            let replies = vec![500; count];
            for _ in 0..100 * u32::from(endpoint.id() == 0) {
                let failure = Outcome::new(OutcomeKind::Failure, us(1)).with_now(now);
                assert_eq!(detector.on_outcome(endpoint, &failure), None);
            }
            assert_eq!(detector.on_successes(endpoint, &batch(&replies, now)), None);
        }
        let _ = detector.sweep(now + Duration::from_secs(10), &view);
        let is_ejected = view[0].flags().contains(ExclusionFlags::EJECTED);
        assert_eq!(is_ejected, ejected, "{successes} successes");
    }
}

#[test]
fn a_batch_ends_the_consecutive_failures() {
    let view = View::new((0..3).map(|id| Arc::new(Endpoint::new(id))), 1);
    let now = Time::from(Duration::from_secs(1));
    let rules = OutlierConfig::new().with_consecutive_failures(3);
    let config = HealthConfig::new().with_outlier_detection(rules);
    let detector = OutlierDetector::seeded(config, 1);
    detector.set_view(&view);
    let failure = Outcome::new(OutcomeKind::Failure, us(1)).with_now(now);
    for (replies, ejected) in [(&[5, 6][..], false), (&[], true)] {
        (0..2).for_each(|_| assert_eq!(detector.on_outcome(&view[0], &failure), None));
        assert_eq!(detector.on_successes(&view[0], &batch(replies, now)), None);
        let is_ejected = detector.on_outcome(&view[0], &failure).is_some();
        assert_eq!(is_ejected, ejected, "after {} replies", replies.len());
        detector.on_successes(&view[0], &batch(&[5], now));
    }
}

#[test]
fn a_batch_clears_an_unreachable_endpoint_unless_it_is_empty() {
    let ([view, _], now) = (views(), Time::from(Duration::from_secs(1)));
    let detector = OutlierDetector::seeded(HealthConfig::new(), 1);
    detector.on_unreachable(now, &view[0]).expect("a change");
    assert_eq!(detector.on_successes(&view[0], &batch(&[], now)), None);
    assert!(view[0].flags().contains(ExclusionFlags::UNREACHABLE));
    let without_time = SuccessBatch::new();
    assert_eq!(detector.on_successes(&view[0], &without_time), None);
    detector
        .on_successes(&view[0], &batch(&[5], now))
        .expect("a change");
    assert!(view[0].flags().is_empty());
}

/// Records what it is told, and overrides only what it must.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<(u64, Outcome)>>);

impl Balancer for Recorder {
    fn pick(&self, _view: &View, _cx: &PickContext<'_>) -> Option<usize> {
        None
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.0.lock().unwrap().push((view[index].id(), *outcome));
    }
}

#[test]
fn wrappers_pass_a_batch_on_and_other_balancers_see_its_outcomes() {
    let now = Time::from(Duration::from_secs(1));
    let load = ReportedLoad::new().with_in_flight(3);
    type Wrap = fn(Arc<Recorder>) -> Arc<dyn Balancer>;
    let wrappers: [Wrap; 5] = [
        |inner| Arc::new(inner),
        |inner| Arc::new(Sticky::new(inner)),
        |inner| Arc::new(SlowStart::new(inner, Duration::from_secs(1))),
        |inner| Arc::new(Subset::new(inner, 2, 1)),
        |inner| Arc::new(Tiered::new(inner).prefer("zone", "a")),
    ];
    for wrap in wrappers {
        let zones = ["a", "b", "a", "b"].map(|zone| {
            let tags = HashMap::from([("zone".to_owned(), zone.to_owned())]);
            Arc::new(tags) as _
        });
        let view = View::new((0..4).map(|id| Arc::new(Endpoint::new(id))), 1).with_tags(zones);
        let recorder = Arc::new(Recorder::default());
        let plain = wrap(Arc::clone(&recorder));
        let rebuilt = plain.rebuild(&view);
        for balancer in std::iter::once(plain).chain(rebuilt) {
            for index in 0..view.len() {
                let replies = batch(&[500, 900, 600, 700], now).with_reported_load(Some(load));
                balancer.on_successes(&view, index, &replies);
                let seen = std::mem::take(&mut *recorder.0.lock().unwrap());
                let id = index as u64;
                let expected = [500, 900, 650, 650]
                    .map(|latency| (id, success(latency, now).with_reported_load(Some(load))));
                assert_eq!(seen, expected, "{balancer:?}");
            }
        }
    }
}
