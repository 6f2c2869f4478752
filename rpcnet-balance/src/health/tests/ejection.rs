//! Who fails more often than others.

use super::*;

#[test]
fn failures_in_a_row_eject_at_once_and_a_success_breaks_the_row() {
    let (outliers, view) = watching(HealthConfig::new(), 10);
    let fail = |now| outliers.on_outcome(&view[3], &outcome(OutcomeKind::Failure, now));
    for _ in 0..4 {
        assert_eq!(fail(at(0)), None);
    }
    // Too much to do is no failure, and no success.
    outliers.on_outcome(&view[3], &outcome(OutcomeKind::Overloaded, at(0)));
    outliers.on_outcome(&view[3], &outcome(OutcomeKind::Success, at(0)));
    for _ in 0..4 {
        assert_eq!(fail(at(0)), None);
    }
    outliers.on_outcome(&view[3], &outcome(OutcomeKind::Overloaded, at(0)));
    let expected = HealthChange::Ejected {
        endpoint: 3,
        reason: EjectionReason::ConsecutiveFailures(5),
        ejection_count: 1,
        probe_in: 30 * SECOND,
    };
    assert_eq!(fail(at(0)), Some(expected));
    assert_eq!(ejected(&view), [3]);
    // Calls that were under way say nothing new.
    for _ in 0..20 {
        assert_eq!(fail(at(1)), None);
        outliers.on_outcome(&view[3], &outcome(OutcomeKind::Success, at(1)));
    }
    assert_eq!(ejected(&view), [3]);

    // A failed probe makes it longer, a good one ends it.
    let (index, claim) = probe(&outliers, &view, at(30_000)).expect("its time is over");
    assert_eq!(index, 3);
    let failed = outcome(OutcomeKind::Failure, at(30_000));
    let actions: Vec<_> = outliers
        .on_probe_outcome(&view[3], &claim, &failed)
        .collect();
    let expected = HealthChange::Ejected {
        endpoint: 3,
        reason: EjectionReason::ProbeFailed,
        ejection_count: 2,
        probe_in: 60 * SECOND,
    };
    assert_eq!(actions, [expected]);
    assert_eq!(probe(&outliers, &view, at(89_999)), None);
    let (_, claim) = probe(&outliers, &view, at(90_000)).expect("its time is over");
    let passed = outcome(OutcomeKind::Success, at(90_000));
    let actions: Vec<_> = outliers
        .on_probe_outcome(&view[3], &claim, &passed)
        .collect();
    assert_eq!(actions, [HealthChange::Reinstated { endpoint: 3 }]);
    assert_eq!(ejected(&view), [0_u64; 0]);
    // The next one is longer still: there was no quiet interval yet.
    (0..4).for_each(|_| assert_eq!(fail(at(90_001)), None));
    let action = fail(at(90_001));
    assert!(
        matches!(action, Some(HealthChange::Ejected { ejection_count: 3, probe_in, .. }) if probe_in == 90 * SECOND),
        "{action:?}"
    );
}

#[test]
fn never_more_than_a_part_is_ejected_and_one_may_always_be() {
    // Endpoints, percent, and how many of them that are ejected at the most.
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
        let (outliers, view) = watching(config, len);
        for endpoint in view.endpoints() {
            for _ in 0..20 {
                outliers.on_outcome(endpoint, &outcome(OutcomeKind::Failure, at(0)));
            }
        }
        assert_eq!(ejected(&view).len(), most, "{percent} % of {len}");
        assert_eq!(outliers.stats().ejected_consecutive, most as u64);
        assert_eq!(outliers.stats().ejections_overflow > 0, most < len as usize);
        // One whose ejection ends makes room for one.
        if most > 0 && most < len as usize {
            let (index, claim) = probe(&outliers, &view, at(30_000)).expect("its time is over");
            let passed = outcome(OutcomeKind::Success, at(30_000));
            outliers.on_probe_outcome(&view[index], &claim, &passed);
            assert_eq!(ejected(&view).len(), most - 1);
            let last = &view[len as usize - 1];
            (0..5).for_each(|_| {
                outliers.on_outcome(last, &outcome(OutcomeKind::Failure, at(30_000)));
            });
            assert_eq!(ejected(&view).len(), most);
        }
    }
}

/// Successes of 100 requests each, and who is ejected.

#[test]
fn a_success_rate_far_below_the_others_ejects() {
    let same = [1, 1, 1, 1, 1, 1, 1, 1, 1];
    for (failures, others, expected) in [
        // Mean 0.95, deviation 0.15: the threshold is 0.665.
        (50, 0, vec![9]),
        // Whatever the size, one of ten alone stands three deviations off.
        (2, 0, vec![9]),
        // Nobody stands out.
        (0, 0, vec![]),
        (1, 1, vec![]),
    ] {
        let (outliers, view) = watching(HealthConfig::new(), 10);
        assert!(!outliers.claim_sweep(at(0)), "the first interval has begun");
        for index in 0..same.len() {
            calls(&outliers, &view[index], 100, others, at(1));
        }
        calls(&outliers, &view[9], 100, failures, at(1));
        assert!(!outliers.claim_sweep(at(9_999)));
        assert!(outliers.claim_sweep(at(10_000)) && !outliers.claim_sweep(at(10_000)));
        let actions = outliers.sweep(at(10_000), &view);
        assert_eq!(actions.len(), expected.len());
        assert_eq!(ejected(&view), expected, "{failures} failures");
        assert_eq!(outliers.stats().ejected_success_rate, expected.len() as u64);
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
            ] = actions[..]
            else {
                panic!("{actions:?}");
            };
            assert!((rate - 0.5).abs() < 1e-9 && (mean - 0.95).abs() < 1e-9);
            assert!(
                (threshold - (0.95 - 1.9 * 0.15)).abs() < 1e-9,
                "{threshold}"
            );
        }
        // What was counted is over.
        assert_eq!(outliers.sweep(at(20_000), &view), []);
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
        let (outliers, view) = watching(config, 10);
        for endpoint in view.endpoints() {
            let failures = if endpoint.id() == 4 { 50 } else { 0 };
            calls(&outliers, endpoint, 100, failures, at(1));
        }
        outliers.sweep(at(10_000), &view);
        assert_eq!(ejected(&view) == [4], ejects, "{config:?}");
    }
}

#[test]
fn a_large_share_of_failures_ejects_however_the_others_do() {
    let share = FailurePercentage::new().with_percent(40);
    let config = OutlierConfig::new()
        .with_failure_percentage(Some(share))
        .with_ejected_percent_max(100);
    let (outliers, view) = watching(config, 5);
    for (index, failures) in [40, 41, 40, 50, 0].into_iter().enumerate() {
        calls(&outliers, &view[index], 100, failures, at(1));
    }
    let actions = outliers.sweep(at(10_000), &view);
    assert_eq!(ejected(&view), [1, 3], "more than 40 %");
    assert_eq!(outliers.stats().ejected_failure_percentage, 2);
    assert!(matches!(
        actions[1],
        HealthChange::Ejected {
            reason: EjectionReason::FailurePercentage { percent: 50 },
            ..
        }
    ));
}

#[test]
fn ejections_grow_longer_up_to_a_limit_and_are_forgotten_in_quiet_intervals() {
    let (outliers, view) = watching(HealthConfig::new(), 10);
    let eject = |now| {
        let fail = || outliers.on_outcome(&view[0], &outcome(OutcomeKind::Failure, now));
        let actions: Vec<_> = (0..5).filter_map(|_| fail()).collect();
        match actions[..] {
            [
                HealthChange::Ejected {
                    ejection_count: times,
                    probe_in,
                    ..
                },
            ] => (times, probe_in),
            _ => panic!("{actions:?}"),
        }
    };
    let reinstate = |now| {
        let (_, claim) = probe(&outliers, &view, now).expect("its time is over");
        outliers.on_probe_outcome(&view[0], &claim, &outcome(OutcomeKind::Success, now));
    };
    let mut now = at(0);
    for times in 1..=12 {
        let expected = (30 * SECOND * times).min(300 * SECOND);
        assert_eq!(eject(now), (times, expected));
        // While it is ejected, intervals do not count.
        outliers.sweep(now, &view);
        now = now + expected;
        reinstate(now);
    }
    (0..10).for_each(|_| drop(outliers.sweep(now, &view)));
    assert_eq!(eject(now), (3, 90 * SECOND));
}

#[test]
fn ejected_ones_that_are_gone_do_not_count() {
    let (outliers, before) = watching(HealthConfig::new(), 2);
    let fail = |endpoint: &Endpoint| {
        (0..5).for_each(|_| {
            outliers.on_outcome(endpoint, &outcome(OutcomeKind::Failure, at(0)));
        });
    };
    // Its process is gone; the last of its calls end afterwards.
    let after = view(2);
    outliers.set_view(&after);
    fail(&before[0]);
    assert_eq!(ejected(&before), [0]);
    fail(&after[0]);
    assert_eq!(ejected(&after), [], "there is room for one");
    outliers.sweep(at(10_000), &after);
    fail(&after[0]);
    assert_eq!(ejected(&after), [0]);
}
