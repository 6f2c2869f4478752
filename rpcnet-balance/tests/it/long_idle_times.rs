//! Properties of state that remembers a time, over weeks: no word wraps around, no idle time is too
//! long.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use rpcnet_balance::{
    BackoffRange, Balancer, Endpoint, ExclusionFlags, LatencyQuantiles, Outcome, OutcomeKind,
    PeakEwma, PickContext, Random, ReportedLoad, RetryBudget, SlowStart, Time, View,
    health::{GroupHealth, HealthConfig, OutlierDetector},
};

/// From a second to years, and to the places where words of up to 50 bits of nanoseconds would wrap
/// around.
fn long() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (9.0..17.0_f64).prop_map(|log| 10_f64.powf(log) as u64),
        (31..58_u32, 0..2_000_000_u64).prop_map(|(bits, more)| (1 << bits) - 1_000_000 + more),
    ]
    .prop_map(Duration::from_nanos)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn view() -> View {
    View::new((0..2).map(|id| Arc::new(Endpoint::new(id))), 1)
}

proptest! {
    #[test]
    fn a_backoff_lasts_its_duration(start in long(), quiet in long()) {
        let (balancer, view) = (PeakEwma::seeded(1), view());
        let fail = |now: Time| {
            let outcome = Outcome::new(OutcomeKind::Failure, ms(1)).with_now(now);
            balancer.on_outcome(&view, 0, &outcome);
        };
        let mut now = Time::from(start);
        // Consecutive failures: each is the first call after the backoff of the one before.
        for hold in [100, 400, 1600, 6400, 25_600, 30_000, 30_000] {
            fail(now);
            prop_assert!(view[0].in_backoff(now + ms(hold - 1)));
            prop_assert!(!view[0].in_backoff(now + ms(hold + 1)));
            prop_assert!(!view[0].in_backoff(now + ms(hold) + quiet), "after a quiet");
            now = now + ms(hold) + quiet.min(Duration::from_secs(1 << 20));
        }
    }

    #[test]
    fn a_report_is_valid_for_a_second(start in long(), quiet in long()) {
        let endpoint = Endpoint::new(1);
        let now = Time::from(start);
        endpoint.set_reported_load_at(ReportedLoad::new().with_busy(true), now);
        prop_assert!(endpoint.is_busy(now + ms(999)));
        let later = now + ms(1001) + quiet;
        prop_assert!(!endpoint.is_busy(later) && endpoint.recent_reported_load(later).is_none());
    }

    #[test]
    fn silence_is_that_of_the_calls_in_flight(start in long(), quiet in long()) {
        let endpoint = Arc::new(Endpoint::new(1));
        let now = Time::from(start);
        drop(endpoint.begin_at(now));
        let later = now + quiet;
        let _call = endpoint.begin_at(later);
        prop_assert_eq!(endpoint.silence(later + ms(50)), ms(50));
        prop_assert_eq!(endpoint.silence(later + ms(10_001) + quiet), Duration::ZERO);
    }

    #[test]
    fn a_retry_budget_fills_at_its_rate_up_to_its_capacity(start in long(), quiet in long()) {
        let budget = RetryBudget::new().with_cap(50.0).with_reserve_per_s(10.0);
        let now = Time::from(start);
        while budget.withdraw(now) {}
        let level = budget.level(now + quiet);
        let expected = (10.0 * quiet.as_secs_f64()).min(50.0);
        prop_assert!((level - expected).abs() <= 1.0 + 1e-6 * expected, "{level} of {expected}");
    }

    #[test]
    fn quantiles_are_of_the_last_windows(start in long(), quiet in long()) {
        let latencies = LatencyQuantiles::new();
        let now = Time::from(start);
        latencies.record(now, Duration::from_secs(2));
        prop_assert!(latencies.quantile(now + ms(9_999), 0.5) >= Some(Duration::from_secs(2)));
        let later = now + ms(15_000) + quiet;
        prop_assert_eq!(latencies.quantile(later, 0.5), None);
        latencies.record(later, ms(1));
        prop_assert!(latencies.quantile(later, 1.0) < Some(ms(2)));
        prop_assert_eq!(latencies.len(later), 1);
    }

    #[test]
    fn a_flagged_endpoint_is_probed_after_any_idle_time(
        start in long(), quiet in long(), ejected in any::<bool>(),
    ) {
        let (detector, view) = (OutlierDetector::seeded(HealthConfig::new(), 7), view());
        detector.set_view(&view);
        let mut group = GroupHealth::new();
        let now = Time::from(start);
        let kind = if ejected { OutcomeKind::Failure } else { OutcomeKind::Unreachable };
        for _ in 0..5 {
            detector.on_outcome(&view[0], &Outcome::new(kind, ms(1)).with_now(now));
        }
        prop_assert!(!view[0].flags().is_empty());
        prop_assert!(!group.check(&detector, &view, now + ms(50)).is_probe_due);
        // A new view makes a new group health.
        group = GroupHealth::following(&group);
        let later = now + ms(30_001) + quiet;
        prop_assert!(group.check(&detector, &view, later).is_probe_due);
        let cx = PickContext::new().with_now(later);
        let (index, probe) = detector.probe(&view, &cx).expect("a due probe");
        prop_assert!(detector.probe(&view, &cx).is_none(), "one alone");
        let answer = Outcome::new(OutcomeKind::Success, ms(1)).with_now(later);
        prop_assert_eq!(detector.on_probe_outcome(&view[index], &probe, &answer).count(), 1);
        prop_assert_eq!(view[0].flags(), ExclusionFlags::NONE);
    }

    #[test]
    fn a_probe_without_an_outcome_blocks_others_for_its_lease(start in long(), quiet in long()) {
        let (detector, view) = (OutlierDetector::seeded(HealthConfig::new(), 7), view());
        let now = Time::from(start);
        detector.on_outcome(&view[0], &Outcome::new(OutcomeKind::Unreachable, ms(1)).with_now(now));
        let cx = |at: Time| PickContext::new().with_now(at);
        let later = now + ms(200) + quiet;
        prop_assert!(detector.probe(&view, &cx(later)).is_some());
        prop_assert!(detector.probe(&view, &cx(later + ms(9_000))).is_none());
        prop_assert!(detector.probe(&view, &cx(later + ms(10_001) + quiet)).is_some());
    }

    #[test]
    fn a_new_endpoint_gets_its_share_after_any_idle_time(start in long(), quiet in long()) {
        let first = View::new([Arc::new(Endpoint::new(0))], 1);
        let slow = SlowStart::new(Arc::new(Random::seeded(3)), Duration::from_secs(10));
        let slow = slow.rebuild(&first).expect("a balancer");
        let both = View::new([Arc::clone(&first[0]), Arc::new(Endpoint::new(1))], 2);
        let slow = slow.rebuild(&both).expect("a balancer");
        let now = Time::from(start);
        let share = |at: Time| {
            let cx = PickContext::new().with_now(at);
            (0..400).filter(|_| slow.pick(&both, &cx) == Some(1)).count()
        };
        prop_assert!(share(now) < 80);
        prop_assert!((120..280).contains(&share(now + Duration::from_secs(10) + quiet)));
    }
}

#[test]
fn extreme_times_do_not_overflow() {
    let config =
        HealthConfig::new().with_unreachable_backoff(BackoffRange::constant(Duration::MAX));
    let (detector, view) = (OutlierDetector::seeded(config, 7), view());
    for now in [1, u64::MAX].repeat(20).into_iter().map(Time::from_nanos) {
        let outcome = Outcome::new(OutcomeKind::Unreachable, Duration::MAX).with_now(now);
        assert!(detector.on_outcome(&view[0], &outcome).is_some());
        view[0].clear_flags(ExclusionFlags::ALL);
    }
}
