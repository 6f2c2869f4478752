//! The rules, one by one.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{Endpoint, Marks, Outcome, OutcomeKind, PickContext, Time, View};

const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn view(len: u64) -> View {
    View::new((0..len).map(|id| Arc::new(Endpoint::new(id))), 1)
}

fn watching(config: impl Into<HealthConfig>, len: u64) -> (Outliers, View) {
    let (outliers, view) = (Outliers::seeded(config, 1), view(len));
    outliers.note_view(&view);
    (outliers, view)
}

fn outcome(kind: OutcomeKind, now: Time) -> Outcome {
    Outcome::new(kind, Duration::ZERO).with_now(now)
}

/// So many calls in which so many fail, none in a row of five.
fn calls(outliers: &Outliers, endpoint: &Endpoint, calls: u32, failures: u32, now: Time) {
    for index in 0..calls {
        // Spread evenly.
        let fails = u64::from(index) * u64::from(failures) % u64::from(calls) < u64::from(failures);
        let kind = if fails && failures > 0 {
            OutcomeKind::Failure
        } else {
            OutcomeKind::Success
        };
        assert_eq!(outliers.on_outcome(endpoint, &outcome(kind, now)), None);
    }
}

fn ejected(view: &View) -> Vec<u64> {
    let marked = view.endpoints().iter();
    let marked = marked.filter(|one| one.marks().contains(Marks::EJECTED));
    marked.map(|one| one.id()).collect()
}

fn probe(outliers: &Outliers, view: &View, now: Time) -> Option<(usize, Probe)> {
    outliers.probe(view, &PickContext::new().with_now(now))
}

#[test]
fn what_cannot_be_reached_is_passed_over_for_twice_as_long_each_time() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    let endpoint = &view[0];
    let action = outliers.on_outcome(endpoint, &outcome(OutcomeKind::Unreachable, at(1_000)));
    assert_eq!(endpoint.marks(), Marks::UNREACHABLE);
    let Some(Action::Unreachable { probe_in, .. }) = action else {
        panic!("{action:?}");
    };
    // Others who wait for the same connection have no news.
    let again = outliers.note_unreachable(at(1_001), endpoint);
    assert_eq!(again, None);

    let (mut now, mut wait) = (at(1_000), probe_in);
    for (failures, full) in [
        (1, 100),
        (2, 200),
        (3, 400),
        (4, 800),
        (5, 1_600),
        (6, 3_200),
        (7, 6_400),
        (8, 10_000),
        (9, 10_000),
    ] {
        let full = Duration::from_millis(full);
        assert!(
            wait >= full.mul_f64(0.8) && wait <= full.mul_f64(1.2),
            "{failures}: {wait:?}"
        );
        assert_eq!(
            probe(&outliers, &view, now + (wait - Duration::from_micros(1))),
            None
        );
        now = now + wait;
        let (index, claim) = probe(&outliers, &view, now).expect("its time is over");
        assert_eq!(
            (index, probe(&outliers, &view, now)),
            (0, None),
            "one alone"
        );
        let outcome = outcome(OutcomeKind::Unreachable, now);
        let mut actions = outliers.on_probed(endpoint, &claim, &outcome);
        let Some(Action::Unreachable {
            failures: told,
            probe_in,
            ..
        }) = actions.next()
        else {
            panic!("it is told");
        };
        assert_eq!(told, failures + 1);
        wait = probe_in;
    }
    // Then it is back, and all is forgotten.
    now = now + wait;
    let (_, claim) = probe(&outliers, &view, now).expect("its time is over");
    let actions = outliers.on_probed(endpoint, &claim, &outcome(OutcomeKind::Success, now));
    assert_eq!(
        actions.collect::<Vec<_>>(),
        [Action::Reachable { endpoint: 0 }]
    );
    assert_eq!(endpoint.marks(), Marks::NONE);
    let action = outliers.note_unreachable(now, endpoint);
    assert!(
        matches!(action, Some(Action::Unreachable { failures: 1, .. })),
        "{action:?}"
    );
    let stats = outliers.stats();
    assert_eq!(
        (stats.marked_unreachable, stats.probes, stats.probes_failed),
        (2, 10, 9)
    );
}

#[test]
fn times_until_a_probe_differ() {
    let (outliers, view) = watching(HealthConfig::new(), 50);
    let mut times: Vec<Duration> = view
        .endpoints()
        .iter()
        .map(|one| match outliers.note_unreachable(at(0), one) {
            Some(Action::Unreachable { probe_in, .. }) => probe_in,
            other => panic!("{other:?}"),
        })
        .collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 50);
    assert!(
        times[49] - times[0] > Duration::from_millis(20),
        "{times:?}"
    );
}

#[test]
fn a_probe_given_up_makes_room_for_another() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    outliers.note_unreachable(at(0), &view[0]);
    let (_, claim) = probe(&outliers, &view, at(200)).expect("its time is over");
    outliers.release(&view[0], &claim, at(250));
    assert_eq!(probe(&outliers, &view, at(249)), None);
    let (_, second) = probe(&outliers, &view, at(250)).expect("another one");
    // The first was given up already.
    outliers.release(&view[0], &claim, at(250));
    assert_eq!(probe(&outliers, &view, at(260)), None);
    // One that nobody hears of any more holds the others up for a while, not for ever.
    let (_, third) = probe(&outliers, &view, at(250) + 31 * SECOND).expect("a third one");
    assert_ne!(second, third);
}

#[test]
fn probes_go_where_they_may() {
    let (outliers, view) = watching(HealthConfig::new(), 4);
    for index in [0, 1, 2] {
        outliers.note_unreachable(at(0), &view[index]);
    }
    outliers.note_draining(&view[1], true);
    let cx = PickContext::new().with_now(at(500)).with_excluded(&[0]);
    let (index, _) = outliers.probe(&view, &cx).expect("one may");
    assert_eq!(index, 2);
    assert_eq!(
        outliers.probe(&view, &cx),
        None,
        "the others are excluded and draining"
    );
}

#[test]
fn news_and_answers_make_reachable_but_reinstate_nobody() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    for kind in [OutcomeKind::Success, OutcomeKind::Overloaded] {
        outliers.note_unreachable(at(0), &view[0]);
        view[0].mark(Marks::EJECTED);
        outliers.on_outcome(&view[0], &outcome(kind, at(1)));
        let expected = match kind {
            // It was asked before, and the connection is another's.
            OutcomeKind::Overloaded => Marks::EJECTED | Marks::UNREACHABLE,
            _ => Marks::EJECTED,
        };
        assert_eq!(view[0].marks(), expected);
    }
    assert_eq!(
        outliers.note_reachable(at(2), &view[0]),
        Some(Action::Reachable { endpoint: 0 })
    );
    assert_eq!(outliers.note_reachable(at(2), &view[0]), None);
}

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
    let expected = Action::Ejected {
        endpoint: 3,
        reason: Reason::ConsecutiveFailures(5),
        times: 1,
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
    let actions: Vec<_> = outliers.on_probed(&view[3], &claim, &failed).collect();
    let expected = Action::Ejected {
        endpoint: 3,
        reason: Reason::ProbeFailed,
        times: 2,
        probe_in: 60 * SECOND,
    };
    assert_eq!(actions, [expected]);
    assert_eq!(probe(&outliers, &view, at(89_999)), None);
    let (_, claim) = probe(&outliers, &view, at(90_000)).expect("its time is over");
    let passed = outcome(OutcomeKind::Success, at(90_000));
    let actions: Vec<_> = outliers.on_probed(&view[3], &claim, &passed).collect();
    assert_eq!(actions, [Action::Reinstated { endpoint: 3 }]);
    assert_eq!(ejected(&view), [0_u64; 0]);
    // The next one is longer still: there was no quiet interval yet.
    (0..4).for_each(|_| assert_eq!(fail(at(90_001)), None));
    let action = fail(at(90_001));
    assert!(
        matches!(action, Some(Action::Ejected { times: 3, probe_in, .. }) if probe_in == 90 * SECOND),
        "{action:?}"
    );
}

#[test]
fn a_busy_probe_says_only_that_there_is_a_way() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    view[0].mark(Marks::EJECTED);
    outliers.note_unreachable(at(0), &view[0]);
    let (_, claim) = probe(&outliers, &view, at(1_000)).expect("its time is over");
    let busy = outcome(OutcomeKind::Overloaded, at(1_000)).with_retry_after(Some(SECOND / 2));
    let actions: Vec<_> = outliers.on_probed(&view[0], &claim, &busy).collect();
    assert_eq!(actions, [Action::Reachable { endpoint: 0 }]);
    assert_eq!(view[0].marks(), Marks::EJECTED);
    assert_eq!(probe(&outliers, &view, at(1_499)), None);
    assert!(probe(&outliers, &view, at(1_500)).is_some());
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
        assert_eq!(outliers.stats().spared > 0, most < len as usize);
        // One whose ejection ends makes room for one.
        if most > 0 && most < len as usize {
            let (index, claim) = probe(&outliers, &view, at(30_000)).expect("its time is over");
            let passed = outcome(OutcomeKind::Success, at(30_000));
            outliers.on_probed(&view[index], &claim, &passed);
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
                Action::Ejected {
                    reason:
                        Reason::SuccessRate {
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
            .with_failure_share(None)
            .with_success_rate(Some(SuccessRate::new().with_minimum(hosts, requests)))
    };
    let share = |hosts, requests| {
        OutlierConfig::new()
            .with_success_rate(None)
            .with_failure_share(Some(
                FailureShare::new()
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
    let share = FailureShare::new().with_percent(40);
    let config = OutlierConfig::new()
        .with_failure_share(Some(share))
        .with_ejected_percent_max(100);
    let (outliers, view) = watching(config, 5);
    for (index, failures) in [40, 41, 40, 50, 0].into_iter().enumerate() {
        calls(&outliers, &view[index], 100, failures, at(1));
    }
    let actions = outliers.sweep(at(10_000), &view);
    assert_eq!(ejected(&view), [1, 3], "more than 40 %");
    assert_eq!(outliers.stats().ejected_failure_share, 2);
    assert!(matches!(
        actions[1],
        Action::Ejected {
            reason: Reason::FailureShare { percent: 50 },
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
                Action::Ejected {
                    times, probe_in, ..
                },
            ] => (times, probe_in),
            _ => panic!("{actions:?}"),
        }
    };
    let reinstate = |now| {
        let (_, claim) = probe(&outliers, &view, now).expect("its time is over");
        outliers.on_probed(&view[0], &claim, &outcome(OutcomeKind::Success, now));
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
fn in_panic_ejections_are_not_heeded() {
    let config = OutlierConfig::new().with_ejected_percent_max(100);
    let (outliers, view) = watching(config, 4);
    let gate = Gate::new();
    let eject = |index: usize| {
        (0..5).for_each(|_| {
            outliers.on_outcome(&view[index], &outcome(OutcomeKind::Failure, at(0)));
        });
    };
    let check = |now| gate.check(&outliers, &view, now);
    assert_eq!(check(at(0)).heeded, Marks::ALL);
    eject(0);
    outliers.note_unreachable(at(0), &view[1]);
    // Half of them are well.
    let verdict = check(at(0));
    assert_eq!((verdict.heeded, verdict.action), (Marks::ALL, None));
    eject(2);
    let verdict = check(at(0));
    assert_eq!(
        verdict.action,
        Some(Action::PanicBegan { healthy: 1, of: 4 })
    );
    assert!(!verdict.heeded.contains(Marks::EJECTED));
    assert!(
        verdict
            .heeded
            .contains(Marks::UNREACHABLE | Marks::DRAINING)
    );
    assert_eq!(check(at(0)).action, None, "told once");
    assert!(gate.is_panicking());
    outliers.note_reachable(at(0), &view[1]);
    let verdict = check(at(0));
    assert_eq!(
        verdict.action,
        Some(Action::PanicEnded { healthy: 2, of: 4 })
    );
    assert_eq!(verdict.heeded, Marks::ALL);
    // Those that drain do not count: one of two is well.
    outliers.note_draining(&view[1], true);
    outliers.note_draining(&view[2], true);
    assert_eq!(check(at(0)).action, None);
    assert_eq!(outliers.stats().panics, 1);

    let off = HealthConfig::from(config).with_panic_percent(0);
    let (outliers, view) = watching(off, 2);
    view.endpoints().iter().for_each(|one| {
        one.mark(Marks::EJECTED);
    });
    outliers.note_view(&view);
    assert_eq!(
        Gate::new().check(&outliers, &view, at(0)).heeded,
        Marks::ALL
    );
}

#[test]
fn a_gate_says_when_a_probe_is_due() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    let gate = Gate::new();
    let due = |now| gate.check(&outliers, &view, now).is_probe_due;
    assert!(!due(at(0)) && !due(at(1_000_000)));
    outliers.note_unreachable(at(0), &view[0]);
    assert!(!due(at(79)) && due(at(120)));
    let (_, claim) = probe(&outliers, &view, at(120)).expect("it is due");
    assert!(!due(at(120)), "it is under way");
    outliers.on_probed(
        &view[0],
        &claim,
        &outcome(OutcomeKind::Unreachable, at(130)),
    );
    assert!(!due(at(130)) && due(at(370)));
    outliers.note_reachable(at(500), &view[0]);
    assert!(!due(at(1_000_000)));
}

#[test]
fn everything_can_be_switched_off() {
    let (outliers, view) = watching(HealthConfig::none(), 10);
    for _ in 0..200 {
        for kind in [OutcomeKind::Failure, OutcomeKind::Unreachable] {
            outliers.on_outcome(&view[0], &outcome(kind, at(0)));
        }
    }
    assert!(!outliers.claim_sweep(at(0)) && !outliers.claim_sweep(at(100_000)));
    assert_eq!(outliers.sweep(at(100_000), &view), []);
    assert_eq!(view[0].marks(), Marks::NONE);
    // That somebody drains is no opinion.
    assert_eq!(
        outliers.note_draining(&view[0], true),
        Some(Action::Draining { endpoint: 0 })
    );
    assert_eq!(outliers.note_draining(&view[0], true), None);
    assert_eq!(view[0].marks(), Marks::DRAINING);

    let calm = OutlierConfig::new()
        .with_consecutive_failures(0)
        .with_success_rate(None)
        .with_failure_share(None);
    let (outliers, view) = watching(calm, 10);
    for _ in 0..200 {
        outliers.on_outcome(&view[0], &outcome(OutcomeKind::Failure, at(0)));
        for index in 1..10 {
            outliers.on_outcome(&view[index], &outcome(OutcomeKind::Success, at(0)));
        }
    }
    assert_eq!(outliers.sweep(at(10_000), &view), []);
}

#[test]
fn who_takes_calls_again_may_start_slowly() {
    let (outliers, view) = watching(HealthConfig::new(), 10);
    outliers.note_unreachable(at(0), &view[0]);
    outliers.note_reachable(at(50), &view[0]);
    assert_eq!(view[0].ready_since(), Some(at(50)));

    outliers.note_unreachable(at(0), &view[1]);
    outliers.on_outcome(&view[1], &outcome(OutcomeKind::Success, at(60)));
    assert_eq!(view[1].ready_since(), Some(at(60)));

    (0..5).for_each(|_| {
        outliers.on_outcome(&view[2], &outcome(OutcomeKind::Failure, at(0)));
    });
    let (index, claim) = probe(&outliers, &view, at(30_000)).expect("it is due");
    assert_eq!((index, view[2].ready_since()), (2, None));
    outliers.on_probed(&view[2], &claim, &outcome(OutcomeKind::Success, at(30_010)));
    assert_eq!(view[2].ready_since(), Some(at(30_010)));
    assert_eq!(view[3].ready_since(), None, "it always did");
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
    outliers.note_view(&after);
    fail(&before[0]);
    assert_eq!(ejected(&before), [0]);
    fail(&after[0]);
    assert_eq!(ejected(&after), [], "there is room for one");
    outliers.sweep(at(10_000), &after);
    fail(&after[0]);
    assert_eq!(ejected(&after), [0]);
}

#[test]
fn panic_goes_on_in_a_group_that_changes() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    outliers.note_unreachable(at(0), &view[0]);
    outliers.note_unreachable(at(0), &view[1]);
    let gate = Gate::new();
    let began = gate.check(&outliers, &view, at(0)).action;
    assert_eq!(began, Some(Action::PanicBegan { healthy: 1, of: 3 }));
    // One more is there, and it is no better.
    let gate = Gate::following(&gate);
    assert!(gate.is_panicking());
    assert_eq!(gate.check(&outliers, &view, at(0)).action, None);
    // One goes, and it is.
    let gate = Gate::following(&gate);
    let ended = gate.check(&outliers, &view.part(&[1, 2]), at(0)).action;
    assert_eq!(ended, Some(Action::PanicEnded { healthy: 1, of: 2 }));
    assert_eq!(outliers.stats().panics, 1);
}
