//! Tests of ejection.

use super::*;

#[test]
fn consecutive_failures_eject_at_once_and_a_success_resets_the_count() {
    let (detector, view) = watching(HealthConfig::new(), 10);
    let fail = |now| detector.on_outcome(&view[3], &outcome(OutcomeKind::Failure, now));
    for _ in 0..4 {
        assert_eq!(fail(at(0)), None);
    }
    // A rejection for lack of capacity is neither a failure nor a success.
    detector.on_outcome(&view[3], &outcome(OutcomeKind::Overloaded, at(0)));
    detector.on_outcome(&view[3], &outcome(OutcomeKind::Success, at(0)));
    for _ in 0..4 {
        assert_eq!(fail(at(0)), None);
    }
    detector.on_outcome(&view[3], &outcome(OutcomeKind::Overloaded, at(0)));
    let expected = HealthChange::Ejected {
        endpoint: 3,
        reason: EjectionReason::ConsecutiveFailures(5),
        ejection_count: 1,
        probe_in: 30 * SECOND,
    };
    assert_eq!(fail(at(0)), Some(expected));
    assert_eq!(ejected(&view), [3]);
    // Calls that were in flight show nothing new.
    for _ in 0..20 {
        assert_eq!(fail(at(1)), None);
        detector.on_outcome(&view[3], &outcome(OutcomeKind::Success, at(1)));
    }
    assert_eq!(ejected(&view), [3]);

    // A failed probe makes the ejection longer, a successful one ends it.
    let (index, claim) = probe(&detector, &view, at(30_000)).expect("a due probe");
    assert_eq!(index, 3);
    let failed = outcome(OutcomeKind::Failure, at(30_000));
    let changes: Vec<_> = detector
        .on_probe_outcome(&view[3], &claim, &failed)
        .collect();
    let expected = HealthChange::Ejected {
        endpoint: 3,
        reason: EjectionReason::ProbeFailed,
        ejection_count: 2,
        probe_in: 60 * SECOND,
    };
    assert_eq!(changes, [expected]);
    assert_eq!(probe(&detector, &view, at(89_999)), None);
    let (_, claim) = probe(&detector, &view, at(90_000)).expect("a due probe");
    let passed = outcome(OutcomeKind::Success, at(90_000));
    let changes: Vec<_> = detector
        .on_probe_outcome(&view[3], &claim, &passed)
        .collect();
    assert_eq!(changes, [HealthChange::Unejected { endpoint: 3 }]);
    assert_eq!(ejected(&view), [0_u64; 0]);
    // The next ejection is longer still: there was no quiet interval yet.
    (0..4).for_each(|_| assert_eq!(fail(at(90_001)), None));
    let change = fail(at(90_001));
    assert!(
        matches!(
            change,
            Some(HealthChange::Ejected { ejection_count: 3, probe_in, .. })
                if probe_in == 90 * SECOND
        ),
        "{change:?}"
    );
}

#[test]
fn the_number_of_ejected_endpoints_is_limited_but_at_least_one() {
    // Endpoints, percentage, and the maximum number of ejected endpoints.
    for (len, percent, most) in [
        (1, 10, 0),
        (2, 10, 1),
        (9, 10, 1),
        (19, 10, 1),
        (20, 10, 2),
        (29, 10, 2),
        (100, 10, 10),
        (4, 50, 2),
        (3, 100, 3),
        (3, 0, 0),
    ] {
        let config = OutlierConfig::new().with_ejected_percent_max(percent);
        let (detector, view) = watching(config, len);
        for endpoint in view.endpoints() {
            for _ in 0..20 {
                detector.on_outcome(endpoint, &outcome(OutcomeKind::Failure, at(0)));
            }
        }
        assert_eq!(ejected(&view).len(), most, "{percent} % of {len}");
        assert_eq!(detector.stats().ejected_consecutive, most as u64);
        assert_eq!(detector.stats().ejections_overflow > 0, most < len as usize);
        // An endpoint whose ejection ends makes room for one.
        if most > 0 && most < len as usize {
            let (index, claim) = probe(&detector, &view, at(30_000)).expect("a due probe");
            let passed = outcome(OutcomeKind::Success, at(30_000));
            detector.on_probe_outcome(&view[index], &claim, &passed);
            assert_eq!(ejected(&view).len(), most - 1);
            let last = &view[len as usize - 1];
            (0..5).for_each(|_| {
                detector.on_outcome(last, &outcome(OutcomeKind::Failure, at(30_000)));
            });
            assert_eq!(ejected(&view).len(), most);
        }
    }
}

#[test]
fn a_low_success_rate_ejects() {
    let same = [1, 1, 1, 1, 1, 1, 1, 1, 1];
    for (failures, others, expected) in [
        // Mean 0.95, deviation 0.15: the threshold is 0.665.
        (50, 0, vec![9]),
        // Whatever the size, one of ten alone is three deviations off.
        (2, 0, vec![9]),
        // There is no outlier.
        (0, 0, vec![]),
        (1, 1, vec![]),
    ] {
        let (detector, view) = watching(HealthConfig::new(), 10);
        assert!(!detector.claim_sweep(at(0)), "the first interval has begun");
        for index in 0..same.len() {
            calls(&detector, &view[index], 100, others, at(1));
        }
        calls(&detector, &view[9], 100, failures, at(1));
        assert!(!detector.claim_sweep(at(9_999)));
        assert!(detector.claim_sweep(at(10_000)) && !detector.claim_sweep(at(10_000)));
        let changes = detector.sweep(at(10_000), &view);
        assert_eq!(changes.len(), expected.len());
        assert_eq!(ejected(&view), expected, "{failures} failures");
        assert_eq!(detector.stats().ejected_success_rate, expected.len() as u64);
        if failures == 50 {
            let [
                HealthChange::Ejected {
                    reason:
                        EjectionReason::SuccessRate {
                            rate,
                            mean,
                            threshold,
                        },
                    ..
                },
            ] = changes[..]
            else {
                panic!("{changes:?}");
            };
            assert!((rate - 0.5).abs() < 1e-9 && (mean - 0.95).abs() < 1e-9);
            assert!(
                (threshold - (0.95 - 1.9 * 0.15)).abs() < 1e-9,
                "{threshold}"
            );
        }
        // The counts were reset.
        assert_eq!(detector.sweep(at(20_000), &view), []);
    }
}

#[test]
fn too_few_hosts_or_requests_are_not_compared() {
    let rate = |hosts, requests| {
        OutlierConfig::new()
            .with_failure_percentage(None)
            .with_success_rate(Some(SuccessRate::new().with_minimum(hosts, requests)))
    };
    let share = |hosts, requests| {
        OutlierConfig::new()
            .with_success_rate(None)
            .with_failure_percentage(Some(
                FailurePercentage::new()
                    .with_percent(40)
                    .with_minimum(hosts, requests),
            ))
    };
    for (config, ejects) in [
        (rate(10, 100), true),
        (rate(11, 100), false),
        (rate(10, 101), false),
        (share(10, 100), true),
        (share(11, 100), false),
        (share(10, 101), false),
    ] {
        let (detector, view) = watching(config, 10);
        for endpoint in view.endpoints() {
            let failures = if endpoint.id() == 4 { 50 } else { 0 };
            calls(&detector, endpoint, 100, failures, at(1));
        }
        detector.sweep(at(10_000), &view);
        assert_eq!(ejected(&view) == [4], ejects, "{config:?}");
    }
}

#[test]
fn a_high_failure_percentage_ejects() {
    let share = FailurePercentage::new().with_percent(40);
    let config = OutlierConfig::new()
        .with_failure_percentage(Some(share))
        .with_ejected_percent_max(100);
    let (detector, view) = watching(config, 5);
    for (index, failures) in [40, 41, 40, 50, 0].into_iter().enumerate() {
        calls(&detector, &view[index], 100, failures, at(1));
    }
    let changes = detector.sweep(at(10_000), &view);
    assert_eq!(ejected(&view), [1, 3], "more than 40 %");
    assert_eq!(detector.stats().ejected_failure_percentage, 2);
    assert!(matches!(
        changes[1],
        HealthChange::Ejected {
            reason: EjectionReason::FailurePercentage { percent: 50 },
            ..
        }
    ));
}

#[test]
fn ejections_grow_longer_up_to_a_maximum_and_shorter_in_quiet_intervals() {
    let (detector, view) = watching(HealthConfig::new(), 10);
    let eject = |now| {
        let fail = || detector.on_outcome(&view[0], &outcome(OutcomeKind::Failure, now));
        let changes: Vec<_> = (0..5).filter_map(|_| fail()).collect();
        match changes[..] {
            [
                HealthChange::Ejected {
                    ejection_count: times,
                    probe_in,
                    ..
                },
            ] => (times, probe_in),
            _ => panic!("{changes:?}"),
        }
    };
    let uneject = |now| {
        let (_, claim) = probe(&detector, &view, now).expect("a due probe");
        detector.on_probe_outcome(&view[0], &claim, &outcome(OutcomeKind::Success, now));
    };
    let mut now = at(0);
    for times in 1..=12 {
        let expected = (30 * SECOND * times).min(300 * SECOND);
        assert_eq!(eject(now), (times, expected));
        // While it is ejected, intervals do not count.
        detector.sweep(now, &view);
        now = now + expected;
        uneject(now);
    }
    (0..10).for_each(|_| drop(detector.sweep(now, &view)));
    assert_eq!(eject(now), (3, 90 * SECOND));
}

#[test]
fn ejected_endpoints_that_are_gone_do_not_count() {
    let (detector, before) = watching(HealthConfig::new(), 2);
    let fail = |endpoint: &Endpoint| {
        (0..5).for_each(|_| {
            detector.on_outcome(endpoint, &outcome(OutcomeKind::Failure, at(0)));
        });
    };
    // Its process is gone; the last of its calls end afterwards.
    let after = view(2);
    detector.set_view(&after);
    fail(&before[0]);
    assert_eq!(ejected(&before), [0]);
    fail(&after[0]);
    assert_eq!(ejected(&after), [], "there is room for one");
    detector.sweep(at(10_000), &after);
    fail(&after[0]);
    assert_eq!(ejected(&after), [0]);
}
